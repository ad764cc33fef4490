"""Commands for a search on more than one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sersearch.terminal.arguments import StoreOption
from sersearch.terminal.screen import Screen


def check_cluster(
    address: Annotated[str, typer.Option(help="The Ray cluster, as HEAD:6379, or 'auto' on one of its nodes.")],
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="A run's folder, there or new.")] = None,
    store: StoreOption = None,
    gpus: Annotated[bool, typer.Option("--gpus", help="Trials are to be trained on GPUs.")] = False,
) -> None:
    """Check each node of a Ray cluster: versions, processor, GPUs, and whether it sees the run and the store.

    Example: [bold]sersearch cluster check --address auto --run runs/smoke --store stores/ravdess[/bold]
    """
    from sersearch.search.check import check_cluster
    from sersearch.terminal.cluster import print_check

    findings = check_cluster(address, run, store, gpus)
    print_check(findings, Screen())
    if any(finding.fault or finding.gpu_fault for finding in findings):
        raise typer.Exit(1)

"""Which machine trained what, where there was more than one."""

from __future__ import annotations

from collections.abc import Iterable

from sersearch.report.cells import Sheet
from sersearch.run.ledger import Result

COLUMNS = ("machine", "device", "torch", "trials", "hours")

NOTE = "A trial has the same bits on devices of one kind, with one version of torch."


def machines(results: Iterable[Result]) -> Sheet:
    """A table of the machines that trained some results; it has no rows if one machine trained all."""
    by_machine: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        device, torch = result.environment.get("device", "–"), result.environment.get("torch", "–")
        by_machine.setdefault((result.host or "–", device, torch), []).append(result)
    rows = tuple(
        (*machine, f"{len(trained)}", f"{sum(result.seconds for result in trained) / 3600:.2f}")
        for machine, trained in sorted(by_machine.items())
    )
    return Sheet("machines", "Machines", COLUMNS, rows if len(rows) > 1 else (), (NOTE,))

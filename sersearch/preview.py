"""A plan as a person sees it: one line a configuration, grouped by space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from sersearch.plan import FRAMES_A_SECOND, Plan, PlannedSpace, PlannedTrial
from sersearch.progress import describe
from sersearch.space import KERNELS


def print_plan(plan: Plan, console: Console) -> None:
    """Every configuration of each space, what is marked, and the totals."""
    for planned in plan.spaces:
        console.print(f"\n{planned.space.name}: {planned.statement}", style="bold", highlight=False, soft_wrap=True)
        own = [trial for trial in plan.trials if trial.spaces[0] == planned.space.name]
        elsewhere = sum(planned.space.name in trial.spaces[1:] for trial in plan.trials)
        if own:
            console.print(_table(planned, own))
        if elsewhere:
            console.print(f"{elsewhere} more trials of it are listed above", highlight=False)
    totals = plan.totals()
    assumed = "" if plan.data.digest else " (no store is named, so keys are not settled)"
    console.print(f"\ndata: {plan.data.source}{assumed}", highlight=False, soft_wrap=True)
    waiting = f", {totals['waiting']} of them at most once others are done" if totals["waiting"] else ""
    console.print(
        f"{totals['trials']} trials{waiting}; {totals['done']} done, {totals['left']} left; "
        f"{totals['infeasible']} infeasible, not counted; {totals['shrunk']} with a shrunk pooling window",
        highlight=False,
        soft_wrap=True,
    )


def _table(planned: PlannedSpace, trials: Sequence[PlannedTrial]) -> Table:
    table = Table("configuration", "maps after layers", "vector", "CNN", "BLSTM", "MLP", "M/s", "MB", "", box=None)
    for column in table.columns[2:8]:
        column.justify = "right"
    for column in table.columns[:8]:
        column.no_wrap = True
    for _, group in groupby(trials, key=lambda trial: trial.trial.configuration):
        table.add_row(*_row(planned, list(group)))
    return table


def _row(planned: PlannedSpace, seeds: Sequence[PlannedTrial]) -> Iterator[str]:
    first = seeds[0]
    configuration, counted, work = first.trial.configuration, first.parameters, first.multiply_adds
    varied = [
        f"{name} {getattr(configuration, name)}"
        for name, found in planned.space.ranges.items()
        if name not in ("model", "features", *KERNELS) and len(found.choices) > 1
    ]
    kernels = " ".join(f"{h}x{w}" for h, w in configuration.kernels) or describe(configuration)
    yield ", ".join([kernels if len(planned.space.ranges["model"].choices) == 1 else describe(configuration), *varied])
    yield " ".join("x".join(map(str, layer.pooled)) for layer in first.shapes.layers)
    if counted is None or work is None or first.memory_bytes is None:
        yield from ("-",) * 6
        yield f"infeasible: {first.shapes.reason}"
        return
    yield str(first.shapes.vector)
    yield from (f"{count:,}" for count in (counted.cnn, counted.blstm, counted.mlp))
    yield f"{FRAMES_A_SECOND * (work.cnn + work.blstm) / 1e6:.0f}"
    yield f"{first.memory_bytes / 1e6:.0f}"
    yield ", ".join(_marks(seeds))


def _marks(seeds: Sequence[PlannedTrial]) -> Iterator[str]:
    if seeds[0].shapes.shrunk:
        yield "shrunk"
    done = sum(planned.done for planned in seeds)
    if done:
        yield "done" if done == len(seeds) else f"{done} of {len(seeds)} seeds done"

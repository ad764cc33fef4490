"""A plan as a table: one row per configuration, grouped by space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from sersearch.planning.forecast import Forecast
from sersearch.planning.plan import FRAMES_PER_SECOND, Plan, PlannedSpace, PlannedTrial, epochs_assumed
from sersearch.planning.power import DesignPower
from sersearch.study.configuration import Configuration
from sersearch.terminal.live import clock


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
    assumed = "" if plan.data.identity.fingerprint else " (no store is named, so keys are not settled)"
    console.print(
        "\nCNN, BLSTM, MLP: trained parameters; MMAC/s: million multiply-adds per second of speech, forward; "
        "MB: memory of a minibatch in training",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"epochs assumed: {_epochs(plan)}", highlight=False, soft_wrap=True)
    console.print(f"data: {plan.data.source}{assumed}", highlight=False, soft_wrap=True)
    waiting = f", {totals['waiting']} of them at most once others are done" if totals["waiting"] else ""
    console.print(
        f"{totals['trials']} trials{waiting}; {totals['done']} done, {totals['left']} left; "
        f"{totals['infeasible']} infeasible, not counted; {totals['shrunk']} with a shrunk pooling window",
        highlight=False,
        soft_wrap=True,
    )
    if plan.power:
        _print_power(plan.power, console)


def _print_power(power: DesignPower, console: Console) -> None:
    """What the leaderboard can show, and warnings where it can show nothing."""
    console.print()
    for statement in power.statements:
        console.print(statement, highlight=False, markup=False, soft_wrap=True)
    for warning in power.warnings:
        console.print(f"warning: {warning}", style="bold", highlight=False, markup=False, soft_wrap=True)


def _epochs(plan: Plan) -> str:
    """Most studies have one limit and one patience; where they vary, their ends."""
    configurations = [planned.trial.configuration for planned in plan.trials]
    in_epochs = [configuration for configuration in configurations if configuration.step_limits[1] > 1]
    if not in_epochs:
        return "none"
    limits = [configuration.step_limits for configuration in in_epochs]
    assumed = sorted({epochs_assumed(configuration, plan.epochs) for configuration in in_epochs})
    words = " to ".join(map(str, dict.fromkeys((assumed[0], assumed[-1]))))
    return f"{words} per trial (at least {min(low for low, _ in limits)}, at most {max(high for _, high in limits)})"


def print_forecast(forecast: Forecast, console: Console) -> None:
    """When all is done, as an interval, and what that rests on."""
    for name, found in (("wall time", forecast.wall), ("device time", forecast.device)):
        console.print(
            f"{name} with {forecast.parallel} at a time: {clock(found.middle)}, "
            f"90 % between {clock(found.low)} and {clock(found.high)}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"assumed: {'; '.join(forecast.assumptions)}", highlight=False, soft_wrap=True)


def _table(planned: PlannedSpace, trials: Sequence[PlannedTrial]) -> Table:
    table = Table(
        "configuration",
        "maps after layers",
        "vector",
        "CNN",
        "BLSTM",
        "MLP",
        "MMAC/s",
        "MB",
        "",
        box=None,
        pad_edge=False,
    )
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
    yield _name(planned, configuration)
    yield " ".join("x".join(map(str, layer.pooled)) for layer in first.shapes.layers)
    if counted is None or work is None or first.memory_bytes is None:
        yield from ("-",) * 6
        yield ", ".join(_marks(seeds)) if first.shapes.feasible else f"infeasible: {first.shapes.reason}"
        return
    yield str(first.shapes.vector)
    yield from (f"{count:,}" for count in (counted.cnn, counted.blstm, counted.mlp))
    yield f"{FRAMES_PER_SECOND * (work.cnn + work.blstm) / 1e6:.0f}"
    yield f"{first.memory_bytes / 1e6:.0f}"
    yield ", ".join(_marks(seeds))


def _name(planned: PlannedSpace, configuration: Configuration) -> str:
    """What tells a configuration from others of its space."""
    ranges = planned.space.ranges
    kernels = " ".join(f"{h}x{w}" for h, w in configuration.kernels)
    if not kernels or len(ranges["model"].choices) > 1:
        kernels = configuration.description
    settings = configuration.record()
    varied = [
        f"{name} {settings[name]}"
        for name, values in ranges.items()
        if len(values.choices) > 1 and name not in configuration.described
    ]
    return ", ".join([kernels, *varied])


def _marks(seeds: Sequence[PlannedTrial]) -> Iterator[str]:
    if seeds[0].shapes.shrunk:
        yield "shrunk"
    done = sum(planned.done for planned in seeds)
    if done:
        several = "speakers" if seeds[0].trial.fold.name else "seeds"
        yield "done" if done == len(seeds) else f"{done} of {len(seeds)} {several} done"

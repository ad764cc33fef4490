"""A plan as a table: one row per configuration, grouped by space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from sersearch.planning.forecast import Forecast
from sersearch.planning.plan import FRAMES_PER_SECOND, Plan, PlannedSpace, PlannedTrial, epochs_assumed
from sersearch.planning.power import DesignPower
from sersearch.run.suggestions import WINDOW_PER_SLOT
from sersearch.study.configuration import Configuration
from sersearch.study.configuration.base import CUDA_CONTEXT_BYTES
from sersearch.terminal.live import clock, parts_of
from sersearch.terminal.screen import Screen

WIDE = 100
"""Columns that the whole table takes, but for very long names."""


def print_plan(plan: Plan, console: Screen, wide: bool = False) -> None:
    """The totals and the speakers, then every configuration of each space and what is marked.

    Args:
        plan: what is planned.
        console: where it is printed.
        wide: whether the table has the shapes and each module's parameters, which take 100 columns.
    """
    for line in _head(plan):
        console.say(line)
    if plan.power:
        console.print()
        _print_power(plan.power, console)
    for planned in plan.spaces:
        console.print()
        console.say(f"{planned.space.name}: {planned.statement}", "bold")
        own = [trial for trial in plan.trials if trial.spaces[0] == planned.space.name]
        elsewhere = sum(planned.space.name in trial.spaces[1:] for trial in plan.trials)
        if own:
            console.print(_table(planned, own, wide))
        if elsewhere:
            console.say(f"{elsewhere} more trials of it are listed above")
    console.print()
    console.say(_legend(wide))


def _head(plan: Plan) -> Iterator[str]:
    totals = plan.totals()
    waiting = f" ({totals['waiting']} of them at most, once others are done)" if totals["waiting"] else ""
    yield f"{plan.study.name}: {totals['trials']} trials{waiting}: {totals['done']} done, {totals['left']} left"
    if totals["left"]:
        yield _at_a_time(plan)
    yield from _gpus(plan)
    bound = bool(plan.data.identity.fingerprint)
    yield f"data: {plan.data.source}{'' if bound else ' (no store is named, so keys are not settled)'}"
    if bound:
        yield from parts_of(plan.study, plan.data.identity)
    if plan.data.split:
        yield f"split: {'; '.join(plan.data.split)}"
    if epochs := _epochs(plan):
        yield f"epochs assumed: {epochs}"
    if totals["infeasible"]:
        yield f"{totals['infeasible']} configurations can't be built and are not counted"
    if totals["shrunk"]:
        yield f"{totals['shrunk']} trials have a shrunk pooling window"


def _at_a_time(plan: Plan) -> str:
    """How many trials at a time the study can use."""
    if plan.at_a_time is not None:
        return f"at a time: at most {plan.at_a_time} trial{'s' * (plan.at_a_time != 1)}"
    return (
        "at a time: as many trials as fit on the cluster of the first launch; each sampled space then has a window of "
        f"{WINDOW_PER_SLOT} x as many, on record"
    )


def _gpus(plan: Plan) -> Iterator[str]:
    """Which trials take GPUs, and how much memory of them; nothing where the study gives none."""
    if True not in plan.study.devices:
        return
    left, share = plan.left_by_kind(), plan.study.resources.gpus
    on_gpus, others = ("1 trial left that takes" if n == 1 else f"{n} trials left that take" for n in left.values())
    beside = f"; {others} none, on the cores beside them" if left[False] else ""
    yield f"GPUs: {on_gpus} {share:g} or more each{beside}"
    if plan.gpu_bytes:
        amounts = dict.fromkeys(f"{bytes / 1e9:.1f}" for bytes in plan.gpu_bytes)
        assumed = "" if plan.data.identity.fingerprint else ", assumed"
        yield (
            f"memory of a GPU: {' to '.join(amounts)} GB per trial, estimated: CUDA {CUDA_CONTEXT_BYTES / 1e9:.1f} GB, "
            "the frames of its fold, and a minibatch of the longest utterances "
            f"({plan.data.longest_frames / FRAMES_PER_SECOND:.1f} s{assumed})"
        )


def _legend(wide: bool) -> str:
    counted = "CNN, BLSTM, MLP: trained parameters" if wide else "parameters: trained ones (by module with --wide)"
    return (
        f"{counted}; MMAC/s: million multiply-adds per second of speech, forward; MB: memory of a minibatch in training"
    )


def _print_power(power: DesignPower, console: Screen) -> None:
    """What the leaderboard can show, and warnings where it can show nothing."""
    for statement in power.statements:
        console.say(statement)
    for warning in power.warnings:
        console.say(f"warning: {warning}", "bold")


def _epochs(plan: Plan) -> str:
    """Most studies have one limit and one patience; where they vary, their ends; nothing where there are no epochs."""
    configurations = [planned.trial.configuration for planned in plan.trials]
    in_epochs = [configuration for configuration in configurations if configuration.step_limits[1] > 1]
    if not in_epochs:
        return ""
    utterances = plan.data.train_utterances
    limits = [configuration.limits_on(utterances) for configuration in in_epochs]
    assumed = sorted({epochs_assumed(configuration, utterances, plan.epochs) for configuration in in_epochs})
    words = " to ".join(map(str, dict.fromkeys((assumed[0], assumed[-1]))))
    return f"{words} per trial (at least {min(low for low, _ in limits)}, at most {max(high for _, high in limits)})"


def print_forecast(forecast: Forecast, console: Screen) -> None:
    """When all is done, as an interval, and what that rests on."""
    on_gpus = "" if forecast.on_gpus is None else f" ({forecast.on_gpus} of them on GPUs)"
    for name, found in (("wall time", forecast.wall), ("device time", forecast.device)):
        console.say(
            f"{name} with {forecast.parallel} at a time{on_gpus}: {clock(found.middle)}, "
            f"80 % between {clock(found.low)} and {clock(found.high)}",
        )
    console.say(f"assumed: {'; '.join(forecast.assumptions)}")


def _table(planned: PlannedSpace, trials: Sequence[PlannedTrial], wide: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("configuration", no_wrap=wide)
    if wide:
        table.add_column("maps after layers", no_wrap=True)
    numbers: tuple[str, ...] = (
        ("vector", "CNN", "BLSTM", "MLP", "MMAC/s", "MB") if wide else ("parameters", "MMAC/s", "MB")
    )
    if not any(trial.parameters for trial in trials):
        numbers = ()
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for _, group in groupby(trials, key=lambda trial: trial.trial.configuration):
        row = list(_row(planned, list(group), wide))
        table.add_row(*(row if numbers else [*row[: 1 + wide], row[-1]]))
    return table


def _row(planned: PlannedSpace, seeds: Sequence[PlannedTrial], wide: bool) -> Iterator[str]:
    first = seeds[0]
    configuration, counted, work = first.trial.configuration, first.parameters, first.multiply_adds
    yield _name(planned, configuration)
    if wide:
        yield " ".join("x".join(map(str, layer.pooled)) for layer in first.shapes.layers)
    if counted is None or work is None or first.memory_bytes is None:
        yield from ("-",) * (6 if wide else 3)
        yield ", ".join(_marks(seeds)) if first.shapes.feasible else f"infeasible: {first.shapes.reason}"
        return
    if wide:
        yield str(first.shapes.vector)
    of_modules = (counted.cnn, counted.blstm, counted.mlp) if wide else (counted.total,)
    yield from (f"{count:,}" for count in of_modules)
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
        several = "folds" if seeds[0].trial.fold.name else "seeds"
        yield "done" if done == len(seeds) else f"{done} of {len(seeds)} {several} done"

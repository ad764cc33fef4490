"""The report's figures through matplotlib, as PDF, PNG and SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sersearch.evaluation.probe.findings import Attribute, Findings, ProbedModule, ProbedWinner
from sersearch.report.captions import CHANCE
from sersearch.report.cells import file_name, percent
from sersearch.report.comparison import Robustness
from sersearch.report.evidence import Slice
from sersearch.report.facts import Facts, Row, Sweep
from sersearch.report.landscape import Landscape, Size, landscape
from sersearch.report.modules import HEADINGS, classes, label_places, pictured, spread, title
from sersearch.report.paper import PEAK_H1, PEAK_TEST_UA
from sersearch.statistics.intervals import Interval
from sersearch.study.conditions import Condition

FORMATS = ("pdf", "png", "svg")

# Maps of more columns stand one above the other.
SIDE_BY_SIDE = 12

# Okabe & Ito 2008, "Color Universal Design": told apart with any colour vision, and by marker without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sersearch",
    "text.parse_math": False,
    # TrueType: publishers refuse matplotlib's usual Type 3.
    "pdf.fonttype": 42,
    "image.cmap": "cividis",
}

# Characters that XML has no way to write.
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")

Draw = Callable[[Figure], object]


def figures(facts: Facts) -> Iterator[tuple[str, bytes]]:
    """Write everything that `draw` draws.

    Yields:
        A file's name, with its ending, and its content.
    """
    for file, figure in draw(facts):
        with rc_context(_STYLE):
            # Laid out once for all formats, because that takes longest.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            for form in FORMATS:
                sink = io.BytesIO()
                undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
                figure.savefig(sink, format=form, dpi=160, metadata=undated)
                content = sink.getvalue()
                yield f"{file}.{form}", _CONTROL_CHARACTERS.sub(b"?", content) if form == "svg" else content


def draw(facts: Facts) -> Iterator[tuple[str, Figure]]:
    """Draw everything; an unfinished run's figures say so.

    Yields:
        A figure's name, without an ending, and the figure.
    """
    for name, size, fill in _drawings(facts):
        with rc_context(_STYLE):
            figure = Figure(figsize=size, layout="constrained")
            fill(figure)
            if facts.state:
                figure.supxlabel(facts.state.replace(" Exploratory:", "\nExploratory:"), fontsize=7, color="#a00000")
        yield file_name(name), figure


def _drawings(facts: Facts) -> Iterator[tuple[str, tuple[float, float], Draw]]:
    tested = [row for row in facts.rows if row.test]
    chance = 100 / len(facts.run.store.emotions)
    for condition in facts.conditions:
        ranked = [row for row in facts.ranked(condition) if row.test]
        if ranked:
            height = 1.2 + 0.35 * len(ranked)
            yield f"leaderboard-{condition}", (6.5, height), _bound(_draw_leaderboard, facts, ranked, chance)
            size = (2.6 * min(3, len(ranked)) + 0.4, 2.6 * -(-len(ranked) // 3) + 0.2)
            yield f"confusion-{condition}", size, _bound(_draw_confusions, facts, ranked)
        learnt = [row for row in facts.ranked(condition) if any(result.epochs for result in row.winner.results)]
        if learnt:
            size = (2.3 * min(3, len(learnt)) + 0.4, 1.7 * -(-len(learnt) // 3) + 0.4)
            yield f"curves-{condition}", size, _bound(_draw_curves, learnt, condition, chance)
    noisy = [row for row in tested if row.winner.condition == "noisy"]
    if noisy:
        yield "snr", (6.5, 3.6), _bound(_draw_snr, noisy, len(facts.run.store.emotions), chance)
    for each in facts.robustness:
        yield f"robustness-{each.features}", (6.5, 1.3 + 0.35 * len(each.losses)), _bound(_draw_losses, each, chance)
    for candidates in facts.board.candidates:
        maps = [laid_out for condition in facts.conditions if (laid_out := landscape(candidates, condition))]
        if maps:
            name = f"landscape-{candidates.space}-{candidates.model}-{candidates.features}"
            yield name, _map_size(maps), _bound(_draw_maps, maps, chance)
    for findings in facts.probed:
        for winner in findings.winners:
            file = f"modules-{findings.condition}-{winner.space}-{winner.model}-{winner.features}"
            size = (2.6 * len(pictured(winner)) + 0.4, 2.4 * len(findings.labels) + 0.4)
            yield file, size, _bound(_draw_modules, findings, winner)
        if findings.winners[0].modules[0].noise:
            size = (2.6 * min(3, len(findings.winners)) + 0.4, 2.4 * -(-len(findings.winners) // 3) + 0.4)
            yield f"modules-noise-{findings.condition}", size, _bound(_draw_module_noise, findings)
    for sweep in facts.sweeps:
        yield (
            f"sweep-{sweep.candidates.space}",
            (6.5, 2.6 * len(sweep.curves)),
            _bound(_draw_sweep, facts, sweep, chance),
        )


def _bound(draw: Callable[..., object], *given: object) -> Draw:
    return lambda figure: draw(figure, *given)


def _draw_leaderboard(figure: Figure, facts: Facts, rows: Sequence[Row], chance: float) -> None:
    axes = figure.subplots()
    papers = facts.of_papers_corpus and any(row.paper_ua is not None for row in rows)
    places = np.arange(len(rows))
    for place, row in zip(places.tolist(), rows, strict=True):
        assert row.test
        if row.test.recipe:
            axes.plot([row.test.recipe.low, row.test.recipe.high], [place, place], color=COLOURS[0], linewidth=0.5)
        _interval(axes, row.test.overall.ua, row.test.overall.interval, place)
        axes.plot(row.winner.validation_ua, place, "|", color="#555555", markersize=9)
        if papers and row.paper_ua is not None:
            axes.plot(row.paper_ua, place, "D", color=COLOURS[1], markerfacecolor="none")
    axes.set_yticks(places, [_titled(row) + ("*" if papers and row.departures else "") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(f"{rows[0].winner.condition} condition")
    paper_too = "\n◇ the paper's, on eNTERFACE'05" if papers else ""
    otherwise = "; * not trained as in the paper" if papers and any(row.departures for row in rows) else ""
    again = " (thin: trained again)" if any(row.test and row.test.recipe for row in rows) else ""
    axes.axvline(chance, color="#000000", linewidth=0.5, linestyle=":")
    axes.set_xlabel(f"UA (%): ● test, 95 % interval{again}; | validation; ⋯ chance{paper_too}{otherwise}")
    axes.grid(axis="x", linewidth=0.3)


def _titled(row: Row) -> str:
    return f"{row.winner.title}, {row.winner.candidates.space}"


def _interval(axes: Axes, value: float, interval: Interval | None, place: float) -> None:
    if interval:
        axes.plot([interval.low, interval.high], [place, place], color=COLOURS[0], linewidth=1.5)
    axes.plot(value, place, "o", color=COLOURS[0])


def _draw_confusions(figure: Figure, facts: Facts, rows: Sequence[Row]) -> None:
    emotions = facts.run.store.emotions
    grid = figure.subplots(-(-len(rows) // 3), min(3, len(rows)), squeeze=False)
    figure.supylabel(f"true emotion, % of its utterances; chance: {100 / len(emotions):.1f} %", fontsize=8)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows, strict=False):
        assert row.test
        counts = np.array(row.test.confusion, np.float64)
        share = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
        axes.imshow(share, vmin=0, vmax=100, cmap="Blues")
        for (true, predicted), value in np.ndenumerate(share):
            _write(axes, true, predicted, f"{value:.0f}", "white" if value > 55 else "black")
        axes.set_xticks(range(len(emotions)), emotions, rotation=60, ha="right", fontsize=6)
        axes.set_yticks(range(len(emotions)), emotions, fontsize=6)
        axes.set_xlabel("taken for", fontsize=6)
        axes.set_title(_titled(row), fontsize=8)


def _draw_curves(figure: Figure, rows: Sequence[Row], condition: Condition, chance: float) -> None:
    """Validation UA of each winner's trials, one per fold and seed, over their epochs."""
    grid = figure.subplots(-(-len(rows) // 3), min(3, len(rows)), sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows, strict=False):
        for number, result in enumerate(row.winner.results):
            ua = [epoch.ua(condition) for epoch in result.epochs]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(range(1, len(ua) + 1), ua, color=colour, linewidth=0.8)
            if kept := result.best_epoch:
                axes.plot(kept.epoch, kept.ua(condition), "o", color=colour, markersize=4)
        axes.axhline(chance, color="#000000", linewidth=0.5, linestyle=":")
        axes.set_title(_titled(row), fontsize=8)
    figure.supxlabel("epoch; ● kept; ⋯ chance", fontsize=8)
    figure.supylabel(f"validation UA, {condition} (%)", fontsize=8)


def _draw_snr(figure: Figure, rows: Sequence[Row], emotions: int, chance: float) -> None:
    """UA per band of SNRs; the clean copies, which have no SNR, stand apart on axes of their own."""
    parts = [
        [band for band in row.test.snr_bands if (band.name == "clean") == clean]
        for clean in (False, True)
        for row in rows
        if row.test
    ]
    bands = list({band.name: band for slices in parts[: len(rows)] for band in slices})
    axes, clean_axes = figure.subplots(1, 2, sharey=True, width_ratios=[max(1, len(bands)), 1])
    for number, row in enumerate(rows):
        assert row.test
        by_name = {band.name: band for band in row.test.snr_bands}
        look = {
            "color": COLOURS[number % len(COLOURS)],
            # Once all colours are used, they come again with other markers.
            "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
        }
        # Side by side, so that the intervals of several rows can be told apart.
        shift = 0.5 * ((number + 0.5) / len(rows) - 0.5)
        _draw_bands(axes, [by_name.get(band) for band in bands], shift, look, _titled(row))
        _draw_bands(clean_axes, [by_name.get("clean")], shift, look, "")
    first = {band.name: band for band in parts[0]}
    ticks = [_band_tick(band.removesuffix(" dB"), first.get(band), emotions) for band in bands]
    axes.set_xticks(range(len(bands)), ticks, fontsize=7)
    clean = parts[len(rows)]
    clean_axes.set_xticks([0], [_band_tick("clean", clean[0] if clean else None, emotions)], fontsize=7)
    clean_axes.set_xlim(-0.6, 0.6)
    for each in (axes, clean_axes):
        each.axhline(chance, color="#000000", linewidth=0.5, linestyle=":")
    axes.set_ylabel("test UA (%), 95 % intervals")
    incomplete = any(band.emotions < emotions for band in parts[0])
    mark = "; * lacks an emotion" if incomplete else ""
    axes.set_xlabel(f"SNR (dB), n: copies in the band{mark}; ⋯ chance")
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside right center")


def _draw_bands(axes: Axes, bands: Sequence[Slice | None], shift: float, look: Mapping[str, Any], label: str) -> None:
    """The UA of one row in each band, with its interval."""
    for place, band in enumerate(bands):
        if band and band.interval:
            ends = [band.interval.low, band.interval.high]
            axes.plot([place + shift] * 2, ends, color=look["color"], linewidth=0.6)
    ua = [band.ua if band else np.nan for band in bands]
    axes.plot(np.arange(len(bands)) + shift, ua, linewidth=1, markersize=4, label=label, **look)


def _band_tick(name: str, band: Slice | None, emotions: int) -> str:
    """A band's name, starred where an emotion is missing, and how many copies are in it."""
    if band is None:
        return name
    star = "*" if band.emotions < emotions else ""
    return f"{name}{star}\nn = {band.utterances:,}"


def _draw_losses(figure: Figure, found: Robustness, chance: float) -> None:
    axes = figure.subplots()
    for place, each in enumerate(found.losses):
        _interval(axes, each.alone.value, each.alone.interval, place)
        axes.plot(each.loss.value, place, "|", color="#555555", markersize=9)
    axes.axvline(0, color="#000000", linewidth=0.5)
    marks = [f" {CHANCE}" if each.at_chance else "" for each in found.losses]
    names = [f"{each.model}, {each.space}{mark}" for each, mark in zip(found.losses, marks, strict=True)]
    axes.set_yticks(range(len(found.losses)), names)
    axes.set_ylim(len(found.losses) - 0.5, -0.5)
    axes.set_title(f"What noise costs, {found.features}")
    floor = f"; {CHANCE} near chance ({chance:.1f} %), little to lose" if any(marks) else ""
    axes.set_xlabel(
        "test UA lost from the clean copies (points):\n"
        f"● to the noisy copies alone, 95 % interval; | to the noisy condition{floor}"
    )
    axes.grid(axis="x", linewidth=0.3)


def _map_size(maps: Sequence[Landscape]) -> tuple[float, float]:
    columns, rows = len(maps[0].column_sizes), len(maps[0].row_sizes)
    width, height = max(2.2, 0.9 + 0.42 * columns), 0.9 + 0.3 * rows
    across = 1 if columns > SIDE_BY_SIDE else len(maps)
    return across * width + 0.8, max(2.0, 0.3 + height * len(maps) / across)


def _draw_maps(figure: Figure, maps: Sequence[Landscape], chance: float) -> None:
    wide = len(maps[0].column_sizes) > SIDE_BY_SIDE
    grid = figure.subplots(len(maps) if wide else 1, 1 if wide else len(maps), squeeze=False)
    for axes, found in zip(grid.flat, maps, strict=True):
        ua = np.array([[np.nan if cell is None else cell for cell in row] for row in found.ua], np.float64)
        low, high = float(np.nanmin(ua)), float(np.nanmax(ua))
        axes.imshow(ua, aspect="auto", vmin=low, vmax=high)
        for (row, column), value in np.ndenumerate(ua):
            if np.isnan(value):
                continue
            best = (row, column) == found.best
            ink = _ink((value - low) / max(high - low, 1e-9))
            words = f"{value:.1f}{' *' if best else ''}"
            _write(axes, row, column, words, ink, "bold" if best else "normal")
        _ticks(axes, found)
        axes.set_title(f"validation UA (%), {found.condition}")
    candidates = maps[0].candidates
    figure.suptitle(f"{candidates.title}, {candidates.space}; * the best; chance: {chance:.1f} %", fontsize=9)


def _ticks(axes: Axes, found: Landscape) -> None:
    axes.set_xticks(range(len(found.column_sizes)), [_size(size) for size in found.column_sizes])
    axes.set_yticks(range(len(found.row_sizes)), [_size(size) for size in found.row_sizes])
    axes.tick_params("y", left=bool(found.rows))
    axes.set_xlabel(", ".join(found.columns))
    axes.set_ylabel(", ".join(found.rows))


def _draw_sweep(figure: Figure, facts: Facts, sweep: Sweep, chance: float) -> None:
    """Figure 2: validation UA over h1, and its running median."""
    grid = figure.subplots(len(sweep.curves), 1, sharex=True, squeeze=False)
    for axes, (condition, curve) in zip(grid.flat, sweep.curves.items(), strict=True):
        axes.plot(sweep.h1, curve.ua, "o-", color=COLOURS[0], linewidth=0.8, markersize=3, label="validation UA")
        axes.plot(sweep.h1, curve.filtered, color=COLOURS[1], linewidth=2, label="median-filtered")
        peak = f"peak, h1 = {curve.peak_h1}"
        tested = "" if curve.test_ua is None else f": test UA {curve.test_ua:.2f} %"
        axes.plot(curve.peak_h1, max(curve.ua), "o", markersize=9, markerfacecolor="none", color="#000000")
        axes.axvline(curve.peak_h1, color="#000000", linewidth=0.5, label=peak + tested)
        if sweep.is_papers and facts.of_papers_corpus:
            axes.axvline(
                PEAK_H1,
                color="#888888",
                linestyle=":",
                label=f"the paper's, h1 = {PEAK_H1}: {PEAK_TEST_UA[condition]} %",
            )
        axes.set_ylabel(f"UA (%), {condition}")
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncol=4, columnspacing=1)
    grid[-1, 0].set_xlabel(f"h1; chance: {chance:.1f} %")


def _draw_modules(figure: Figure, findings: Findings, winner: ProbedWinner) -> None:
    """Figures 3 to 9: emotion, speaker and gender over CNN, BLSTM and MLP, each panel's title its rho."""
    modules = pictured(winner)
    grid = figure.subplots(len(findings.labels), len(modules), squeeze=False)
    for line, attribute in zip(grid, findings.labels, strict=True):
        for axes, module in zip(line, modules, strict=True):
            _draw_panel(axes, findings, module, attribute)
        line[0].set_ylabel(attribute)
    for axes, module in zip(grid[-1], modules, strict=True):
        axes.set_xlabel(HEADINGS[module.name])
    figure.suptitle(f"{title(winner)}, {findings.condition} condition", fontsize=9)


def _draw_panel(axes: Axes, findings: Findings, module: ProbedModule, attribute: Attribute) -> None:
    labels, class_U = classes(findings, attribute)
    points_U2 = spread(module, attribute)
    for number in range(len(labels)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
        x, y = points_U2[class_U == number].T
        axes.scatter(x, y, s=5, color=colour, marker=marker, alpha=0.6, linewidths=0)
    for number, (label, (x, y)) in enumerate(zip(labels, label_places(points_U2, class_U, labels), strict=True)):
        centre = points_U2[class_U == number].mean(0)
        axes.plot([centre[0], x], [centre[1], y], color="black", linewidth=0.5)
        halo = [withStroke(linewidth=2, foreground="white")]
        axes.text(x, y, label, ha="center", va="center", fontsize=7, weight="bold", path_effects=halo)
    axes.set_title(f"ρ = {percent(module.separability[attribute].rho)}")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_module_noise(figure: Figure, findings: Findings) -> None:
    """What is left of each module's UA as noise grows, a winner a panel."""
    grid = figure.subplots(-(-len(findings.winners) // 3), min(3, len(findings.winners)), squeeze=False, sharey=True)
    for axes in grid.flat[len(findings.winners) :]:
        axes.set_axis_off()
    for axes, winner in zip(grid.flat, findings.winners, strict=False):
        for module in winner.modules:
            number = list(HEADINGS).index(module.name)
            bands = [each for each in module.noise if each.band != "all"]
            ua = [*(each.noisy_ua for each in bands), module.accuracy["emotion"].ua]
            look = {"color": COLOURS[number], "marker": MARKERS[number], "label": HEADINGS[module.name]}
            axes.plot(ua, linewidth=1, markersize=4, **look)
        axes.axhline(winner.modules[0].accuracy["emotion"].chance, color="#000000", linewidth=0.5, linestyle=":")
        ticks = [*(each.band.removesuffix(" dB") for each in bands), "clean"]
        axes.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize=6)
        axes.set_title(title(winner))
    figure.supylabel("test UA (%)", fontsize=9)
    figure.supxlabel("SNR (dB); ⋯ chance", fontsize=9)
    lines = {line.get_label(): line for axes in grid.flat for line in axes.lines}
    shown = [lines[heading] for heading in HEADINGS.values() if heading in lines]
    figure.legend(handles=shown, loc="outside upper center", ncols=len(HEADINGS), fontsize=7)


def _write(axes: Axes, row: int, column: int, words: str, ink: str, weight: str = "normal") -> None:
    text = axes.text(column, row, words, ha="center", va="center", fontsize=6, color=ink, weight=weight)
    # It lies within its cell; measuring hundreds of these is what layout would take longest for.
    text.set_in_layout(False)


def _size(size: Size) -> str:
    return ", ".join(map(str, size))


def _ink(share: float) -> str:
    """Letters that can be read on cividis."""
    return "white" if share < 0.55 else "black"

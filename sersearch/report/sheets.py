"""The report's tables as rows of text, the same for Markdown, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sersearch.evaluation.leaderboard import Group
from sersearch.report.comparison import LEVEL, Pair, Ranking, Robustness, format_p
from sersearch.report.evidence import Evidence, Slice
from sersearch.report.facts import Entry, Facts, Heard, Sweep, varying, worded
from sersearch.statistics.intervals import Interval
from sersearch.study.configuration import System, unused
from sersearch.study.paper import COPIES, PEAK_H1, PEAK_TEST_UA, TABLE_3, TABLE_4, departures, table_2
from sersearch.study.space import KERNELS
from sersearch.study.study import Condition

NONE = "–"

# Of an interval that was sampled, the ends are given.
MOST_LISTED = 8


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: of the sort that a file or an anchor can have.
        title: a line above it.
        columns: headings.
        rows: as many cells each.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def leaderboards(facts: Facts) -> list[Sheet]:
    """One leaderboard a condition, as Table 4's columns, best first."""
    return [_leaderboard(facts, condition) for condition in facts.conditions]


def evidence(facts: Facts) -> list[Sheet]:
    """All other tables: where UA comes from, what noise costs, what was searched."""
    sheets = [_baselines(facts)]
    sheets += [_recalls(facts, condition) for condition in facts.conditions]
    sheets += [_speakers(facts, condition) for condition in facts.conditions]
    sheets += _noise(facts)
    sheets += [_robustness(facts, each) for each in facts.robustness]
    sheets += [_seeds(facts)] if facts.run.study.seeds > 1 else []
    sheets += [_spaces(facts), *(_sweep(facts, sweep) for sweep in facts.sweeps)]
    return [sheet for sheet in sheets if sheet.rows]


def _leaderboard(facts: Facts, condition: Condition) -> Sheet:
    entries = facts.ranked(condition)
    beside = [entry.row for entry in entries if entry.row.paper_ua is not None]
    columns = {
        "": lambda e: _place(facts, e),
        "model": name,
        "space": lambda e: e.row.group.space,
        "test UA (%)": lambda e: estimate(e.test.overall) if e.test else NONE,
        "against the next": lambda e: against_next(facts, e),
        "paper (%)": beside_paper,
        "validation UA (%)": lambda e: percent(e.row.validation_ua),
        "corrected (%)": lambda e: percent(e.selection.corrected_ua),
        "best of": lambda e: f"{len(e.row.group.candidates):,}",
        "configuration": lambda e: ", ".join(settings(e.row.group, e.row.configuration)) or NONE,
        "parameters": lambda e: f"{e.row.parameters:,}",
    }
    if not beside:
        del columns["paper (%)"]
    notes = ["Corrected: the validation UA less what being the best of so many is worth by luck."]
    if condition in facts.rankings:
        notes = [ranking_note(facts.rankings[condition]), notes[0] + " The test UA was looked at once and needs none."]
    notes += _paper_notes(facts, [row.departures for row in beside])
    return _sheet(f"leaderboard-{condition}", f"Leaderboard, {condition} condition", columns, entries, notes)


def _paper_notes(facts: Facts, unlike: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the paper's figures are of; for each that is shown, how the training here departs from it."""
    if not unlike:
        return []
    copies = facts.run.store.recipe.copies
    learnt = f", learnt from {COPIES} copies of each utterance, here from {copies}" if copies != COPIES else ""
    found = list(dict.fromkeys(worded(each) for each in unlike if each))
    return [
        f"The paper's figures are eNTERFACE'05's{learnt}: another corpus is not to be held against them.",
        *([f"* Not trained as in the paper: {'; or '.join(found)}."] if found else []),
    ]


def _baselines(facts: Facts) -> Sheet:
    """Table 3."""
    protocols = {"loso": "leave one subject out", "partition": "partition"}
    cells: dict[tuple[str, str], dict[str, Heard]] = {}
    for heard in facts.baselines:
        each = heard.baseline
        cells.setdefault((each.features, each.space), {})[each.protocol] = heard
    present = [name for name in protocols if any(name in found for found in cells.values())]

    def row(features: str, space: str, found: dict[str, Heard]) -> Iterable[str]:
        challenge = TABLE_3[features][0] if features in TABLE_3 else ""
        yield f"{features} ({challenge})" if challenge else features
        yield space
        for name in present:
            heard = found.get(name)
            yield f"{estimate(heard.test.overall)} {heard.tie}" if heard and heard.test else NONE
            yield percent(heard.baseline.paper_ua) if heard else NONE
            yield percent(heard.baseline.validation_ua) if heard else NONE
            yield f"{heard.baseline.candidates:,}" if heard else NONE

    headings = ("{}, test UA (%)", "paper (%)", "validation UA (%)", "best of")
    columns = ["SVM on", "space"]
    columns += [heading.format(protocols[name]) for name in present for heading in headings]
    return Sheet(
        "baselines",
        "SVMs on functionals (Table 3)",
        tuple(columns),
        tuple(tuple(row(*names, found)) for names, found in cells.items()),
        (
            "Clean speech. Test UA with its 95 % interval over speakers; sets with the same letter can't be told apart "
            "within a protocol, as in the leaderboard. Leaving one subject out, kernel, C and gamma are chosen anew "
            "for each speaker, by leaving out each of the others in turn.",
            "The paper's figures are eNTERFACE'05's: another corpus is not to be held against them.",
        ),
    )


def ranking_note(ranking: Ranking) -> str:
    """How rows were ranked and tested, and whether so many speakers can tell any apart."""
    comparisons = len(ranking.neighbours)
    several = "comparison" if comparisons == 1 else "comparisons"
    shown = f"Test UA with its 95 % interval over {ranking.speakers} speakers."
    if ranking.speakers == 1:
        shown = "Test UA; one speaker gives no interval."
    if comparisons == 0:
        return shown
    many = "speaker" if ranking.speakers == 1 else "speakers"
    words = (
        f"{shown} Rows with the same letter can't be told apart at {100 * LEVEL:.0f} %: each is tested against the "
        f"next over speakers, Holm-corrected for {comparisons} {several}. No p value of {ranking.speakers} {many} can "
        f"be below {format_p(ranking.smallest_p)}"
    )
    if not ranking.decidable:
        return f"{words}, so no difference can be shown here, however large: test on more speakers."
    return f"{words}."


def _recalls(facts: Facts, condition: Condition) -> Sheet:
    return _by_name(
        f"recalls-{condition}",
        f"Recall of each emotion (%), {condition} condition",
        facts.ranked(condition),
        lambda test: {emotion: percent(recall) for emotion, recall in test.recalls.items()},
    )


def _speakers(facts: Facts, condition: Condition) -> Sheet:
    return _by_name(
        f"speakers-{condition}",
        f"Test UA of each speaker (%), {condition} condition",
        facts.ranked(condition),
        lambda test: {each.name: percent(each.ua) for each in test.speakers},
    )


def _noise(facts: Facts) -> list[Sheet]:
    if "noisy" not in facts.conditions:
        return []
    entries = facts.ranked("noisy")
    return [
        _by_name(
            "snr",
            "Test UA by SNR (%)",
            entries,
            lambda test: {each.name: estimate(each) for each in test.snr_bands},
        ),
        _by_name(
            "noise-kinds",
            "Test UA by kind of noise (%)",
            entries,
            lambda test: {each.name: percent(each.ua) for each in test.noise_kinds},
        ),
    ]


def _by_name(sheet: str, title: str, entries: Iterable[Entry], figures: Callable[[Evidence], dict[str, str]]) -> Sheet:
    """A column a name, in the order in which the best row has them."""
    found = [(entry, figures(entry.test)) for entry in entries if entry.test]
    names = list(dict.fromkeys(column for _, cells in found for column in cells))
    rows = tuple(
        (name(entry), entry.row.group.space, *(cells.get(column, NONE) for column in names)) for entry, cells in found
    )
    return Sheet(sheet, title, ("model", "space", *names), rows)


def _robustness(facts: Facts, found: Robustness) -> Sheet:
    papers = {
        model: ua["clean"] - ua["noisy"] for (model, features), ua in TABLE_4.items() if features == found.features
    }
    rows = tuple(
        (
            loss.model,
            loss.space,
            percent(loss.clean_ua),
            percent(loss.noisy_ua),
            f"{loss.loss.value:.2f} {bounds(loss.loss.interval)}".rstrip(),
            percent(papers.get(loss.model)),
        )
        for loss in found.losses
    )
    differ = [
        f"{found.losses[p.first].model} loses {p.comparison.difference:.2f} points more than "
        f"{found.losses[p.second].model} (p: {format_p(p.adjusted_p)}, Holm-corrected)."
        for p in found.pairs
        if p.apart
    ]
    notes = (
        *([found.verdict] if found.verdict else []),
        *(differ or ["No two types can be told apart by what noise costs them."] * (len(found.pairs) > 0)),
        "Each model is the best under the noisy condition, tested on its clean copies and on all of them. The paper's "
        "is Table 4's clean column less its noisy one, whose winners may be two models.",
        *_paper_notes(facts, [{}]),
    )
    return Sheet(
        f"robustness-{found.features}",
        f"What noise costs, {found.features}",
        ("model", "space", "clean copies (%)", "noisy condition (%)", "UA lost (points)", "paper (points)"),
        rows,
        notes,
    )


def _seeds(facts: Facts) -> Sheet:
    def spread(entry: Entry) -> tuple[str, ...]:
        assert entry.test
        seeds = entry.test.seeds
        usual = seeds.expected_best
        return (
            name(entry),
            entry.row.group.space,
            entry.row.condition,
            f"{seeds.mean:.2f} {bounds(seeds.interval)}".rstrip(),
            percent(seeds.sd),
            percent(seeds.best),
            percent(usual),
        )

    rows = tuple(spread(entry) for entry in facts.entries if entry.test)
    two = " Of two seeds it always is." if facts.run.study.seeds == 2 else ""
    return Sheet(
        "seeds",
        f"Test UA over {facts.run.study.seeds} seeds (%)",
        ("model", "space", "condition", "mean", "standard deviation", "best seed", "best by luck"),
        rows,
        (f"A best seed about as high as so many tries give by luck gains on the mean by luck alone.{two}",),
    )


def _spaces(facts: Facts) -> Sheet:
    """Table 2 as run."""

    def row(group: Group) -> Iterable[str]:
        yield f"{group.model} ({group.features})"
        yield group.space
        yield from (ranges(group, size) for size in KERNELS)
        yield "; ".join(f"{each}: {ranges(group, each)}" for each in varying(group) if each not in KERNELS) or NONE
        yield _papers_ranges(group)
        yield f"{len(group.candidates):,}"
        best = {e.row.condition: e.row.configuration for e in facts.entries if e.row.group is group}
        for condition in facts.conditions:
            yield ", ".join(settings(group, best[condition])) or NONE if condition in best else NONE

    optima = (f"optimum, {condition}" for condition in facts.conditions)
    return Sheet(
        "spaces",
        "Spaces as run (Table 2)",
        ("model", "space", *KERNELS, "and", "Table 2's", "tried", *optima),
        tuple(tuple(row(group)) for group in facts.board.groups),
        (left_out,) if (left_out := _left_out(facts)) else (),
    )


def _left_out(facts: Facts) -> str:
    """Which trials make no candidate; nothing where all do."""
    counts = {"failed": facts.board.failed, "stopped by the pruner": facts.board.pruned}
    found = " and ".join(f"{count:,} {how}" for how, count in counts.items() if count)
    return f"Trials that make no candidate: {found}." if found else ""


def _papers_ranges(group: Group) -> str:
    """Table 2's own ranges of the sizes that it varies."""
    if (group.model, group.features) not in TABLE_4 or group.model in ("LDNN", "SVM"):
        return NONE
    tried = [[size for kernel in kernels for size in kernel] for kernels in table_2(group.model, group.features)]
    values = zip(KERNELS, (sorted(set(sizes)) for sizes in zip(*tried, strict=True)), strict=True)
    return ", ".join(f"{size} {_notation(found)}" for size, found in values if len(found) > 1)


def _sweep(facts: Facts, sweep: Sweep) -> Sheet:
    """Figure 2's peaks."""
    rows = [
        (
            condition,
            str(curve.peak_h1),
            percent(max(curve.ua)),
            str(sweep.h1[max(range(len(sweep.h1)), key=curve.filtered.__getitem__)]),
            percent(max(curve.filtered)),
            percent(curve.test_ua),
            *((str(PEAK_H1), percent(PEAK_TEST_UA[condition])) if sweep.is_papers else ()),
        )
        for condition, curve in sweep.curves.items()
    ]
    group = sweep.group
    return Sheet(
        f"sweep-{group.space}",
        f"Sweep of h1, {group.model} ({group.features}), {group.space}",
        (
            "condition",
            "peak h1",
            "validation UA (%)",
            "peak, median-filtered",
            "filtered UA (%)",
            "test UA at the peak (%)",
            *(("paper's peak", "paper's test UA (%)") if sweep.is_papers else ()),
        ),
        tuple(rows),
        tuple(_paper_notes(facts, [departures(next(iter(group.candidates)))]) if sweep.is_papers else ()),
    )


def _sheet(
    sheet: str, title: str, columns: dict[str, Callable[[Entry], str]], entries: Iterable[Entry], notes: Sequence[str]
) -> Sheet:
    rows = tuple(tuple(cell(entry) for cell in columns.values()) for entry in entries)
    return Sheet(sheet, title, tuple(columns), rows, tuple(notes))


def name(entry: Entry) -> str:
    """A row's model and features."""
    return f"{entry.row.group.model} ({entry.row.features})"


def settings(group: Group, configuration: System) -> list[str]:
    """What tells a configuration from others of its space: its kernels, and whatever else varies."""
    meaningless = ("features", *KERNELS, *unused(getattr(configuration, "kernel", "")))
    others = {each: getattr(configuration, each) for each in varying(group) if each not in meaningless}
    return [*(kernels([size]) for size in configuration.kernels), *([worded(others)] if others else [])]


def beside_paper(entry: Entry) -> str:
    """The paper's figure, starred where the training is not the paper's."""
    return percent(entry.row.paper_ua) + "*" * bool(entry.row.departures)


def _place(facts: Facts, entry: Entry) -> str:
    standing = facts.standing(entry)
    return f"{standing[0]} {standing[1]}" if standing else ""


def against_next(facts: Facts, entry: Entry) -> str:
    """How far a row is above the next, and the p value of that."""
    return above((facts.standing(entry) or (0, "", None))[2])


def above(following: Pair | None) -> str:
    """How far the first of a pair is above the second, and the p value of that."""
    if following is None:
        return NONE
    # Adding zero makes no difference of minus nothing.
    difference = round(following.comparison.difference, 2) + 0.0
    return f"{difference:+.2f}, p: {format_p(following.adjusted_p)}"


def estimate(found: Slice) -> str:
    """UA and its interval."""
    return f"{found.ua:.2f} {bounds(found.interval)}".rstrip()


def bounds(interval: Interval | None) -> str:
    """An interval in brackets, nothing where there is none."""
    return f"[{interval.low:.1f}, {interval.high:.1f}]" if interval else ""


def percent(value: float | None) -> str:
    """A figure with two decimals."""
    return NONE if value is None else f"{value:.2f}"


def kernels(sizes: Sequence[tuple[int, int]]) -> str:
    """Both layers' kernels, height x width."""
    return ", ".join(f"{h}×{w}" for h, w in sizes)


def ranges(group: Group, size: str) -> str:
    """The values of a parameter that a group tried, in Table 2's notation."""
    values = sorted({value for c in group.candidates if (value := getattr(c, size, None)) is not None})
    if not values:
        return NONE
    return "M" if (group.model, size) == ("FST-CLDNN", "h1") else _notation(values)


def _notation(values: Sequence[Any]) -> str:
    low, high = values[0], values[-1]
    if isinstance(low, int) and low < high and list(values) == list(range(low, high + 1)):
        return f"{low}:{high}"
    if isinstance(low, float) and len(values) > MOST_LISTED:
        return f"{low:g} to {high:g}"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

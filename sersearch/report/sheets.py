"""The report's tables as rows of text, the same for Markdown, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sersearch.evaluation.leaderboard import Candidates
from sersearch.report.captions import CHANCE, chance_note, ranking_notes, robustness_notes
from sersearch.report.cells import (
    NONE,
    Sheet,
    against_next,
    beside_paper,
    bounds,
    estimate,
    notation,
    percent,
    place_of,
    ranges,
    settings,
)
from sersearch.report.comparison import Robustness
from sersearch.report.evidence import Evidence, Slice
from sersearch.report.facts import Facts, Row, Standing, Sweep, format_settings, varying
from sersearch.report.machines import machines
from sersearch.report.paper import PEAK_H1, PEAK_TEST_UA, TABLE_3, TABLE_4
from sersearch.run.ledger import Result
from sersearch.statistics.intervals import Estimate
from sersearch.study.conditions import Condition
from sersearch.study.configuration.network import KERNELS
from sersearch.study.fold import Fold, Split
from sersearch.study.paper import COPIES, papers_space


def leaderboards(facts: Facts) -> list[Sheet]:
    """One leaderboard per condition, as Table 4's columns, best first."""
    return [_with_chance(_leaderboard(facts, condition), facts) for condition in facts.conditions]


def evidence(facts: Facts) -> list[Sheet]:
    """All other tables: where UA comes from, what noise costs, what was searched."""
    sheets = [_baselines(facts)]
    sheets += [_recalls(facts, condition) for condition in facts.conditions]
    sheets += [_speakers(facts, condition) for condition in facts.conditions]
    sheets += [sheet for condition in facts.conditions for sheet in _groups(facts, condition)]
    sheets += _noise(facts)
    sheets += [_robustness(facts, each) for each in facts.robustness]
    sheets += [_seeds(facts)] if facts.run.study.seeds > 1 else []
    sheets += [_sweep(facts, sweep) for sweep in facts.sweeps]
    # A space or a machine has no UA that could be chance.
    trained = [result for trials in facts.board.trials.values() for _, result in trials]
    sheets = [*(_with_chance(sheet, facts) for sheet in sheets), _spaces(facts), machines(trained)]
    return [sheet for sheet in sheets if sheet.rows]


def _with_chance(sheet: Sheet, facts: Facts) -> Sheet:
    """Add what guessing is worth, and what a mark of rows near it means."""
    note = chance_note(len(facts.run.store.emotions))
    if any(CHANCE in cell for row in sheet.rows for cell in row):
        note += f" {CHANCE}: not distinguished from it."
    return replace(sheet, notes=(*sheet.notes, note))


def _leaderboard(facts: Facts, condition: Condition) -> Sheet:
    rows = facts.ranked(condition)
    beside_papers = [row for row in rows if row.paper_ua is not None and facts.of_papers_corpus]
    columns: dict[str, Callable[[Row], str]] = {
        "": lambda row: place_of(facts, row),
        "ranks": lambda row: ranks(facts.standing(row)),
        "model": lambda row: row.winner.title,
        "space": lambda row: row.winner.candidates.space,
        "test UA (%)": lambda row: estimate(row.test.overall) if row.test else NONE,
        "trained again (%)": lambda row: bounds(row.test.recipe) if row.test else "",
        "against the next": lambda row: against_next(facts, row),
        "paper (%)": beside_paper,
        "configuration": configuration_of,
        "validation UA (%)": lambda row: percent(row.winner.validation_ua),
        "corrected (%)": lambda row: percent(row.corrected_ua),
        "best of": best_of_row,
        "parameters": lambda row: f"{row.winner.parameters:,}",
    }
    if not beside_papers:
        del columns["paper (%)"]
    if not any(row.test and row.test.recipe for row in rows):
        del columns["trained again (%)"]
    notes = ["Corrected: the validation UA less what being the best of so many is worth by luck."]
    if any(row.tried_before for row in rows):
        notes[0] += " Best of counts what the ledger holds of a kind, also what the study does not name any more."
    if condition in facts.rankings:
        notes[0] += " The test UA was looked at once and needs none."
    if len(facts.run.folds) > 1:
        del columns["corrected (%)"]
        notes = [folds_note(facts.run.folds)]
    if condition in facts.rankings:
        notes = [*ranking_notes(facts.rankings[condition]), *notes, facts.exposure.note]
    notes += _speaker_note(rows)
    notes += _training_notes(rows)
    notes += _split_note(facts, condition)
    notes += _corpora_note(rows)
    notes += _passage_note(facts) if condition == "noisy" else []
    notes += _paper_notes(facts, [row.departures for row in beside_papers])
    return _sheet(f"leaderboard-{condition}", f"Leaderboard, {condition} condition", columns, rows, notes)


def folds_note(folds: Sequence[Fold]) -> str:
    """How the figures of several folds are put together."""
    chosen = sorted({len(fold.validation) for fold in folds})
    validation = " to ".join(map(str, dict.fromkeys((chosen[0], chosen[-1]))))
    return (
        f"{len(folds)} folds: every speaker tests once, and UA is of all speakers' counts added up. Each fold chooses "
        f"its own configuration on its own validation speakers ({validation}); the table names the one that most folds "
        "chose. Validation UA is the mean over folds."
    )


def _speaker_note(rows: Sequence[Row]) -> list[str]:
    """Which rows are normalised by speaker, and what that assumes."""
    titles = [f"{row.winner.title}, {row.winner.candidates.space}" for row in rows if row.winner.knows_speakers]
    if not titles:
        return []
    others = (
        "" if len(titles) == len(rows) else " The other rows know nothing of a speaker: don't hold them against these."
    )
    return [
        f"Normalised by each speaker's own clean utterances, of test speakers too: {'; '.join(titles)}. This assumes "
        f"that several utterances of a speaker are there before the first one is classified.{others}"
    ]


def _training_notes(rows: Sequence[Row]) -> list[str]:
    """Which winners might have become better with more training."""
    cut = [words for row in rows if (words := _cut_off(row))]
    if not cut:
        return []
    return [f"Cut off by the limit of training, so more of it may give other figures: {'; '.join(cut)}."]


def _cut_off(row: Row) -> str:
    """How many of a winner's trials ended by their limit, and how many of these were best in their last epoch."""
    results = row.winner.results
    ended = [result for result in results if result.stopped == "epochs" and len(result.epochs) > 1]
    last = sum(_improved_last(result) for result in ended)
    if not ended:
        return ""
    title = f"{row.winner.title}, {row.winner.candidates.space}"
    if len(results) == 1:
        return f"{title} ({'its best epoch is its last' if last else 'its best epoch is not its last'})"
    return f"{title} ({len(ended)} of {len(results)} trials, {last} of them best in the last epoch)"


def _improved_last(result: Result) -> bool:
    """Whether a trial was best in its last epoch; where the last one is kept in any case, by its loss."""
    losses = [epoch.validation_loss for epoch in result.epochs]
    best = losses.index(min(losses)) if result.trial.configuration.keeps_last else result.best
    return best == len(losses) - 1


def _split_note(facts: Facts, condition: Condition) -> list[str]:
    """What a split by name has in two parts; of any other partition where the corpus says what is spoken."""
    partition = facts.run.study.partition
    by_name = isinstance(partition, Split)
    title = f"Split of {Path(partition.source).name}" if isinstance(partition, Split) else "Split"
    shown = [
        words
        for words in facts.split
        if (condition == "noisy" if "noise recording" in words else by_name or "(column " in words)
    ]
    return [f"{title}: {'; '.join(shown)}."] if shown else []


def _passage_note(facts: Facts) -> list[str]:
    """What is done to noisy copies beside noise."""
    recipe = facts.run.store.recipe
    done = ["their speech is reverberated"] if recipe.impulse_content else []
    done += [f"they pass through codecs ({', '.join(recipe.codecs)})"] if recipe.codecs else []
    return [f"The noisy copies hold more than noise, in training and in test: {', and '.join(done)}."] if done else []


def _corpora_note(rows: Sequence[Row]) -> list[str]:
    """How several tested corpora make one UA."""
    tested = {each.name for row in rows if row.test for each in row.test.groups.get("corpus", ())}
    if len(tested) < 2:
        return []
    return [
        f"UA is of all test utterances of the {len(tested)} corpora together, so a corpus of more utterances counts "
        "more; the table of test UA by corpus has each."
    ]


def best_of_row(row: Row) -> str:
    """How many configurations a row is the best of, those that the study named once included."""
    return best_of(row.winner.candidates, row.tried_before)


def best_of(candidates: Candidates, tried_before: int = 0) -> str:
    """How many configurations each fold chooses from."""
    fewest, most = (tried + tried_before for tried in (min(candidates.tried), max(candidates.tried)))
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def configuration_of(row: Row) -> str:
    """What tells a winner from others of its space, and how many folds chose it where not all did."""
    winner = row.winner
    words = ", ".join(settings(winner.candidates, winner.configuration)) or NONE
    folds = len(winner.choices)
    return words if winner.chosen_by == folds else f"{words} ({winner.chosen_by} of {folds} folds)"


def _paper_notes(facts: Facts, unlike: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the paper's figures are of; for each that is shown, how the training here departs from it."""
    if not unlike:
        return []
    copies = facts.run.store.recipe.copies
    learnt = f", learnt from {COPIES} copies of each utterance, here from {copies}" if copies != COPIES else ""
    departures = list(dict.fromkeys(format_settings(settings) for settings in unlike if settings))
    return [
        f"The paper's figures are eNTERFACE'05's{learnt}.",
        *([f"* Not trained as in the paper: {'; or '.join(departures)}."] if departures else []),
    ]


def _baselines(facts: Facts) -> Sheet:
    """Table 3."""
    folds = len(facts.run.folds)
    parted = "partition" if folds == 1 else f"{folds} folds"
    protocols = {"loso": "leave one subject out", "partition": parted}
    cells: dict[tuple[str, str, Condition], dict[str, tuple[Row, str]]] = {}
    for baseline, tie in zip(facts.baselines, facts.baseline_ties, strict=True):
        winner = baseline.winner
        kind = winner.title, winner.candidates.space, winner.condition
        cells.setdefault(kind, {})[winner.candidates.protocol] = baseline, tie
    present = [name for name in protocols if any(name in by_protocol for by_protocol in cells.values())]
    headings = ["{}, test UA (%)", "paper (%)", "validation UA (%)", "best of"]
    if not facts.of_papers_corpus:
        headings.remove("paper (%)")
    columns = ["model", "space", "condition"]
    columns += [heading.format(protocols[name]) for name in present for heading in headings]
    rows = []
    for kind, by_protocol in cells.items():
        texts = [_with_challenge(next(iter(by_protocol.values()))[0]), *kind[1:]]
        for name in present:
            if name in by_protocol:
                texts += _baseline_cells(*by_protocol[name], facts.of_papers_corpus)
            else:
                texts += [NONE] * len(headings)
        rows.append(tuple(texts))
    return Sheet(
        "baselines",
        "SVMs on functionals, and models tested by leaving one subject out (Table 3)",
        tuple(columns),
        tuple(rows),
        (
            "Test UA with its 95 % interval over speakers; rows with the same letter can't be distinguished within a "
            "protocol, as in the leaderboard. Leaving one subject out, the best configuration is chosen anew for each "
            "speaker; that of an SVM by leaving out each of the others in turn.",
        ),
    )


def _with_challenge(row: Row) -> str:
    """Title of a baseline, with the paper's name of the set of functionals."""
    challenge, _ = TABLE_3.get(row.winner.features, ("", {}))
    return f"{row.winner.title}, {challenge}" if challenge else row.winner.title


def _baseline_cells(row: Row, tie: str, beside_paper: bool) -> list[str]:
    papers = [percent(row.table_3_ua)] if beside_paper else []
    return [
        f"{estimate(row.test.overall)} {tie}" if row.test else NONE,
        *papers,
        percent(row.winner.validation_ua),
        best_of(row.winner.candidates),
    ]


def ranks(standing: Standing | None) -> str:
    """The places that a row can have."""
    if standing is None:
        return NONE
    best, worst = standing.ranks
    return str(best) if best == worst else f"{best} to {worst}"


def _recalls(facts: Facts, condition: Condition) -> Sheet:
    return _by_name(
        f"recalls-{condition}",
        f"Recall of each emotion (%), {condition} condition",
        facts.ranked(condition),
        lambda test: {emotion: percent(recall) for emotion, recall in test.recalls.items()},
    )


def _speakers(facts: Facts, condition: Condition) -> Sheet:
    rows = facts.ranked(condition)
    sheet = _by_name(
        f"speakers-{condition}",
        f"Test UA of each speaker (%), {condition} condition",
        rows,
        lambda test: {each.name: percent(each.ua) for each in test.speakers},
    )
    return replace(sheet, notes=_not_grouped(rows))


def _groups(facts: Facts, condition: Condition) -> list[Sheet]:
    """One table for the corpus and for each further column of the manifest, where they have a few values."""
    rows = facts.ranked(condition)
    columns = dict.fromkeys(column for row in rows if row.test for column in row.test.groups)
    return [_group(number, column, condition, rows) for number, column in enumerate(columns, 1)]


def _group(number: int, column: str, condition: Condition, rows: Sequence[Row]) -> Sheet:
    # Columns are named by people: the number keeps apart what the name of a sheet can't hold.
    return _by_name(
        f"column-{number}-{condition}",
        f"Test UA by {column} (%), {condition} condition",
        rows,
        lambda test: {each.name: estimate(each) for each in test.groups.get(column, ())},
    )


def _not_grouped(rows: Iterable[Row]) -> tuple[str, ...]:
    """Which columns of the manifest give no table."""
    counts = {name: count for row in rows if row.test for name, count in row.test.not_grouped.items()}
    return tuple(f"There is no table by {name}, which has {count:,} values." for name, count in counts.items())


def _noise(facts: Facts) -> list[Sheet]:
    if "noisy" not in facts.conditions:
        return []
    rows = facts.ranked("noisy")
    return [
        _by_name(
            "snr",
            "Test UA by SNR (%)",
            rows,
            lambda test: {band.name: _of_classes(band, test) for band in _alone_too(test)},
            ("With 95 % intervals over speakers, and the number of emotions where some do not occur.",),
        ),
        _by_name(
            "noise-kinds",
            "Test UA by kind of noise (%)",
            rows,
            lambda test: {kind.name: percent(kind.ua) for kind in test.noise_kinds},
        ),
    ]


def _alone_too(test: Evidence) -> list[Slice]:
    """The clean copies, all noisy ones, then those of each band of SNRs."""
    clean = [band for band in test.snr_bands if band.name == "clean"]
    noisy = [band for band in test.snr_bands if band.name != "clean"]
    return [*clean, *([test.noisy_alone] if test.noisy_alone else []), *noisy]


def _of_classes(found: Slice, test: Evidence) -> str:
    """UA with its interval, and how many emotions occur where some are missing."""
    missing = found.emotions < len(test.recalls)
    return estimate(found) + (f", {found.emotions} emotions" if missing else "")


def _by_name(
    sheet: str,
    title: str,
    rows: Iterable[Row],
    figures: Callable[[Evidence], dict[str, str]],
    notes: tuple[str, ...] = (),
) -> Sheet:
    """One column per name, in the order in which the best row has them."""
    tested = [(row.winner, figures(row.test)) for row in rows if row.test]
    names = list(dict.fromkeys(name for _, texts in tested for name in texts))
    cells = tuple(
        (winner.title, winner.candidates.space, *(texts.get(name, NONE) for name in names)) for winner, texts in tested
    )
    return Sheet(sheet, title, ("model", "space", *names), cells, notes)


def _robustness(facts: Facts, found: Robustness) -> Sheet:
    papers = {
        model: ua["clean"] - ua["noisy"] for (model, features), ua in TABLE_4.items() if features == found.features
    }
    rows = tuple(
        (
            loss.model,
            loss.space,
            percent(loss.clean_ua),
            percent(loss.alone_ua) + (f" {CHANCE}" if loss.at_chance else ""),
            _points(loss.alone),
            bounds(loss.again) or NONE,
            percent(loss.noisy_ua),
            _points(loss.loss),
            percent(papers.get(loss.model)),
        )
        for loss in found.losses
    )
    return Sheet(
        f"robustness-{found.features}",
        f"What noise costs, {found.features}",
        (
            "model",
            "space",
            "clean copies (%)",
            "noisy copies alone (%)",
            "UA lost to them (points)",
            "trained again (points)",
            "noisy condition (%)",
            "UA lost to it (points)",
            "paper (points)",
        ),
        rows,
        (*robustness_notes(found, papers, facts.run.store.recipe.copies), *_paper_notes(facts, [{}])),
    )


def _points(loss: Estimate) -> str:
    return f"{loss.value:.2f} {bounds(loss.interval)}".rstrip()


def _seeds(facts: Facts) -> Sheet:
    rows = tuple(_seed_cells(row) for row in facts.rows if row.test and row.winner.seeds > 1)
    two = " The best of two seeds always is." if facts.run.study.seeds == 2 else ""
    return Sheet(
        "seeds",
        f"Test UA over {facts.run.study.seeds} seeds (%)",
        ("model", "space", "condition", "mean", "standard deviation", "best seed", "best by luck"),
        rows,
        (f"A best seed about as high as so many tries give by luck gains on the mean by luck alone.{two}",),
    )


def _seed_cells(row: Row) -> tuple[str, ...]:
    assert row.test
    seeds = row.test.seeds
    return (
        row.winner.title,
        row.winner.candidates.space,
        row.winner.condition,
        f"{seeds.mean:.2f} {bounds(seeds.interval)}".rstrip(),
        percent(seeds.sd),
        percent(seeds.best),
        percent(seeds.expected_best),
    )


def _spaces(facts: Facts) -> Sheet:
    """Table 2 as run."""
    optima = (f"optimum, {condition}" for condition in facts.conditions)
    left_out = _left_out(facts)
    return Sheet(
        "spaces",
        "Spaces as run (Table 2)",
        ("model", "space", *KERNELS, "and", "Table 2's", "tried", *optima),
        tuple(_space_cells(facts, candidates) for candidates in facts.board.candidates),
        (left_out,) if left_out else (),
    )


def _space_cells(facts: Facts, candidates: Candidates) -> tuple[str, ...]:
    others = [f"{name}: {ranges(candidates, name)}" for name in varying(candidates) if name not in KERNELS]
    best = {row.winner.condition: row.winner.configuration for row in facts.rows if row.winner.candidates is candidates}
    optima = [", ".join(settings(candidates, best[c])) or NONE if c in best else NONE for c in facts.conditions]
    return (
        candidates.title,
        candidates.space,
        *(ranges(candidates, size) for size in KERNELS),
        "; ".join(others) or NONE,
        _papers_ranges(candidates),
        best_of(candidates),
        *optima,
    )


def _left_out(facts: Facts) -> str:
    """Which trials make no candidate; nothing where all do."""
    counts = {"failed": facts.board.failed, "stopped by the pruner": facts.board.pruned}
    found = " and ".join(f"{count:,} {how}" for how, count in counts.items() if count)
    return f"Trials that make no candidate: {found}." if found else ""


def _papers_ranges(candidates: Candidates) -> str:
    """Table 2's own ranges of the kernel sizes that it varies."""
    papers = papers_space(candidates.model, candidates.features)
    kernels_tried = [kernels for _, kernels in papers.tried if kernels] if papers else []
    if not kernels_tried:
        return NONE
    sizes_tried = [[size for kernel in kernels for size in kernel] for kernels in kernels_tried]
    texts = []
    for name, sizes in zip(KERNELS, zip(*sizes_tried, strict=True), strict=True):
        values = sorted(set(sizes))
        if len(values) > 1:
            texts.append(f"{name} {notation(values)}")
    return ", ".join(texts)


def _sweep(facts: Facts, sweep: Sweep) -> Sheet:
    """Figure 2's peaks."""
    beside_paper = sweep.is_papers and facts.of_papers_corpus
    rows = [
        (
            condition,
            str(curve.peak_h1),
            percent(max(curve.ua)),
            str(sweep.h1[max(range(len(sweep.h1)), key=curve.filtered.__getitem__)]),
            percent(max(curve.filtered)),
            percent(curve.test_ua),
            *((str(PEAK_H1), percent(PEAK_TEST_UA[condition])) if beside_paper else ()),
        )
        for condition, curve in sweep.curves.items()
    ]
    candidates = sweep.candidates
    return Sheet(
        f"sweep-{candidates.space}",
        f"Sweep of h1, {candidates.title}, {candidates.space}",
        (
            "condition",
            "peak h1",
            "validation UA (%)",
            "peak, median-filtered",
            "filtered UA (%)",
            "test UA at the peak (%)",
            *(("paper's peak", "paper's test UA (%)") if beside_paper else ()),
        ),
        tuple(rows),
        tuple(_paper_notes(facts, [next(iter(candidates.results)).departures]) if beside_paper else ()),
    )


def _sheet(
    sheet: str, title: str, columns: dict[str, Callable[[Row], str]], rows: Iterable[Row], notes: Sequence[str]
) -> Sheet:
    cells = tuple(tuple(cell(row) for cell in columns.values()) for row in rows)
    return Sheet(sheet, title, tuple(columns), cells, tuple(notes))

"""What `sersearch probe` found, as tables and as the page wants it: Table 5 and Figures 3 to 9."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sersearch.evaluation.probe.findings import ATTRIBUTES, Accuracy, Attribute, Findings, ProbedModule, ProbedWinner
from sersearch.report.cells import NONE, Sheet, bounds, percent
from sersearch.report.comparison import format_p
from sersearch.report.facts import Facts
from sersearch.report.paper import CONTRIBUTIONS, TABLE_5
from sersearch.statistics.families import LEVEL
from sersearch.study.configuration.base import MODULES, Module

HEADINGS: dict[Module, str] = {"raw": "raw", "cnn": "CNN", "blstm": "BLSTM", "mlp": "MLP"}

# A panel's points on the page: whole numbers, which take least room.
_GRID = 999

# What a label takes of a panel: a letter's share of the width, a line's of the height.
_LETTER, _LINE = 0.026, 0.055


def module_sheets(facts: Facts) -> list[Sheet]:
    """All tables, condition by condition."""
    return [sheet for findings in facts.probed for sheet in sheets_of(findings)]


def title(winner: ProbedWinner) -> str:
    """A winner's model, features and space."""
    return f"{winner.model} ({winner.features}), {winner.space}"


def sheets_of(findings: Findings) -> Iterator[Sheet]:
    """The tables of one condition's winners."""
    yield _table_5(findings)
    yield _knowledge(findings)
    if findings.winners[0].modules[0].noise:
        yield _noise(findings)


def _table_5(findings: Findings) -> Sheet:
    rows = tuple(
        (
            title(winner),
            *(_emotion(winner.module(name)) for name in MODULES),
            " ".join(percent(ua) for ua in TABLE_5.get((winner.model, winner.features), ())) or NONE,
        )
        for winner in findings.winners
    )
    notes = [
        "An SVM on each module's output, learnt from the clean training utterances and chosen on validation, with its "
        f"95 % interval over test speakers. °: no better than chance at {100 * LEVEL:.0f} %.",
        *_contributions(findings),
        "The paper's figures are eNTERFACE'05's: don't compare them with another corpus.",
    ]
    columns = ("model", *HEADINGS.values(), "paper: raw CNN BLSTM MLP")
    heading = f"Clean test UA of each module (%), {findings.condition} winners (Table 5)"
    return Sheet(f"modules-{findings.condition}", heading, columns, rows, tuple(notes))


def _emotion(module: ProbedModule | None) -> str:
    if module is None:
        return NONE
    found = module.accuracy["emotion"]
    return f"{percent(found.ua)}{'' if found.p_value <= LEVEL else '°'} {bounds(found.interval)}".rstrip()


def _contributions(findings: Findings) -> list[str]:
    found = findings.contributions()
    if not found:
        return []
    words = (
        f"{HEADINGS[name]} {mean:.2f}{'' if deviation is None else f' ± {deviation:.2f}'} "
        f"(the paper's {CONTRIBUTIONS[name][0]:.2f} ± {CONTRIBUTIONS[name][1]:.2f})"
        for name, (mean, deviation) in found.items()
    )
    return [
        f"What a module adds to the one before it, in points, mean ± deviation over the CLDNNs: {', '.join(words)}."
    ]


def _knowledge(findings: Findings) -> Sheet:
    asked = [attribute for attribute in ATTRIBUTES if attribute in findings.labels]
    rows = tuple(
        (
            title(winner),
            HEADINGS[module.name],
            f"{module.numbers:,}",
            *(_accuracy(module.accuracy[attribute]) for attribute in asked),
            *(_rho(module, attribute) for attribute in asked),
        )
        for winner in findings.winners
        for module in winner.modules
    )
    chances = ", ".join(
        f"{name} {percent(found.chance)}" for name, found in findings.winners[0].modules[0].accuracy.items()
    )
    notes = (
        f"UA, its 95 % interval over speakers, and p of a permutation test; chance is {chances}. Emotion is Table 5's; "
        "speaker and gender are read off the clean training utterances by a linear classifier, across folds.",
        "ρ is the inertia within classes over that between them (eq. 17), smaller where classes are better separated.",
        *_means(findings, asked),
        *_verdict(findings, asked),
        *(f"{name.capitalize()} is left out: {why}." for name, why in findings.omitted.items()),
    )
    columns = ("model", "module", "numbers", *(f"{name} (%)" for name in asked), *(f"ρ {name}" for name in asked))
    heading = f"Emotion, speaker and gender predicted from each module, {findings.condition} winners"
    return Sheet(f"modules-knowledge-{findings.condition}", heading, columns, rows, notes)


def _accuracy(found: Accuracy) -> str:
    return f"{percent(found.ua)} {bounds(found.interval)}".rstrip() + f", p: {format_p(found.p_value)}"


def _rho(module: ProbedModule, attribute: Attribute) -> str:
    return percent(module.separability[attribute].rho)


def _means(findings: Findings, asked: list[Attribute]) -> list[str]:
    """How UA goes along the modules, over all CLDNNs."""
    whole = [winner.modules for winner in findings.winners if winner.module("cnn")]
    if len(whole) < 2:
        return []
    means = {name: [fmean(m.accuracy[name].ua for m in each) for each in zip(*whole, strict=True)] for name in asked}
    words = "; ".join(f"{name} {', '.join(map(percent, along))}" for name, along in means.items())
    return [f"Mean UA over the CLDNNs, raw, CNN, BLSTM and MLP: {words}."]


def _verdict(findings: Findings, asked: list[Attribute]) -> list[str]:
    """What the paper saw, and in how many models it is so here."""
    whole = [[m for m in winner.modules if m.name != "raw"] for winner in findings.winners if winner.module("cnn")]
    if not whole:
        return []
    said = []
    for attribute in asked:
        sign = -1 if attribute == "emotion" else 1
        rhos = [[module.separability[attribute].rho or np.inf for module in modules] for modules in whole]
        in_all = sum(sign * (rho[-1] - rho[0]) > 0 for rho in rhos)
        stepwise = sum(all(sign * (b - a) > 0 for a, b in pairwise(rho)) for rho in rhos)
        moves = "falls" if attribute == "emotion" else "rises"
        said.append(f"ρ of {attribute} {moves} from CNN to MLP in {in_all} of {len(whole)}, at each step in {stepwise}")
    return [
        "The paper sees emotion parted better and better from CNN to BLSTM to MLP, speaker and gender worse and worse. "
        f"Here, of the CLDNNs, {'; '.join(said)}."
    ]


def _noise(findings: Findings) -> Sheet:
    bands = [each.band for each in findings.winners[0].modules[0].noise]
    rows = tuple(
        (
            title(winner),
            HEADINGS[module.name],
            percent(module.accuracy["emotion"].ua),
            *(f"{round(each.loss, 2) + 0.0:.2f} {bounds(each.interval)}".rstrip() for each in module.noise),
        )
        for winner in findings.winners
        for module in winner.modules
    )
    notes = (
        "Table 5's SVM on the noisy copies of the test utterances: the UA that it loses against the clean copies of "
        "the same utterances, with its 95 % interval over speakers. The SVM is trained on clean speech only, the model "
        "on noisy speech too.",
    )
    columns = ("model", "module", "clean (%)", *("all noisy copies" if band == "all" else band for band in bands))
    heading = f"Where noise enters: UA that each module loses (points), {findings.condition} winners"
    return Sheet(f"modules-noise-{findings.condition}", heading, columns, rows, notes)


def short_names(attribute: Attribute, names: list[str]) -> list[str]:
    """Names as the paper writes them into its figures: ang, s07, female.

    Example:
        >>> short_names("emotion", ["anger", "sadness"]), short_names("speaker", ["07", "ann"])
        (['ang', 'sad'], ['s07', 'ann'])
    """
    if attribute == "emotion":
        short = [name[:3] for name in names]
        return short if len(set(short)) == len(names) else names
    if attribute == "speaker":
        return [f"s{int(name):02d}" if name.isdecimal() else name for name in names]
    return names


def classes(findings: Findings, attribute: Attribute) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the classes as figures write them, and the class of each utterance."""
    names, class_U = np.unique(findings.labels[attribute], return_inverse=True)
    return short_names(attribute, names.tolist()), class_U


def spread(module: ProbedModule, attribute: Attribute) -> NDArray[np.float64]:
    """Where a picture shows each utterance, [U, 2]; where there is one component, they lie one below the other."""
    points_UK = np.array(module.separability[attribute].points)
    if points_UK.shape[1] == 2:
        return points_UK
    return np.column_stack([points_UK[:, 0], np.linspace(0, 1, len(points_UK))])


def label_places(points_U2: NDArray[np.float64], class_U: NDArray[np.int64], labels: list[str]) -> NDArray[np.float64]:
    """Where a picture's labels stand, [C, 2]: at the centres, moved up or down as far as they would cover each other.

    Args:
        points_U2: where it shows each utterance.
        class_U: class of each.
        labels: names of the C classes.
    """
    low, high = _ends(points_U2)
    place_C2 = np.stack([points_U2[class_U == number].mean(0) for number in range(len(labels))])
    x_C, y_C = ((place_C2 - low) / (high - low)).T
    width_C = _LETTER * np.array([len(label) for label in labels])
    beside_CC = np.abs(x_C[:, None] - x_C) < (width_C[:, None] + width_C) / 2
    np.fill_diagonal(beside_CC, False)
    above_CC = np.where(np.tri(len(labels), dtype=bool), 1, -1)
    for _ in range(500):
        gap_CC = y_C[:, None] - y_C
        missing_CC = np.where(beside_CC, np.maximum(_LINE - np.abs(gap_CC), 0), 0)
        if missing_CC.max() < _LINE / 20:
            break
        y_C = y_C + (np.where(gap_CC == 0, above_CC, np.sign(gap_CC)) * missing_CC).sum(1) / 4
    return np.column_stack([x_C, y_C]) * (high - low) + low


def _ends(points_U2: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of a picture."""
    low = points_U2.min(0)
    return low, np.maximum(points_U2.max(0), low + 1e-9)


def module_data(facts: Facts) -> list[dict[str, Any]]:
    """What the page's script draws."""
    return [
        {
            "names": findings.utterance,
            "classes": {name: _classes_data(findings, name) for name in findings.labels},
            "winners": [
                {
                    "title": f"{title(winner)}, {findings.condition}",
                    "panels": [
                        _panel(module, name, *classes(findings, name))
                        for name in findings.labels
                        for module in pictured(winner)
                    ],
                }
                for winner in findings.winners
            ],
        }
        for findings in facts.probed
    ]


def pictured(winner: ProbedWinner) -> list[ProbedModule]:
    """The modules that a picture shows, as in Figures 3 to 9."""
    return [module for module in winner.modules if module.name != "raw"]


def _classes_data(findings: Findings, attribute: Attribute) -> dict[str, Any]:
    names, class_U = classes(findings, attribute)
    full = np.unique(findings.labels[attribute]).tolist()
    return {"short": names, "full": full, "of": class_U.tolist()}


def _panel(module: ProbedModule, attribute: Attribute, labels: list[str], class_U: NDArray[np.int64]) -> dict[str, Any]:
    points_U2 = spread(module, attribute)
    low, high = _ends(points_U2)

    def on_grid(places_A2: NDArray[np.float64]) -> list[int]:
        whole: list[int] = ((places_A2 - low) / (high - low) * _GRID).round().astype(int).ravel().tolist()
        return whole

    return {
        "attribute": attribute,
        "module": HEADINGS[module.name],
        "rho": percent(module.separability[attribute].rho),
        "points": on_grid(points_U2),
        "labels": on_grid(label_places(points_U2, class_U, labels)),
    }

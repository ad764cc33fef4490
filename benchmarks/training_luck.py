"""Simulate boards whose networks have luck in training, and count what the tests and intervals of the package say.

    python benchmarks/training_luck.py                  the tables of docs/statistics.md, in ten minutes on one core
    python benchmarks/training_luck.py --studies 20     a quick look

Every network has an error of its own, which all its test speakers share; each speaker favours some systems; the noisy
copies of an utterance are as difficult as the utterance is. Nothing else distinguishes systems that are alike. Errors
are normal on the logit scale, and their size is given in points of noisy UA. The package's tests draw 999 random orders
or flips here instead of 99,999, which changes their power little and their validity not.

Shapes: K system, F fold, R seed, S speaker of a fold, E emotion, N utterance.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from interval_coverage import as_confusion, show
from numpy.typing import NDArray
from results_file import write_results
from scipy import special

from sersearch.statistics import contrast, corrections, tests
from sersearch.statistics.contrast import logit_ua, ordered_contrast
from sersearch.statistics.corrections import holm
from sersearch.statistics.counts import Counts
from sersearch.statistics.families import Pair, all_pairs, apart_matrix
from sersearch.statistics.intervals import Interval, SpeakerStatistic, recipe_interval, speaker_interval
from sersearch.statistics.letters import compact_letters
from sersearch.statistics.power import Luck, contrast_power, pair_power

Floats = NDArray[np.float64]

EMOTIONS = 6
COPIES = 10
LEVELS = (0, 1, 1, 2)
LEVEL = 0.05
LUCKS = (0.0, 2.0, 3.0, 5.0)

# Standard deviations on the logit scale, of what all systems share: speakers, emotions of a speaker, utterances.
SPEAKER, EMOTION, UTTERANCE = 0.5, 0.5, 0.8
OWN_UTTERANCE = 0.8
"""Of what one network makes of one utterance."""


@dataclass(frozen=True)
class World:
    """A design, and how its systems differ.

    Attributes:
        name: of the design.
        folds: F; 1 is one partition.
        speakers: S, test speakers of a fold.
        seeds: R, networks per system and fold.
        utterances: N, clean utterances per speaker and emotion.
        clean: mean UA of a system on clean copies, roughly, in per cent.
        noisy: the same on noisy copies.
        luck: standard deviation of a network's noisy UA over training, in points.
        shared: share of that variance that all folds of a system have in common, as they share training speakers.
        interaction: standard deviation over speakers of what a speaker favours in a system, in points.
        steps: what each system is better by on noisy copies, in points.
    """

    name: str
    folds: int
    speakers: int
    seeds: int
    utterances: int
    clean: float
    noisy: float
    luck: float = 0.0
    shared: float = 0.0
    interaction: float = 2.5
    steps: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    @property
    def label(self) -> str:
        """The design in words."""
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{self.name}, {self.folds} x {self.speakers}{seeds}"

    def sd(self) -> float:
        """The standard deviation that the package's plan predicts of a system's value in a fold."""
        return Luck(self.luck, self.interaction, self.noisy).sd(self.speakers, self.seeds, EMOTIONS * self.utterances)


RAVDESS = World("RAVDESS", 12, 2, 2, 8, clean=65, noisy=55)
ENTERFACE = World("eNTERFACE", 14, 3, 1, 5, clean=92, noisy=84)
DESIGNS = (
    replace(RAVDESS, folds=1, speakers=5, seeds=1),
    replace(RAVDESS, folds=8, speakers=3),
    RAVDESS,
    replace(ENTERFACE, folds=1, speakers=8),
    ENTERFACE,
    replace(ENTERFACE, seeds=2),
)


@dataclass(frozen=True)
class Board:
    """Simulated counts of each system by speaker, in the order of the folds, and the true UA of the first system.

    Attributes:
        clean: K counts [F * S, E, E], seeds added up.
        noisy: the same of the noisy copies.
        speakers: S, of a fold.
        true_networks: noisy UA of the first system's networks on new speakers, mean over its networks.
        true_recipe: noisy UA of the first system, trained again, on new speakers.
    """

    clean: list[Counts]
    noisy: list[Counts]
    speakers: int
    true_networks: float
    true_recipe: float

    def by_fold(self, counts_SEE: Counts) -> Counts:
        """Add up the speakers of each fold."""
        summed: Counts = counts_SEE.reshape(-1, self.speakers, EMOTIONS, EMOTIONS).sum(axis=1)
        return summed


def expected_ua(logits: Floats, sd: float) -> Floats:
    """Compute the mean UA of normally distributed logits, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return np.asarray(100 * special.expit(np.asarray(logits)[..., None] + sd * nodes) @ weights / weights.sum())


def spread() -> float:
    """The standard deviation of a logit over speakers, emotions and utterances."""
    return float(np.sqrt(SPEAKER**2 + EMOTION**2 + UTTERANCE**2 + OWN_UTTERANCE**2))


@cache
def base_logit(ua: float) -> float:
    """Find the mean logit whose expected UA this is, by bisection."""
    low, high = -6.0, 6.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if float(expected_ua(np.array(middle), spread())) < ua else (low, middle)
    return low


@cache
def slope(ua: float) -> float:
    """Compute how many points of UA a small step of all logits is worth, per unit."""
    step = 1e-3
    around = expected_ua(base_logit(ua) + np.array([-step, step]), spread())
    return float(around[1] - around[0]) / (2 * step)


def two_conditions(sd: float, shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    """Draw errors under the clean and the noisy condition, [2, ...], correlated by one half.

    Their difference, the error of a loss, then has the same standard deviation.
    """
    common, own = generator.standard_normal(shape), generator.standard_normal((2, *shape))
    return np.asarray(sd * np.sqrt(0.5) * (common + own))


def draw(world: World, generator: np.random.Generator) -> Board:
    """Simulate one board."""
    systems, shape = len(world.steps), (world.folds, world.speakers)
    points = slope(world.noisy)
    everyone = (
        generator.normal(0, SPEAKER, shape)[:, :, None, None]
        + generator.normal(0, EMOTION, (*shape, EMOTIONS))[..., None]
        + generator.normal(0, UTTERANCE, (*shape, EMOTIONS, world.utterances))
    )
    of_folds = two_conditions(world.luck, (systems, world.folds, world.seeds), generator)
    of_system = two_conditions(world.luck, (systems, 1, 1), generator)
    luck = (np.sqrt(1 - world.shared) * of_folds + np.sqrt(world.shared) * of_system) / points
    favour = two_conditions(world.interaction, (systems, *shape), generator) / points
    base = np.array([base_logit(world.clean), base_logit(world.noisy)])
    better = np.outer([0.0, 1.0], world.steps) / points
    logits = (base[:, None] + better)[:, :, None, None, None] + luck[..., None] + favour[:, :, :, None]
    # [2, K, F, R, S, E, N]
    logits = logits[..., None, None] + everyone[:, None]
    logits = logits + generator.normal(0, OWN_UTTERANCE, logits.shape[1:])
    chance = special.expit(logits)
    right = (generator.random(chance[0].shape) < chance[0], generator.binomial(COPIES, chance[1]))
    clean, noisy = _counts(right[0], 1), _counts(right[1], COPIES)
    networks = expected_ua(base[1] + better[1, 0] + luck[1, 0], np.hypot(spread(), world.interaction / points))
    wide = np.sqrt(spread() ** 2 + (world.interaction**2 + world.luck**2) / points**2)
    recipe = expected_ua(np.array(base[1] + better[1, 0]), wide)
    return Board(clean, noisy, world.speakers, float(networks.mean()), float(recipe))


def _counts(right: NDArray[np.generic], copies: int) -> list[Counts]:
    """Counts of each system, [F * S, E, E], from right answers [K, F, R, S, E, N]."""
    systems, folds, seeds, speakers, emotions, utterances = right.shape
    correct = right.astype(np.int64).sum(axis=(2, 5)).reshape(systems, folds * speakers, emotions)
    support = np.full(correct.shape[1:], copies * seeds * utterances)
    return [as_confusion(of_system, support) for of_system in correct]


def contrasts(board: Board, over_folds: bool, generator: np.random.Generator) -> tuple[float, float]:
    """The p values of the paper's order on noisy UA and on the loss."""
    units = board.by_fold if over_folds else lambda counts: counts
    noisy = np.stack([logit_ua(units(counts)) for counts in board.noisy], axis=1)
    clean = np.stack([logit_ua(units(counts)) for counts in board.clean], axis=1)
    ua = ordered_contrast(noisy, LEVELS, generator)
    loss = ordered_contrast(noisy - clean, LEVELS, generator)
    return ua.p_value, loss.p_value


def errors(world: World, boards: list[Board], generator: np.random.Generator) -> dict[str, float]:
    """Count rejections at 5 % among systems that are alike, and letters that contradict their family, in per cent."""
    found = []
    for board in boards:
        row = {}
        for over_folds in (True, False) if world.folds > 1 else (False,):
            unit = "folds" if over_folds else "speakers"
            ua, loss = contrasts(board, over_folds, generator)
            counts = [board.by_fold(each) if over_folds else each for each in board.noisy]
            models = {number: SpeakerStatistic.of_ua(each) for number, each in enumerate(counts)}
            order = tuple(sorted(models, key=lambda number: -models[number].value))
            # Of the other folds, two validate.
            test_to_train = 1 / (world.folds - 3) if over_folds else None
            pairs = all_pairs({number: models[number] for number in order}, 100, generator, test_to_train)
            fixed = next(pair for pair in pairs if {pair.first, pair.second} == {0, 1})
            row[f"{unit}: order on UA"] = ua <= LEVEL
            row[f"{unit}: order on loss"] = loss <= LEVEL
            row[f"{unit}: one pair"] = fixed.comparison.p_value <= LEVEL
            if over_folds:
                row[f"{unit}: one pair, corrected t"] = (fixed.bound_p or 1.0) <= LEVEL
            row[f"{unit}: any of six pairs, max-T"] = min(pair.adjusted_p for pair in pairs) <= LEVEL
            row[f"{unit}: with Holm"] = holm([pair.comparison.p_value for pair in pairs]).min() <= LEVEL
            row[f"{unit}: letters contradict"] = contradicted(order, pairs)
        found.append(row)
    return {name: 100 * float(np.mean([row[name] for row in found])) for name in found[0]}


def contradicted(order: tuple[int, ...], pairs: tuple[Pair, ...]) -> bool:
    """Whether two rows share a letter though they differ significantly, or share none though they do not."""
    letters = dict(zip(order, compact_letters(apart_matrix(order, pairs)), strict=True))
    return any(bool(set(letters[pair.first]) & set(letters[pair.second])) is pair.apart for pair in pairs)


def coverage(world: World, boards: list[Board]) -> dict[str, float]:
    """Count how often the intervals of the first system's noisy UA cover its true UA, in per cent."""
    networks = [speaker_interval(board.noisy[0]) for board in boards]
    shares = {
        "networks' interval of these networks": _covered(networks, [board.true_networks for board in boards]),
        "networks' interval of the recipe": _covered(networks, [board.true_recipe for board in boards]),
    }
    if world.folds > 1:
        recipes = [recipe_interval(board.by_fold(board.noisy[0])) for board in boards]
        shares["recipe's interval of the recipe"] = _covered(recipes, [board.true_recipe for board in boards])
    return shares


def _covered(intervals: list[Interval | None], truths: list[float]) -> float:
    inside = [each is None or each.low <= true <= each.high for each, true in zip(intervals, truths, strict=True)]
    return 100 * float(np.mean(inside))


def power(world: World, difference: float, studies: int, generator: np.random.Generator) -> dict[str, float]:
    """Compare the power that a plan predicts with that of simulated boards, in per cent, at 5 % for each measure."""
    one_order = replace(world, steps=tuple(difference * level / 2 for level in LEVELS))
    one_better = replace(world, steps=(2 * difference, 0.0, 0.0, 0.0))
    units = world.folds
    p = np.array([contrasts(draw(one_order, generator), True, generator) for _ in range(studies)])
    apart = []
    for _ in range(studies):
        board = draw(one_better, generator)
        models = {number: SpeakerStatistic.of_ua(board.by_fold(each)) for number, each in enumerate(board.noisy)}
        apart.append(all_pairs(models, 100, generator, None)[0].apart)
    return {
        "order, predicted": 100 * contrast_power(LEVELS, difference, world.sd(), units),
        "order on UA, simulated": 100 * float(np.mean(p[:, 0] <= LEVEL)),
        "order on loss, simulated": 100 * float(np.mean(p[:, 1] <= LEVEL)),
        "pair, predicted": 100 * pair_power(2 * difference, world.sd(), units, len(LEVELS)),
        "pair, simulated": 100 * float(np.mean(apart)),
    }


def letters(speakers: int, studies: int, generator: np.random.Generator) -> dict[str, float]:
    """Boards of eight systems in equal steps: how often letters say something else than the family, in per cent."""
    world = replace(RAVDESS, folds=1, speakers=speakers, seeds=1, steps=tuple(-2.5 * step for step in range(8)))
    compact, chained = [], []
    for _ in range(studies):
        board = draw(world, generator)
        models = {number: SpeakerStatistic.of_ua(each) for number, each in enumerate(board.noisy)}
        order = tuple(sorted(models, key=lambda number: -models[number].value))
        pairs = all_pairs({number: models[number] for number in order}, 100, generator, None)
        compact.append(contradicted(order, pairs))
        by_rows = {(pair.first, pair.second): pair for pair in pairs}
        following = [by_rows[rows] for rows in pairwise(order)]
        apart = holm([pair.comparison.p_value for pair in following]) <= LEVEL
        letter = dict(zip(order, np.cumsum([0, *apart]).tolist(), strict=True))
        chained.append(any((letter[pair.first] == letter[pair.second]) is pair.apart for pair in pairs))
    return {"compact letters": 100 * float(np.mean(compact)), "neighbours chained": 100 * float(np.mean(chained))}


def _of_unit(unit: str, figures: dict[str, float]) -> dict[str, float]:
    """The figures of one kind of unit, under names without it."""
    prefix = f"{unit}: "
    return {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)}


Rows = list[tuple[str, dict[str, float]]]


def as_table(head: str, rows: Rows) -> list[list[str]]:
    """Rows of figures under their names, which the fullest row has all of."""
    names = list(dict.fromkeys(name for _, figures in rows for name in figures))
    cells = [[label, *(f"{figures[n]:.1f}" if n in figures else "-" for n in names)] for label, figures in rows]
    return [[head, *names], *cells]


def worlds() -> Iterator[tuple[str, World]]:
    """Every design under every luck, and two whose folds share some of it."""
    for design in DESIGNS:
        for luck in LUCKS:
            yield f"{design.label}, luck {luck:g}", replace(design, luck=luck)
    for design in (RAVDESS, ENTERFACE):
        for share, words in ((0.1, "a tenth"), (0.5, "half")):
            yield f"{design.label}, luck 3, {words} of it shared", replace(design, luck=3.0, shared=share)


def main() -> None:
    """Print the tables and write their figures."""
    parser = argparse.ArgumentParser(description="Errors, coverage and power under the luck of training.")
    parser.add_argument("--studies", type=int, default=500, help="simulated boards per cell (500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="JSON file for the figures, as in benchmarks/results/training_luck.json"
    )
    arguments = parser.parse_args()
    studies, generator = arguments.studies, np.random.default_rng(arguments.seed)
    contrast.RANDOM_ORDERS = tests.RANDOM_DRAWS = corrections.JOINT_FLIPS = 999
    tests.ENUMERATED_SPEAKERS = corrections.ENUMERATED_UNITS = 10
    made: dict[str, Rows] = {"folds": [], "speakers": [], "coverage": []}
    for label, world in worlds():
        boards = [draw(world, generator) for _ in range(studies)]
        figures = errors(world, boards, generator)
        made["speakers"].append((label, _of_unit("speakers", figures)))
        if world.folds > 1:
            made["folds"].append((label, _of_unit("folds", figures)))
        made["coverage"].append((label, coverage(world, boards)))
    made["power"] = [
        (f"{design.label}, luck 2, {points:g} points", power(replace(design, luck=2.0), points, studies, generator))
        for design in DESIGNS
        if design.folds > 1
        for points in (2.0, 3.5)
    ]
    made["letters"] = [(f"{speakers} speakers", letters(speakers, studies, generator)) for speakers in (8, 12, 24)]
    titles = {
        "folds": "Rejections at 5 % among four systems that are alike, tested over folds (%)",
        "speakers": "The same, tested over speakers (%)",
        "coverage": "Coverage of 95 % intervals of noisy UA (%)",
        "power": "Power of an order, and of a pair twice as far apart (%)",
        "letters": "Boards of eight systems in equal steps whose letters contradict the family (%)",
    }
    for name, title in titles.items():
        show(title, as_table("design", made[name]))
    if arguments.out:
        write_results(
            arguments.out, {"studies": studies, "seed": arguments.seed, **{k: dict(v) for k, v in made.items()}}
        )


if __name__ == "__main__":
    main()

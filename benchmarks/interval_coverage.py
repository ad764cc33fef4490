"""Hold the leaderboard's statistics against their rivals, where the truth is known by construction.

    python benchmarks/interval_coverage.py                 the tables of docs/statistics.md
    python benchmarks/interval_coverage.py --repeats 100   a quick look

Simulated speakers differ on the logit scale, in all emotions together and in each apart; a noisy utterance
shares its difficulty among its 61 copies. Rivals live here and not in the package.

Shapes: S speaker, E emotion, B resample, R drawn speaker, C configuration.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from sersearch.statistics.corrections import holm, select_best
from sersearch.statistics.counts import Counts, mean_recall
from sersearch.statistics.intervals import speaker_interval
from sersearch.statistics.tests import paired_difference

Floats = NDArray[np.float64]
Bounds = tuple[float, float]

EMOTIONS = 6
RESAMPLES = 1000
SPEAKERS = (5, 8, 20, 50)


@dataclass(frozen=True)
class World:
    """How a model does over speakers: mean logit, standard deviations of logits, utterances in a cell."""

    logit: float
    speaker_sd: float = 0.5
    emotion_sd: float = 0.7
    utterance_sd: float = 0.0
    size_sd: float = 0.0
    copies: int = 1
    utterances: int = 5

    def emotion_logits(self) -> Floats:
        """Mean logit of each emotion, [E]."""
        return self.logit + np.linspace(-0.6, 0.6, EMOTIONS)

    def true_ua(self) -> float:
        """UA over the population of speakers, by Gauss-Hermite quadrature."""
        sd = np.sqrt(self.speaker_sd**2 + self.emotion_sd**2 + self.utterance_sd**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        chance = special.expit(self.emotion_logits()[:, None] + sd * nodes)
        return float(100 * (chance @ weights).mean() / weights.sum())

    def speakers(self, number: int, generator: np.random.Generator) -> Counts:
        """Confusion counts of newly drawn speakers, [S, E, E]; errors go to the next emotion."""
        shape = (number, EMOTIONS)
        size = np.exp(generator.normal(0, self.size_sd, (number, 1)))
        said = generator.poisson(self.utterances * size, shape) if self.size_sd else np.full(shape, self.utterances)
        said[0] += said.sum(axis=0) == 0
        said[:, 0] += said.sum(axis=1) == 0
        logits = self.emotion_logits() + generator.normal(0, self.speaker_sd, (number, 1))
        logits = logits + generator.normal(0, self.emotion_sd, shape)
        correct = np.zeros(shape, dtype=np.int64)
        for speaker, emotion in np.ndindex(shape):
            utterance = generator.normal(0, self.utterance_sd, said[speaker, emotion])
            chance = special.expit(logits[speaker, emotion] + utterance)
            correct[speaker, emotion] = generator.binomial(self.copies, chance).sum()
        return as_confusion(correct, self.copies * said)


WORLDS = {
    "clean, UA 58": World(0.4),
    "noisy, 61 copies": World(0.4, utterance_sd=1.0, copies=61),
    "near 100 %, UA 91": World(2.8, speaker_sd=0.8, emotion_sd=0.8),
    "unequal speakers": World(0.4, size_sd=0.7),
    "speakers alike": World(0.4, speaker_sd=0.0, emotion_sd=0.0),
}


def as_confusion(correct: NDArray[np.int64], said: NDArray[np.int64]) -> Counts:
    """[..., E] correct out of said -> [..., E, E] counts."""
    counts = np.zeros((*correct.shape, correct.shape[-1]), dtype=np.int64)
    emotion = np.arange(correct.shape[-1])
    counts[..., emotion, emotion] = correct
    counts[..., emotion, (emotion + 1) % correct.shape[-1]] = said - correct
    return counts


def ua_of_sums(correct_BE: Floats, said_BE: Floats) -> Floats:
    """UA of each row, over the emotions present in it."""
    recall = np.divide(correct_BE, said_BE, out=np.zeros(said_BE.shape), where=said_BE > 0)
    return np.asarray(100 * recall.sum(axis=-1) / np.maximum(1, (said_BE > 0).sum(axis=-1)))


def utterance_bootstrap(counts_SEE: Counts, generator: np.random.Generator) -> dict[str, Bounds]:
    """The naive interval: resample utterances as if independent."""
    correct_E = np.diagonal(counts_SEE.sum(axis=0))
    wrong_E = counts_SEE.sum(axis=(0, 2)) - correct_E
    cells = np.concatenate([correct_E, wrong_E])
    drawn = generator.multinomial(cells.sum(), cells / cells.sum(), size=RESAMPLES).astype(np.float64)
    ua_B = ua_of_sums(drawn[:, :EMOTIONS], drawn[:, :EMOTIONS] + drawn[:, EMOTIONS:])
    return {"utterance bootstrap": quantiles(ua_B, 0.025, 0.975)}


def speaker_bootstraps(counts_SEE: Counts, generator: np.random.Generator) -> dict[str, Bounds]:
    """Percentile, expanded percentile (Hesterberg 2015), BCa, bootstrap-t (both Efron) over speakers."""
    speakers = counts_SEE.shape[0]
    correct_SE = np.diagonal(counts_SEE, axis1=1, axis2=2).astype(np.float64)
    said_SE = counts_SEE.sum(axis=2).astype(np.float64)
    times_BS = generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES).astype(np.float64)
    ua_B = ua_of_sums(times_BS @ correct_SE, times_BS @ said_SE)
    ua, influence_S, se = linearised(np.ones(speakers), correct_SE, said_SE)
    t = stats.t.ppf(0.975, speakers - 1)
    tail = stats.norm.cdf(-np.sqrt(speakers / (speakers - 1)) * t)
    below = np.mean(ua_B < ua) + np.mean(ua_B == ua) / 2
    bias = stats.norm.ppf(np.clip(below, 0.001, 0.999))
    acceleration = (influence_S**3).sum() / (6 * (influence_S**2).sum() ** 1.5 + 1e-12)
    z = bias + np.array([-1.96, 1.96])
    bca = np.clip(stats.norm.cdf(bias + z / (1 - acceleration * z)), 0, 1)
    _, _, se_B = linearised(times_BS, correct_SE, said_SE)
    t_B = np.divide(ua_B - ua, se_B, out=np.sign(ua_B - ua) * 1e6, where=se_B > 1e-9)
    t_low, t_high = quantiles(t_B, 0.025, 0.975)
    return {
        "speaker percentile": quantiles(ua_B, 0.025, 0.975),
        "expanded percentile": quantiles(ua_B, tail, 1 - tail),
        "BCa": quantiles(ua_B, bca[0], bca[1]),
        "bootstrap-t": (ua - t_high * se, ua - t_low * se),
        "linearised t": (ua - t * se, ua + t * se),
    }


def linearised(times: Floats, correct_SE: Floats, said_SE: Floats) -> tuple[float, Floats, Floats]:
    """UA of speakers taken `times` often, [..., S], each speaker's influence on it, and its standard error."""
    said = np.maximum(times @ said_SE, 1)
    recall = (times @ correct_SE) / said
    influence = 100 * ((correct_SE - recall[..., None, :] * said_SE) / said[..., None, :]).mean(axis=-1)
    speakers = len(said_SE)
    se = np.sqrt(speakers / (speakers - 1) * (times * influence**2).sum(axis=-1))
    return float(100 * recall.mean()), influence, np.asarray(se)


def chosen(counts_SEE: Counts, _: np.random.Generator) -> dict[str, Bounds]:
    """The package's interval; none counts as [0, 100]."""
    interval = speaker_interval(counts_SEE)
    return {"chosen: logit jackknife-t": (interval.low, interval.high) if interval else (0.0, 100.0)}


def quantiles(values: Floats, low: float, high: float) -> Bounds:
    """Two quantiles."""
    bounds = np.quantile(values, [low, high])
    return float(bounds[0]), float(bounds[1])


def coverage_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """How many of 100 intervals hold the truth, and their mean width in points."""
    rows: list[list[str]] = []
    for name, world in WORLDS.items():
        truth = world.true_ua()
        cells: dict[str, list[str]] = defaultdict(list)
        for speakers in SPEAKERS:
            bounds: dict[str, list[Bounds]] = defaultdict(list)
            for _ in range(repeats):
                counts = world.speakers(speakers, generator)
                for method in (utterance_bootstrap, speaker_bootstraps, chosen):
                    for label, found in method(counts, generator).items():
                        bounds[label].append((max(0.0, found[0]), min(100.0, found[1])))
            for label, found_all in bounds.items():
                low, high = np.array(found_all).T
                hit = 100 * np.mean((low <= truth) & (truth <= high))
                cells[label].append(f"{hit:.1f} ({np.mean(high - low):.0f})")
        rows += [[name, label, *texts] for label, texts in cells.items()]
    return [["world", "95 % interval", *(f"{s} speakers" for s in SPEAKERS)], *rows]


def family_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """Rejections at 5 %: of four like models' six differences, and of a model 9.5 points better."""
    rows = [["speakers", "smallest p", "family-wise error, uncorrected", "with Holm", "power, 9.5 points"]]
    for speakers in (5, 8, 12, 20):
        false, false_holm, power, smallest = 0, 0, 0, 1.0
        for _ in range(repeats):
            models = [World(0.4, speaker_sd=0.0, emotion_sd=0.5).speakers(speakers, generator) for _ in range(5)]
            pairs = [paired_difference(models[i], models[j], generator).p_value for i in range(4) for j in range(i)]
            better = World(0.85, speaker_sd=0.0, emotion_sd=0.5).speakers(speakers, generator)
            pair = paired_difference(better, models[4], generator)
            false += min(pairs) <= 0.05
            false_holm += holm(pairs).min() <= 0.05
            power += pair.p_value <= 0.05
            smallest = pair.smallest_p
        shares = (f"{100 * count / repeats:.1f} %" for count in (false, false_holm, power))
        rows.append([str(speakers), f"{smallest:.2g}", *shares])
    return rows


def tibshirani_tibshirani(ua_CS: Floats) -> float:
    """Their bias estimate, a speaker as a fold: the fold's best less the overall best, on that fold."""
    return float(np.mean(ua_CS.max(axis=0) - ua_CS[ua_CS.mean(axis=1).argmax()]))


def bbc(ua_CS: Floats, generator: np.random.Generator, resamples: int = 100) -> float:
    """BBC-CV over speakers: choose on the drawn speakers, score on those not drawn."""
    speakers, scores = ua_CS.shape[1], []
    for _ in range(resamples):
        drawn_R = generator.integers(0, speakers, speakers)
        left = np.setdiff1d(np.arange(speakers), drawn_R)
        if left.size:
            scores.append(ua_CS[ua_CS[:, drawn_R].mean(axis=1).argmax()][left].mean())
    return float(ua_CS.mean(axis=1).max() - np.mean(scores))


Qualities = Callable[[int, np.random.Generator], Floats]
CROWDS: dict[str, Qualities] = {
    "all alike": lambda c, _: np.zeros(c),
    "spread of 5 points": lambda c, generator: generator.normal(0, 0.25, c),
    "spread of 15 points": lambda c, generator: generator.normal(0, 0.8, c),
    "a few far above": lambda c, generator: np.where(generator.random(c) < 0.15, 1.2, -0.2),
}


def validated(logit_C: Floats, speakers: int, generator: np.random.Generator) -> Counts:
    """Confusion counts [C, S, E, E] of configurations that share speakers and utterances."""
    shape = (speakers, EMOTIONS, 5)
    shared = generator.normal(0, 0.5, shape[:2])[..., None] + generator.normal(0, 1, shape)
    own = generator.normal(0, 0.3, (logit_C.size, *shape[:2]))[..., None]
    chance = special.expit(0.4 + logit_C[:, None, None, None] + shared + own)
    correct = (generator.random(chance.shape) < chance).sum(axis=-1)
    return as_confusion(correct, np.full(correct.shape, shape[2]))


def optimism_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """Points by which the winner's UA flatters it, and each estimate of them less truth: bias (RMSE)."""
    rows = [["configurations", "number", "speakers", "optimism", "Tibshirani²", "BBC-CV", "chosen"]]
    for name, qualities in CROWDS.items():
        for number in (12, 150):
            for speakers in (2, 4, 8):
                truths, errors = [], []
                for _ in range(repeats):
                    logit_C = qualities(number, generator)
                    counts = validated(logit_C, speakers, generator)
                    found, ua_CS = select_best(counts), mean_recall(counts)
                    true_C = true_uas(logit_C)
                    truth = found.validation_ua - ua_CS.mean() - true_C[found.best] + true_C.mean()
                    assert found.optimism is not None
                    rivals = (tibshirani_tibshirani(ua_CS), bbc(ua_CS, generator), found.optimism)
                    truths.append(truth)
                    errors.append(np.array(rivals) - truth)
                bias, rms = np.mean(errors, axis=0), np.sqrt(np.mean(np.square(errors), axis=0))
                cells = [f"{b:+.1f} ({r:.1f})" for b, r in zip(bias, rms, strict=True)]
                rows.append([name, str(number), str(speakers), f"{np.mean(truths):.1f}", *cells])
    return rows


def true_uas(logit_C: Floats) -> Floats:
    """UA of each configuration of `validated` over all speakers and utterances."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    sd = np.sqrt(0.5**2 + 1 + 0.3**2)
    return np.asarray(100 * special.expit(0.4 + logit_C[:, None] + sd * nodes) @ weights / weights.sum())


def show(title: str, rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n")
    print("| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0]), sep="\n")
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description="Simulated coverage, error rates and optimism.")
    parser.add_argument("--repeats", type=int, default=1000, help="simulated studies per cell (1000)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    show("Coverage in per cent (mean width in points)", coverage_table(given.repeats, generator))
    show("Speaker sign-flip tests, at 5 %", family_table(given.repeats, generator))
    show(
        "Optimism of the best; estimates less truth: bias (RMSE)",
        optimism_table(max(1, given.repeats // 4), generator),
    )


if __name__ == "__main__":
    main()

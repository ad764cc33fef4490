"""Compare the leaderboard's statistics with their alternatives in simulations whose truth is known.

    python benchmarks/interval_coverage.py                 the tables of docs/statistics.md
    python benchmarks/interval_coverage.py --repeats 100   a quick look

Simulated speakers differ on the logit scale, in all emotions together and in each emotion separately. All 61 copies
of a noisy utterance are equally difficult. The alternative methods are implemented here and not in the package.

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
    """How accurate a model is over speakers.

    Attributes:
        logit: mean logit of the recall.
        speaker_sd: standard deviation of the logit over speakers.
        emotion_sd: standard deviation of the logit over the emotions of a speaker.
        utterance_sd: standard deviation of the logit over utterances.
        size_sd: standard deviation of the logarithm of a speaker's number of utterances.
        copies: copies of each utterance, all equally difficult.
        utterances: mean number of utterances per speaker and emotion.
    """

    logit: float
    speaker_sd: float = 0.5
    emotion_sd: float = 0.7
    utterance_sd: float = 0.0
    size_sd: float = 0.0
    copies: int = 1
    utterances: int = 5

    def emotion_logits(self) -> Floats:
        """Compute the mean logit of each emotion, [E]."""
        return self.logit + np.linspace(-0.6, 0.6, EMOTIONS)

    def true_ua(self) -> float:
        """Compute the UA over the population of speakers, by Gauss-Hermite quadrature."""
        sd = np.sqrt(self.speaker_sd**2 + self.emotion_sd**2 + self.utterance_sd**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        chance = special.expit(self.emotion_logits()[:, None] + sd * nodes)
        return float(100 * (chance @ weights).mean() / weights.sum())

    def speakers(self, number: int, generator: np.random.Generator) -> Counts:
        """Draw speakers and their confusion counts, [S, E, E]; every error is a prediction of the next emotion."""
        shape = (number, EMOTIONS)
        size = np.exp(generator.normal(0, self.size_sd, (number, 1)))
        support = generator.poisson(self.utterances * size, shape) if self.size_sd else np.full(shape, self.utterances)
        # Each emotion and each speaker has at least one utterance.
        support[0] += support.sum(axis=0) == 0
        support[:, 0] += support.sum(axis=1) == 0
        logits = self.emotion_logits() + generator.normal(0, self.speaker_sd, (number, 1))
        logits = logits + generator.normal(0, self.emotion_sd, shape)
        correct = np.zeros(shape, dtype=np.int64)
        for speaker, emotion in np.ndindex(shape):
            utterance = generator.normal(0, self.utterance_sd, support[speaker, emotion])
            chance = special.expit(logits[speaker, emotion] + utterance)
            correct[speaker, emotion] = generator.binomial(self.copies, chance).sum()
        return as_confusion(correct, self.copies * support)


WORLDS = {
    "clean, UA 58": World(0.4),
    "noisy, 61 copies": World(0.4, utterance_sd=1.0, copies=61),
    "near 100 %, UA 91": World(2.8, speaker_sd=0.8, emotion_sd=0.8),
    "unequal speakers": World(0.4, size_sd=0.7),
    "speakers alike": World(0.4, speaker_sd=0.0, emotion_sd=0.0),
}


def as_confusion(correct: NDArray[np.int64], support: NDArray[np.int64]) -> Counts:
    """Convert correct answers and utterances, both [..., E], to confusion counts [..., E, E]."""
    counts = np.zeros((*correct.shape, correct.shape[-1]), dtype=np.int64)
    emotion = np.arange(correct.shape[-1])
    counts[..., emotion, emotion] = correct
    counts[..., emotion, (emotion + 1) % correct.shape[-1]] = support - correct
    return counts


def ua_of_sums(correct_BE: Floats, support_BE: Floats) -> Floats:
    """Compute the UA of each row from sums [B, E], over the emotions that occur in it."""
    recall = np.divide(correct_BE, support_BE, out=np.zeros(support_BE.shape), where=support_BE > 0)
    return np.asarray(100 * recall.sum(axis=-1) / np.maximum(1, (support_BE > 0).sum(axis=-1)))


def utterance_bootstrap(counts_SEE: Counts, generator: np.random.Generator) -> dict[str, Bounds]:
    """Compute the naive interval, which resamples utterances as if they were independent."""
    correct_E = np.diagonal(counts_SEE.sum(axis=0))
    wrong_E = counts_SEE.sum(axis=(0, 2)) - correct_E
    cells = np.concatenate([correct_E, wrong_E])
    drawn = generator.multinomial(cells.sum(), cells / cells.sum(), size=RESAMPLES).astype(np.float64)
    ua_B = ua_of_sums(drawn[:, :EMOTIONS], drawn[:, :EMOTIONS] + drawn[:, EMOTIONS:])
    return {"utterance bootstrap": quantiles(ua_B, 0.025, 0.975)}


def speaker_bootstraps(counts_SEE: Counts, generator: np.random.Generator) -> dict[str, Bounds]:
    """Compute the intervals that resample speakers, and the linearised t interval.

    Percentile, expanded percentile (Hesterberg 2015), BCa and bootstrap-t (both Efron).
    """
    speakers = counts_SEE.shape[0]
    correct_SE = np.diagonal(counts_SEE, axis1=1, axis2=2).astype(np.float64)
    support_SE = counts_SEE.sum(axis=2).astype(np.float64)
    times_BS = generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES).astype(np.float64)
    ua_B = ua_of_sums(times_BS @ correct_SE, times_BS @ support_SE)
    ua, influence_S, se = linearised(np.ones(speakers), correct_SE, support_SE)
    t = stats.t.ppf(0.975, speakers - 1)
    tail = stats.norm.cdf(-np.sqrt(speakers / (speakers - 1)) * t)
    below = np.mean(ua_B < ua) + np.mean(ua_B == ua) / 2
    bias = stats.norm.ppf(np.clip(below, 0.001, 0.999))
    acceleration = (influence_S**3).sum() / (6 * (influence_S**2).sum() ** 1.5 + 1e-12)
    z = bias + np.array([-1.96, 1.96])
    bca = np.clip(stats.norm.cdf(bias + z / (1 - acceleration * z)), 0, 1)
    _, _, se_B = linearised(times_BS, correct_SE, support_SE)
    t_B = np.divide(ua_B - ua, se_B, out=np.sign(ua_B - ua) * 1e6, where=se_B > 1e-9)
    t_low, t_high = quantiles(t_B, 0.025, 0.975)
    return {
        "speaker percentile": quantiles(ua_B, 0.025, 0.975),
        "expanded percentile": quantiles(ua_B, tail, 1 - tail),
        "BCa": quantiles(ua_B, bca[0], bca[1]),
        "bootstrap-t": (ua - t_high * se, ua - t_low * se),
        "linearised t": (ua - t * se, ua + t * se),
    }


def linearised(times: Floats, correct_SE: Floats, support_SE: Floats) -> tuple[float, Floats, Floats]:
    """Compute the UA of a resample with each speaker's influence on it and its standard error.

    Args:
        times: [..., S] how often each speaker is in the resample.
        correct_SE: correct answers.
        support_SE: utterances.
    """
    support = np.maximum(times @ support_SE, 1)
    recall = (times @ correct_SE) / support
    influence = 100 * ((correct_SE - recall[..., None, :] * support_SE) / support[..., None, :]).mean(axis=-1)
    speakers = len(support_SE)
    se = np.sqrt(speakers / (speakers - 1) * (times * influence**2).sum(axis=-1))
    return float(100 * recall.mean()), influence, np.asarray(se)


def chosen(counts_SEE: Counts, _: np.random.Generator) -> dict[str, Bounds]:
    """Compute the package's interval; where it gives None, [0, 100] is counted."""
    interval = speaker_interval(counts_SEE)
    return {"chosen: logit jackknife-t": (interval.low, interval.high) if interval else (0.0, 100.0)}


def quantiles(values: Floats, low: float, high: float) -> Bounds:
    """Compute two quantiles."""
    bounds = np.quantile(values, [low, high])
    return float(bounds[0]), float(bounds[1])


def coverage_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """Estimate the coverage of each interval in per cent, and its mean width in percentage points."""
    rows: list[list[str]] = []
    for name, world in WORLDS.items():
        truth = world.true_ua()
        cells: dict[str, list[str]] = defaultdict(list)
        for speakers in SPEAKERS:
            bounds: dict[str, list[Bounds]] = defaultdict(list)
            for _ in range(repeats):
                counts = world.speakers(speakers, generator)
                for method in (utterance_bootstrap, speaker_bootstraps, chosen):
                    for label, (low, high) in method(counts, generator).items():
                        bounds[label].append((max(0.0, low), min(100.0, high)))
            for label, repeated_bounds in bounds.items():
                lows, highs = np.array(repeated_bounds).T
                coverage = 100 * np.mean((lows <= truth) & (truth <= highs))
                cells[label].append(f"{coverage:.1f} ({np.mean(highs - lows):.0f})")
        rows += [[name, label, *texts] for label, texts in cells.items()]
    return [["world", "95 % interval", *(f"{s} speakers" for s in SPEAKERS)], *rows]


def family_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """Estimate rejections at 5 %: of the six differences of four equal models, and of a model 9.5 points better."""
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
    """Estimate the optimism with speakers as folds: on each fold, its best configuration minus the overall best."""
    return float(np.mean(ua_CS.max(axis=0) - ua_CS[ua_CS.mean(axis=1).argmax()]))


def bbc(ua_CS: Floats, generator: np.random.Generator, resamples: int = 100) -> float:
    """Estimate the optimism by BBC-CV over speakers: select on the drawn speakers, score on those not drawn."""
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


def draw_configurations(logit_C: Floats, speakers: int, generator: np.random.Generator) -> Counts:
    """Draw confusion counts [C, S, E, E] of configurations that share speakers and utterances."""
    shape = (speakers, EMOTIONS, 5)
    shared = generator.normal(0, 0.5, shape[:2])[..., None] + generator.normal(0, 1, shape)
    own = generator.normal(0, 0.3, (logit_C.size, *shape[:2]))[..., None]
    chance = special.expit(0.4 + logit_C[:, None, None, None] + shared + own)
    correct = (generator.random(chance.shape) < chance).sum(axis=-1)
    return as_confusion(correct, np.full(correct.shape, shape[2]))


def optimism_table(repeats: int, generator: np.random.Generator) -> list[list[str]]:
    """Estimate the optimism of the winner's UA in percentage points, and the bias (RMSE) of each estimate of it."""
    rows = [["configurations", "number", "speakers", "optimism", "Tibshirani²", "BBC-CV", "chosen"]]
    for name, qualities in CROWDS.items():
        for number in (12, 150):
            for speakers in (2, 4, 8):
                truths, errors = [], []
                for _ in range(repeats):
                    logit_C = qualities(number, generator)
                    counts = draw_configurations(logit_C, speakers, generator)
                    selection, ua_CS = select_best(counts), mean_recall(counts)
                    assert selection.optimism is not None
                    true_C = true_uas(logit_C)
                    # Which speakers validate moves all configurations alike. Subtracting the means removes that.
                    truth = selection.validation_ua - ua_CS.mean() - true_C[selection.best] + true_C.mean()
                    estimates = (tibshirani_tibshirani(ua_CS), bbc(ua_CS, generator), selection.optimism)
                    truths.append(truth)
                    errors.append(np.array(estimates) - truth)
                bias, rms = np.mean(errors, axis=0), np.sqrt(np.mean(np.square(errors), axis=0))
                cells = [f"{b:+.1f} ({r:.1f})" for b, r in zip(bias, rms, strict=True)]
                rows.append([name, str(number), str(speakers), f"{np.mean(truths):.1f}", *cells])
    return rows


def true_uas(logit_C: Floats) -> Floats:
    """Compute the UA of each configuration of `draw_configurations` over the population of speakers and utterances."""
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
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    show("Coverage in per cent (mean width in points)", coverage_table(arguments.repeats, generator))
    show("Speaker sign-flip tests, at 5 %", family_table(arguments.repeats, generator))
    show(
        "Optimism of the best; estimate minus truth: bias (RMSE)",
        optimism_table(max(1, arguments.repeats // 4), generator),
    )


if __name__ == "__main__":
    main()

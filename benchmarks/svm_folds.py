"""Leave-one-subject-out of SVMs: ours by one matrix of products, against scikit-learn's GridSearchCV on the vectors.

    python benchmarks/svm_folds.py [--dimensions 384 6373] [--folds 23] [--limit 600]

24 speakers of 48 generated utterances each (RAVDESS' size), one left out; every configuration is fitted with each of
the 23 others left out in turn. Both sides standardise beforehand and use one thread; times are CPU seconds. Folds are
alike, so scikit-learn's sides may fit some of them only, and their time is scaled up to all; the UA of these folds is
compared. LinearSVC, which is not the same machine (one against the rest, squared hinge), is timed for comparison. A
side that passes the limit, in seconds of the clock, is printed as such.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results_file import write_results
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from sersearch.models.svm import standardise
from sersearch.store.vectors.reader import VectorSet
from sersearch.study.configuration import SVMConfiguration
from sersearch.study.fold import Fold
from sersearch.study.trial import Trial
from sersearch.training.svm import multiply, standardise_speakers
from sersearch.training.system import run_trial

Indices = NDArray[np.int64]
Side = Callable[[int, int], dict[str, object]]

SPEAKERS, UTTERANCES, EMOTIONS = 23, 48, 6
GRID = [("linear", C, 1.0) for C in (1.0, 10.0)] + [("rbf", C, gamma) for C in (1.0, 10.0) for gamma in (0.3, 1.0)]


def generated(dimensions: int) -> VectorSet:
    """Speakers with voices and faint emotions."""
    generator = np.random.default_rng(0)
    count = SPEAKERS * UTTERANCES
    emotion = np.tile(np.arange(EMOTIONS), count // EMOTIONS)
    speaker = np.repeat([f"s{number:02}" for number in range(SPEAKERS)], UTTERANCES)
    means = generator.standard_normal((EMOTIONS, dimensions)) * 1.5 / np.sqrt(dimensions) * 4
    voices = np.repeat(generator.standard_normal((SPEAKERS, dimensions)), UTTERANCES, axis=0)
    x = voices + means[emotion] + generator.standard_normal((count, dimensions))
    names = tuple(map(str, range(dimensions)))
    ids = tuple(map(str, range(count)))
    return VectorSet("generated", names, x, ids, speaker, np.full(count, ""), emotion, "")


def ours(dimensions: int, folds: int) -> dict[str, object]:
    """Products once, folds of them, all of them."""
    found = generated(dimensions)
    start = time.process_time()
    vectors = multiply(standardise_speakers(found), tuple(map(str, range(EMOTIONS))), "generated")
    fold = Fold(train=tuple(np.unique(found.speaker).tolist()), validation=())
    ua = []
    for kernel, C, gamma in GRID:
        settings = {
            "model": "SVM",
            "features": "generated",
            "kernel": kernel,
            "C": C,
            "gamma": gamma,
            "protocol": "loso",
        }
        trial = Trial(configuration=SVMConfiguration.model_validate(settings), fold=fold, data="generated")
        counts = np.array(list(run_trial(trial, vectors).confusion["clean"].values()))
        ua.append((np.diagonal(counts, axis1=1, axis2=2) / counts.sum(2)).mean(1)[:folds].tolist())
    return {"seconds": time.process_time() - start, "ua": ua}


def plain(dimensions: int, folds: int) -> dict[str, object]:
    """GridSearchCV, as its documentation has it."""
    found = generated(dimensions)
    start = time.process_time()
    x = standardise(found.x_UD, found.speaker)
    standardised = time.process_time()
    splits = left_out(x, found, folds)
    ua = []
    for kernel, C, gamma in GRID:
        scaled = {"C": [C / dimensions]} if kernel == "linear" else {"C": [C], "gamma": [gamma / dimensions]}
        search = GridSearchCV(
            SVC(kernel=kernel, class_weight="balanced", cache_size=500), scaled,
            scoring="balanced_accuracy", cv=splits, refit=False,
        )  # fmt: skip
        search.fit(x, found.emotion)
        ua.append([float(search.cv_results_[f"split{fold}_test_score"][0]) for fold in range(folds)])
    return {"seconds": of_all_folds(start, standardised, folds), "ua": ua}


def linear_svc(dimensions: int, folds: int) -> dict[str, object]:
    """LinearSVC for the linear configurations alone."""
    found = generated(dimensions)
    start = time.process_time()
    x = standardise(found.x_UD, found.speaker)
    standardised = time.process_time()
    splits = left_out(x, found, folds)
    for kernel, C, _ in GRID:
        if kernel == "linear":
            machine = LinearSVC(C=C / dimensions, class_weight="balanced", max_iter=10_000)
            GridSearchCV(machine, {"C": [C / dimensions]}, cv=splits, refit=False).fit(x, found.emotion)
    return {"seconds": of_all_folds(start, standardised, folds)}


def left_out(x: NDArray[np.float64], found: VectorSet, folds: int) -> list[tuple[Indices, Indices]]:
    """The first folds of leaving one speaker out."""
    return list(islice(LeaveOneGroupOut().split(x, found.emotion, found.speaker), folds))


def of_all_folds(start: float, standardised: float, folds: int) -> float:
    """CPU seconds that all folds would have taken; standardisation is done once."""
    return standardised - start + (time.process_time() - standardised) * SPEAKERS / folds


def _alone(side: Side, dimensions: int, folds: int, results: "multiprocessing.Queue[object]") -> None:
    with threadpool_limits(1):
        results.put(side(dimensions, folds))


def timed(side: Side, dimensions: int, folds: int, limit_s: float) -> dict[str, object] | None:
    """A side in a process of its own; None where it passes the limit."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_alone, args=(side, dimensions, folds, results))
    process.start()
    try:
        found: dict[str, object] = results.get(timeout=limit_s)
        return found
    except Exception:
        return None
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Measure each size, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[384, 1582, 6373])
    parser.add_argument("--folds", type=int, default=SPEAKERS, help="of scikit-learn's sides, their time scaled up")
    parser.add_argument("--limit", type=float, default=600)
    options = parser.parse_args()
    rows = []
    for dimensions in options.dimensions:
        sides = {
            side.__name__: timed(side, dimensions, options.folds, options.limit) for side in (ours, plain, linear_svc)
        }
        own, other = sides["ours"], sides["plain"]
        assert own
        seconds = {name: found["seconds"] if found else None for name, found in sides.items()}
        same = bool(other and np.allclose(np.array(own["ua"]), np.array(other["ua"]), atol=0.05))
        ratio = seconds["plain"] / seconds["ours"] if other else None  # type: ignore[operator]
        rows.append(
            {"dimensions": dimensions, "folds": options.folds, "seconds": seconds, "ratio": ratio, "same_ua": same}
        )
        exact = np.mean(np.array(own["ua"]) == np.array(other["ua"])) if other else 0
        print(
            f"D = {dimensions}: "
            + ", ".join(f"{name} {'over the limit' if s is None else f'{s:.1f} s'}" for name, s in seconds.items())
            + (f"; {ratio:.1f} times GridSearchCV; UA of {100 * exact:.0f} % of the folds the same" if ratio else ""),
            flush=True,
        )
    write_results(Path(__file__).parent / "results" / "svm_folds.json", {"rows": rows})


if __name__ == "__main__":
    main()

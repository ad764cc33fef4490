"""Leave-one-subject-out of SVMs: ours by one matrix of products, against scikit-learn's GridSearchCV on the vectors.

    python benchmarks/svm_folds.py [--dimensions 384 6373] [--limit 600]

24 speakers of 48 generated utterances each (RAVDESS' size), one left out; every configuration is fitted with each of
the 23 others left out in turn. Both sides standardise beforehand and use one thread; their UA of each fold is compared.
LinearSVC, which is not the same machine (one against the rest, squared hinge), is timed for comparison. A side that
passes the limit is printed as such.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from sersearch.architecture import SVMConfiguration
from sersearch.baseline import make_vectors, run_svm
from sersearch.functionals import Functionals
from sersearch.models.svm import standardise
from sersearch.study import Trial

SPEAKERS, UTTERANCES, EMOTIONS = 23, 48, 6
GRID = [("linear", C, 1.0) for C in (1.0, 10.0)] + [("rbf", C, gamma) for C in (1.0, 10.0) for gamma in (0.3, 1.0)]


def generated(dimensions: int) -> Functionals:
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
    return Functionals("generated", names, x, ids, speaker, np.full(count, ""), emotion, "")


def ours(dimensions: int) -> dict[str, object]:
    """Products once, folds of them."""
    found = generated(dimensions)
    start = time.perf_counter()
    vectors = make_vectors(found, tuple(map(str, range(EMOTIONS))))
    ua = []
    for kernel, C, gamma in GRID:
        settings = {"features": "generated", "kernel": kernel, "C": C, "gamma": gamma, "protocol": "loso"}
        trial = Trial(SVMConfiguration.model_validate(settings), 0, "", "left out")
        counts = np.array(list(run_svm(trial, vectors, (), ()).confusion["clean"].values()))
        ua.append((np.diagonal(counts, axis1=1, axis2=2) / counts.sum(2)).mean(1).tolist())
    return {"seconds": time.perf_counter() - start, "ua": ua}


def plain(dimensions: int) -> dict[str, object]:
    """GridSearchCV, as its documentation has it."""
    found = generated(dimensions)
    start = time.perf_counter()
    x = standardise(found.x_UD, found.speaker)
    ua = []
    for kernel, C, gamma in GRID:
        scaled = {"C": [C / dimensions]} if kernel == "linear" else {"C": [C], "gamma": [gamma / dimensions]}
        search = GridSearchCV(
            SVC(kernel=kernel, class_weight="balanced", cache_size=500), scaled,
            scoring="balanced_accuracy", cv=LeaveOneGroupOut(), refit=False,
        )  # fmt: skip
        search.fit(x, found.emotion, groups=found.speaker)
        ua.append([float(search.cv_results_[f"split{fold}_test_score"][0]) for fold in range(SPEAKERS)])
    return {"seconds": time.perf_counter() - start, "ua": ua}


def linear_svc(dimensions: int) -> dict[str, object]:
    """LinearSVC for the linear configurations alone."""
    found = generated(dimensions)
    start = time.perf_counter()
    x = standardise(found.x_UD, found.speaker)
    for kernel, C, _ in GRID:
        if kernel == "linear":
            machine = LinearSVC(C=C / dimensions, class_weight="balanced", max_iter=10_000)
            GridSearchCV(machine, {"C": [C / dimensions]}, cv=LeaveOneGroupOut(), refit=False).fit(
                x, found.emotion, groups=found.speaker
            )
    return {"seconds": time.perf_counter() - start}


def _alone(side: Callable[[int], dict[str, object]], dimensions: int, results: "multiprocessing.Queue[object]") -> None:
    with threadpool_limits(1):
        results.put(side(dimensions))


def timed(side: Callable[[int], dict[str, object]], dimensions: int, limit_s: float) -> dict[str, object] | None:
    """A side in a process of its own; None where it passes the limit."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_alone, args=(side, dimensions, results))
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
    parser.add_argument("--limit", type=float, default=600)
    options = parser.parse_args()
    rows = []
    for dimensions in options.dimensions:
        sides = {side.__name__: timed(side, dimensions, options.limit) for side in (ours, plain, linear_svc)}
        own, other = sides["ours"], sides["plain"]
        assert own
        seconds = {name: found["seconds"] if found else None for name, found in sides.items()}
        same = bool(other and np.allclose(np.array(own["ua"]), np.array(other["ua"]), atol=0.05))
        ratio = seconds["plain"] / seconds["ours"] if other else options.limit / seconds["ours"]  # type: ignore[operator]
        rows.append({"dimensions": dimensions, "seconds": seconds, "ratio": ratio, "same_ua": same})
        exact = np.mean(np.array(own["ua"]) == np.array(other["ua"])) if other else 0
        print(
            f"D = {dimensions}: "
            + ", ".join(f"{name} {'over the limit' if s is None else f'{s:.1f} s'}" for name, s in seconds.items())
            + f"; {ratio:.1f} times GridSearchCV{'' if other else ' at least'}; "
            f"UA of {100 * exact:.0f} % of the folds the same",
            flush=True,
        )
    file = Path(__file__).parent / "results" / "svm_folds.json"
    file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

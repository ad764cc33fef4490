"""Forecast five small studies and then run them: how far the forecasts are from the wall time that was taken.

    sersearch features --corpus ravdess=DIR --noise DIR --noises 1 --snrs 1 --out STORE
    sersearch functionals STORE --corpus ravdess=DIR --set IS09
    python benchmarks/forecast.py --store STORE                   on a machine that does nothing else
    python benchmarks/forecast.py --store STORE --only svms early

Each study is forecast by `sersearch plan --calibrate` and run by `sersearch search`, one after another, as a person
would. The real time is that of the whole command. A forecast is right if the real time lies in its 80 % interval, and
of use if the interval's ends differ by a factor of at most 1.6.

With early stopping little is known before a trial is done. That study is therefore also stopped when five trials are
done, forecast again with `--run`, and resumed; the row "early, 5 done" is about the rest.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_file import write_results

WIDEST = 1.6
SEEN = 5
"""Trials of the study with early stopping that are done before it is forecast again."""

SMALL = "maps = 16\ncells = 32\ndense = [64]\n"

STUDIES: dict[str, str] = {
    "fst": 'spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = "2:3" }]\n[training]\nepochs = EPOCHS\n',
    "table-4": (
        'spaces = [{ name = "fst", model = "FST-CLDNN", w1 = [3, 8], w2 = 2 }, '
        '{ name = "t", model = "T-CLDNN", w1 = [3, 8], w2 = 3 }, '
        '{ name = "s", model = "S-CLDNN", h1 = [4, 9], h2 = 3 }, '
        '{ name = "ldnn", model = "LDNN", features = ["log-mels", "mfccs"] }]\n[training]\nepochs = EPOCHS\n'
    ),
    "svms": (
        'spaces = [{ name = "svm", model = "SVM", features = "IS09", protocol = ["partition", "loso"], '
        'kernel = ["linear", "polynomial", "rbf"], C = [1, 10, 100] }]\n'
    ),
    "two-stage": (
        'spaces = [{ name = "s", model = "S-CLDNN", h1 = [4, 9], h2 = 3 }, '
        '{ name = "t", model = "T-CLDNN", w1 = [3, 8], w2 = 3 }, '
        '{ name = "st", model = "ST-CLDNN", h1 = [4, 9], h2 = 3, w1 = [3, 8], w2 = 3, '
        'top = { k = 2, h = "s", w = "t" } }]\n[training]\nepochs = EPOCHS\n'
    ),
    "early": (
        'spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = "2:3", learning_rate = [0.001, 0.003] }]\n'
        "[training]\n"
    ),
}


def sersearch(*words: object) -> subprocess.Popen[str]:
    """Start a command."""
    command = [sys.executable, "-m", "sersearch", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str], allowed: Sequence[int] = (0,)) -> str:
    """Wait for a command; its standard output."""
    out, error = process.communicate()
    if process.returncode not in allowed:
        raise SystemExit(f"{' '.join(map(str, process.args))}: {error}")  # type: ignore[arg-type]
    return out


def forecast(study: Path, *words: object) -> dict[str, Any]:
    """What `plan --calibrate` says, in seconds."""
    facts = json.loads(answer(sersearch("plan", study, "--calibrate", "--format", "json", *words)))
    found: dict[str, Any] = facts["forecast"]
    return found


def timed(*words: object) -> float:
    """Seconds of a whole command."""
    start = time.perf_counter()
    answer(sersearch(*words))
    return time.perf_counter() - start


def row(name: str, said: Mapping[str, Any], real_s: float, trials: int) -> dict[str, Any]:
    """Compare a forecast with what was taken."""
    low, middle, high = (said["wall_s"][end] for end in ("low", "middle", "high"))
    return {
        "study": name,
        "trials": trials,
        "low_s": low,
        "middle_s": middle,
        "high_s": high,
        "width": high / low,
        "real_s": real_s,
        "inside": low <= real_s <= high,
        "load": os.getloadavg()[0],
        "assumptions": said["assumptions"],
    }


def count_results(run: Path) -> int:
    """How many trials are done."""
    return len(list(run.glob("trials/*/result.json")))


def measure(name: str, store: Path, epochs: int, small: bool, folder: Path) -> list[dict[str, Any]]:
    """Forecast and run one study; its row, or two where it stops early."""
    study, run = folder / f"{name}.toml", folder / name
    text = STUDIES[name].replace("EPOCHS", f"{epochs}\npatience = {epochs}")
    study.write_text(text + (SMALL if small and "[training]" in text else ""))
    said = forecast(study, "--store", store)
    if name != "early":
        real_s = timed("search", study, "--store", store, "--run", run)
        return [row(name, said, real_s, count_results(run))]
    start = time.perf_counter()
    process = sersearch("search", study, "--store", store, "--run", run)
    while count_results(run) < SEEN and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    answer(process, (0, 1))
    begun_s = time.perf_counter() - start
    done = count_results(run)
    again = forecast(study, "--run", run)
    rest_s = timed("resume", run)
    every = count_results(run)
    return [row(name, said, begun_s + rest_s, every), row(f"{name}, {done} done", again, rest_s, every - done)]


COLUMNS = ("study", "trials", "forecast", "80 % interval", "factor", "real", "inside", "load")


def cells(found: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    return [
        found["study"],
        str(found["trials"]),
        f"{found['middle_s']:.0f} s",
        f"{found['low_s']:.0f} to {found['high_s']:.0f} s",
        f"{found['width']:.2f}{'' if found['width'] <= WIDEST else ' (too wide)'}",
        f"{found['real_s']:.0f} s",
        "yes" if found["inside"] else "no",
        f"{found['load']:.1f}",
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a store of RAVDESS with vectors of the set IS09")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial that does not stop early (3)")
    parser.add_argument("--small", action="store_true", help="train small networks, for a quick look")
    parser.add_argument("--only", nargs="+", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--keep", type=Path, help="a folder for the runs; otherwise they are removed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "forecast.json")
    given = parser.parse_args()
    rows = []
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + " --- |" * len(COLUMNS))
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        kept = given.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        for name in given.only:
            for found in measure(name, given.store.resolve(), given.epochs, given.small, kept):
                rows.append(found)
                print(f"| {' | '.join(cells(found))} |", flush=True)
    inside = sum(found["inside"] for found in rows)
    print(f"{inside} of {len(rows)} real times are in their intervals")
    write_results(given.out, {"epochs": given.epochs, "small": given.small, "rows": rows})


if __name__ == "__main__":
    main()

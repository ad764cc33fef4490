"""Kill real searches at random, resume them, and hold the leaderboards against that of an uninterrupted one.

    python benchmarks/soak.py --kills 100 [--seed 0]

Each round starts a search of a tiny study, kills the driver, a worker, all workers, the raylet or the GCS at a random
moment, again and again, until the study is complete; then the leaderboard must be byte for byte that of a search that
nobody disturbed, and no finished trial may have been written twice. Prints a line a round and a summary; exits with 1
at the first difference, leaving the run's folder for a look.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import soundfile

STUDY = """
name = "soak"
spaces = [
    { name = "s", model = "S-CLDNN", h1 = [5, 22], h2 = 3 },
    { name = "t", model = "T-CLDNN", w1 = [3, 6], w2 = 2 },
    { name = "st", model = "ST-CLDNN", h1 = [5, 22], h2 = 3, w1 = [3, 6], w2 = 2, top = { k = 1, h = "s", w = "t" } },
    { name = "fst", model = "FST-CLDNN", features = ["log-mels", "mfccs"], w1 = [3, 8], w2 = 2 },
]
[training]
epochs = 40
patience = 40
maps = 4
cells = 6
dense = [8]
"""

# Of one start of a search; a trial whose worker is lost a fourth time counts as failed.
STRIKES = 3
# Ray takes some five seconds to start, and what is killed before that has trained nothing.
PAUSE_S = 1.0, 18.0
VICTIMS = ("driver", "worker", "workers", "raylet", "gcs_server")


def make_corpus(folder: Path) -> None:
    """Six speakers, three emotions, two utterances each: tones with noise."""
    generator = np.random.default_rng(0)
    lines = ["path,speaker,emotion"]
    for speaker in range(6):
        for emotion, pitch_hz in (("anger", 330), ("happiness", 240), ("sadness", 150)):
            for take in range(2):
                t = np.arange(6400) / 16_000
                wave = 0.1 * np.sin(2 * np.pi * pitch_hz * (1 + 0.02 * speaker) * t)
                name = f"{speaker}-{emotion}-{take}.flac"
                soundfile.write(folder / name, wave + 0.01 * generator.standard_normal(t.size), 16_000)
                lines.append(f"{name},s{speaker},{emotion}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def sersearch(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "sersearch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def family(driver: int) -> dict[str, list[psutil.Process]]:
    """The processes of a search by what they are."""
    found: dict[str, list[psutil.Process]] = {"raylet": [], "gcs_server": [], "worker": []}
    for process in psutil.Process(driver).children(recursive=True):
        try:
            title = (process.cmdline() or [""])[0]
            name = process.name()
        except psutil.Error:
            continue
        if name in found:
            found[name].append(process)
        elif title.startswith("ray::ResourceTrainable"):
            found["worker"].append(process)
    return found


def strike(driver: subprocess.Popen[bytes], victim: str, chance: random.Random) -> bool:
    """Kill a victim; whether there was one."""
    if victim == "driver":
        os.killpg(driver.pid, signal.SIGKILL)
        return True
    found = family(driver.pid)["worker" if victim.startswith("worker") else victim]
    if victim == "worker" and found:
        found = [chance.choice(found)]
    for process in found:
        process.kill()
    return bool(found)


def results(run: Path) -> dict[str, int]:
    """When each finished trial was committed."""
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob("trials/*/result.json")}


def leaderboard(run: Path) -> bytes:
    """The leaderboard's bytes."""
    assert sersearch("report", run).returncode == 0
    return (run / "report" / "leaderboard.csv").read_bytes()


def disturb(run: Path, words: list[object], chance: random.Random, kills: Counter[str], limit: int) -> None:
    """Start a search and kill something of it again and again until it is complete."""
    log = (run.parent / f"{run.name}.log").open("ab")
    while True:
        before = results(run)
        command = [sys.executable, "-m", "sersearch", *map(str, words)]
        driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(STRIKES):
            time.sleep(chance.uniform(*PAUSE_S))
            victim = chance.choice(VICTIMS)
            if driver.poll() is not None or sum(kills.values()) >= limit:
                break
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                kills[victim] += strike(driver, victim, chance)
        code = driver.wait(timeout=300)
        after = results(run)
        assert before.items() <= after.items(), "a finished trial was written again"
        if code == 0:
            return
        words = ["resume", run] if (run / "run.json").exists() else words


def main() -> int:
    """Run rounds until there were enough kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    (folder / "speech").mkdir()
    make_corpus(folder / "speech")
    study, store = folder / "study.toml", folder / "store"
    study.write_text(STUDY)
    sersearch("features", "--corpus", f"soak={folder / 'speech'}", "--out", store)
    assert sersearch("search", study, "--store", store, "--run", folder / "plain").returncode == 0
    expected = leaderboard(folder / "plain")
    kills: Counter[str] = Counter()
    rounds = 0
    started = time.monotonic()
    while sum(kills.values()) < options.kills:
        run = folder / f"run-{rounds}"
        disturb(run, ["search", study, "--store", store, "--run", run], chance, kills, options.kills)
        same = leaderboard(run) == expected
        faults = json.loads(sersearch("status", run, "--verify", "--format", "json").stdout)["faults"]
        rounds += 1
        print(f"round {rounds}: {sum(kills.values())} kills so far, leaderboard {'the same' if same else 'DIFFERS'}, "
              f"{faults} faults", flush=True)  # fmt: skip
        if not same or faults:
            print(f"see {run}")
            return 1
    minutes = (time.monotonic() - started) / 60
    print(f"{sum(kills.values())} kills ({dict(kills)}) in {rounds} searches, {minutes:.0f} min: all the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Send signals to real commands at random moments, and compare what they make with what undisturbed ones make.

    python benchmarks/soak.py --signals 200 [--seed 0]

Each round builds a store (features), adds functionals to it, searches a tiny study on it, reports the run and probes
it. Each command is started again until it ends with exit code 0. Meanwhile it is killed (KILL), interrupted as by
Ctrl-C (INT), or stopped for some seconds and continued (STOP): the command, one or all of its workers, Ray's raylet or
its GCS. Files, leaderboard and findings must be byte for byte those of the undisturbed commands; no finished trial may
be written twice; nothing may print a traceback; an interrupted command must end within seconds. Prints one line per
round and a summary by kind; exits with 1 at the first difference, and leaves the folder to be examined.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
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
[resources]
checkpoint_every_s = 0.3
"""

# A command that is killed in the instant in which it starts a process leaves that process without its job. Python
# itself then says so and ends, before any of our code runs.
ORPHAN = re.compile(
    rb"Traceback \(most recent call last\):\n"
    rb'  File "<string>", line 1, in <module>\n'
    rb"(?:  .*\n)+"
    rb"(?:EOFError: Ran out of input|_pickle.UnpicklingError: pickle data was truncated)\n"
)

COMMANDS = ("features", "functionals", "search", "report", "probe")
KINDS = ("KILL", "INT", "STOP")
# Of one start of a command; the last start is left alone, so that every command ends.
STRIKES = 3
STOPPED_S = 0.5, 8.0
# Ctrl-C of a search waits for the checkpoints of the running trials.
INTERRUPTED_S = 60.0


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


class Round:
    """One store and one run, and the commands that make them."""

    def __init__(self, shared: Path, name: str) -> None:
        """Prepare a round; nothing is written.

        Args:
            shared: folder with the corpus `speech` and `study.toml`.
            name: name of the round's folder.
        """
        self.folder = shared / name
        self.store, self.run = self.folder / "store", self.folder / "run"
        corpus, study = f"soak={shared / 'speech'}", shared / "study.toml"
        words: dict[str, list[object]] = {
            "features": ["features", "--corpus", corpus, "--out", self.store],
            "functionals": ["functionals", "--corpus", corpus, "--out", self.store, "--sets", "IS09,IS13"],
            "search": ["search", study, "--store", self.store, "--run", self.run],
            "report": ["report", self.run],
            "probe": ["probe", self.run, "--format", "json"],
        }
        self.commands = {
            name: [sys.executable, "-m", "sersearch", *map(str, command)] for name, command in words.items()
        }

    def made(self, command: str, printed: bytes) -> dict[str, str]:
        """Hash what a command has made, by name."""
        if command == "features":
            return hashes(self.store, "*.parquet")
        if command == "functionals":
            return hashes(self.store, "vectors/*/*")
        if command == "probe":
            return {"findings": hashlib.sha256(printed).hexdigest()}
        if command == "report":
            openings = {path.name: "once" for path in (self.run / "openings").iterdir()}
            return hashes(self.run, "report/leaderboard.csv") | openings
        return {key: "done" for key in finished(self.run)}


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """Hash files by their paths in a folder."""
    files = sorted(folder.glob(pattern))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def finished(run: Path) -> dict[str, int]:
    """Look up when each finished trial was committed."""
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob("trials/*/result.json")}


class Disturbance:
    """Sends signals, and counts them.

    Attributes:
        counts: signals by (command, kind, victim).
        slowest_s: longest time that an interrupted command took to end, by command.
    """

    def __init__(self, chance: random.Random, limit: int) -> None:
        """Prepare to send so many signals."""
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.slowest_s: Counter[str] = Counter()
        self._chance = chance
        self._limit = limit

    @property
    def left(self) -> int:
        """How many signals are left to send."""
        return self._limit - self.counts.total()

    def complete(self, name: str, command: list[str], log: Path, undisturbed_s: float, run: Path) -> bytes:
        """Start a command again and again, with fewer signals each time, until it is done; return what it printed."""
        for strikes in (STRIKES, STRIKES, STRIKES, 2, 1, *[0] * 5):
            before = finished(run)
            with log.open("ab") as said, tempfile.TemporaryFile() as printed:
                process = subprocess.Popen(command, stdout=printed, stderr=said, start_new_session=True)
                for _ in range(strikes):
                    time.sleep(self._chance.uniform(0.1, 1.1 * undisturbed_s))
                    if process.poll() is not None or not self.left:
                        break
                    with contextlib.suppress(psutil.Error, ProcessLookupError):
                        self._strike(name, process)
                code = process.wait(timeout=600)
                printed.seek(0)
                output = printed.read()
            assert before.items() <= finished(run).items(), "a finished trial was written again"
            assert b"Traceback" not in ORPHAN.sub(b"", log.read_bytes()), f"a traceback: see {log}"
            if code == 0:
                return output
            assert code in (1, 130, -signal.SIGINT, -signal.SIGKILL), f"exit code {code}: see {log}"
        raise AssertionError(f"{name} does not end although nothing disturbs it: see {log}")

    def _strike(self, name: str, process: subprocess.Popen[bytes]) -> None:
        kind = self._chance.choice(KINDS)
        victim = "command"
        victims = family(process.pid)
        if kind == "INT":
            # A terminal sends Ctrl-C to every process of the command.
            os.killpg(process.pid, signal.SIGINT)
            started = time.monotonic()
            process.wait(timeout=INTERRUPTED_S)
            self.slowest_s[name] = max(self.slowest_s[name], time.monotonic() - started)  # type: ignore[assignment]
        else:
            victim = self._chance.choice([victim for victim, processes in victims.items() if processes])
            for struck in victims[victim]:
                self._send(kind, struck)
        self.counts[name, kind, victim] += 1

    def _send(self, kind: str, process: psutil.Process) -> None:
        if kind == "KILL":
            process.kill()
            return
        process.suspend()
        time.sleep(self._chance.uniform(*STOPPED_S))
        process.resume()


def family(pid: int) -> dict[str, list[psutil.Process]]:
    """List the processes of a command by what they are."""
    found: dict[str, list[psutil.Process]] = {"command": [psutil.Process(pid)]}
    workers: list[psutil.Process] = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            title, name = " ".join(process.cmdline()), process.name()
        except psutil.Error:
            continue
        if name in ("raylet", "gcs_server"):
            found[name] = [process]
        elif title.startswith("ray::ResourceTrainable") or "multiprocessing.spawn" in title:
            workers.append(process)
    return found | {"workers": workers, "a worker": workers[:1]}


def undisturbed(shared: Path) -> dict[str, tuple[float, dict[str, str]]]:
    """Run each command once; return its seconds, and what it makes."""
    calm = Round(shared, "undisturbed")
    expected: dict[str, tuple[float, dict[str, str]]] = {}
    for name, command in calm.commands.items():
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        expected[name] = time.monotonic() - started, calm.made(name, done.stdout)
    return expected


def main() -> int:
    """Run rounds until there were enough signals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shared = Path(tempfile.mkdtemp(prefix="soak-"))
    (shared / "speech").mkdir()
    make_corpus(shared / "speech")
    (shared / "study.toml").write_text(STUDY)
    started = time.monotonic()
    expected = undisturbed(shared)
    disturbance = Disturbance(random.Random(options.seed), options.signals)
    rounds = 0
    while disturbance.left:
        rounds += 1
        disturbed = Round(shared, f"round-{rounds}")
        disturbed.folder.mkdir()
        for name, command in disturbed.commands.items():
            seconds, wanted = expected[name]
            log = disturbed.folder / f"{name}.log"
            printed = disturbance.complete(name, command, log, seconds, disturbed.run)
            if disturbed.made(name, printed) != wanted:
                print(f"{name} made something else: see {disturbed.folder} and {shared / 'undisturbed'}")
                return 1
        verify = [sys.executable, "-m", "sersearch", "status", str(disturbed.run), "--verify", "--format", "json"]
        faults = json.loads(subprocess.run(verify, capture_output=True, check=False).stdout)["faults"]
        print(f"round {rounds}: {disturbance.counts.total()} signals so far, all the same, {faults} faults", flush=True)
        if faults:
            print(f"see {disturbed.run}")
            return 1
    minutes = (time.monotonic() - started) / 60
    print(f"{disturbance.counts.total()} signals in {rounds} rounds, {minutes:.0f} min: all the same")
    for (name, kind, victim), count in sorted(disturbance.counts.items()):
        print(f"{name:12} {kind:5} {victim:10} {count}")
    for name, seconds in disturbance.slowest_s.items():
        print(f"{name:12} ended at most {seconds:.1f} s after INT")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Build, kill, verify and describe a store of the paper's size: eNTERFACE'05 as it unpacks, in 61 copies.

    pip install 'sersearch[video]'
    python benchmarks/paper_size.py                              1,287 clips, 78,507 copies, 20 kills
    python benchmarks/paper_size.py --subjects 3 --kills 3       in a minute

The corpus is generated: 44 subjects' AVI files with video and with sound at 48 kHz, in the folders and with the
irregularities of eNTERFACE'05, and a table of genders. So is the noise library: 929 clips of 6 s, as many as MUSAN has
in the paper. Clips take 1 to 2.5 s; the paper's take 2.78 s in the mean.

One build is undisturbed. The other one is killed at random moments, the command alone or with all its workers, and
started again. Both must have the same bytes in every file, and `sersearch store --verify` must find no fault. Times are
CPU times of all processes together, so that other work on the machine changes them little. Exits with 1 if a file
differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from results_file import write_results

EMOTIONS = {"anger": "an", "disgust": "di", "fear": "fe", "happiness": "ha", "sadness": "sa", "surprise": "su"}
SUBJECTS, WITHOUT_SENTENCES, NOISES = 44, 6, 929
RATE, NOISE_RATE = 48_000, 16_000
CLIP_S, LONG_S, NOISE_S = (1.0, 2.5), 30.0, 6.0
FRAME_RATE, PICTURE = 25, (32, 32, 3)

Found = dict[str, Any]


def make_corpus(folder: Path, subjects: int) -> None:
    """Generate eNTERFACE'05 as it unpacks, and `genders.csv` beside it."""
    for number, path in enumerate(clip_paths(subjects)):
        generator = np.random.default_rng(number)
        seconds = LONG_S if "sentence" not in path else generator.uniform(*CLIP_S)
        file = folder / "enterface" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_video(file, voice(generator, seconds))
        (file.parent / "Thumbs.db").touch()
    women = {3, 9, 15, 21, 27, 33, 39, 44}
    present = [subject for subject in range(1, subjects + 1) if subject != WITHOUT_SENTENCES]
    lines = [f"{subject},{'female' if subject in women else 'male'}" for subject in present]
    (folder / "genders.csv").write_text("\n".join(["speaker,gender", *lines, ""]))


def clip_paths(subjects: int) -> Iterator[str]:
    """Paths of eNTERFACE'05's clips, wrong names and missing sentences included."""
    for subject, (emotion, code) in product(range(1, subjects + 1), EMOTIONS.items()):
        if subject == WITHOUT_SENTENCES:
            yield f"subject {subject}/{emotion}/s{subject}_{code}.avi"
            continue
        for sentence in range(1, 6):
            if (subject, emotion) == (23, "happiness") and sentence < 4:
                continue
            stem = f"s{12 if subject == 11 else subject}_{code}_{sentence}"
            stem = f"s_{subject}_{code}_{sentence}" if (subject, sentence) == (3, 2) else stem
            stem = "s16_su_3avi" if (subject, code, sentence) == (16, "su", 3) else stem
            yield f"subject {subject}/{emotion}/sentence {sentence}/{stem}.avi"


def voice(generator: np.random.Generator, seconds: float) -> NDArray[np.int16]:
    """Harmonics of a wavering pitch in syllables, with some noise: samples [N] at 48 kHz."""
    time_N = np.arange(int(seconds * RATE)) / RATE
    pitch_N = generator.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * generator.uniform(0.5, 2) * time_N))
    phase_N = 2 * np.pi * np.cumsum(pitch_N) / RATE
    harmonics_N = sum(np.sin(number * phase_N) / number for number in range(1, 8))
    syllables_N = 0.6 + 0.4 * np.sin(2 * np.pi * generator.uniform(2, 5) * time_N)
    sound_N = 0.1 * syllables_N * harmonics_N + 0.003 * generator.standard_normal(time_N.size)
    return np.round(2**15 * np.clip(sound_N, -0.99, 0.99)).astype(np.int16)


def write_video(file: Path, sound_N: NDArray[np.int16]) -> None:
    """Write an AVI with a small moving picture and 16-bit sound."""
    with av.open(str(file), "w") as container:
        pictures = container.add_stream("mpeg4", rate=FRAME_RATE)
        pictures.height, pictures.width = PICTURE[:2]
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(sound_N.size * FRAME_RATE // RATE):
            picture = av.VideoFrame.from_ndarray(np.full(PICTURE, number % 256, np.uint8), format="rgb24")
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        samples = av.AudioFrame.from_ndarray(sound_N[None], format="s16", layout="mono")
        samples.sample_rate = RATE
        container.mux([*sound.encode(samples), *sound.encode(None)])


def make_noises(folder: Path, count: int) -> None:
    """Generate a noise library in two folders, as MUSAN's noise is in."""
    for number in range(count):
        generator = np.random.default_rng((1, number))
        file = folder / ("free-sound" if number % 3 else "sound-bible") / f"noise-{number:04}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise_N = np.cumsum(generator.standard_normal(int(NOISE_S * NOISE_RATE)))
        noise_N -= np.convolve(noise_N, np.ones(400) / 400, mode="same")
        soundfile.write(file, 0.05 * noise_N / noise_N.std(), NOISE_RATE)


def features(folder: Path, out: Path, workers: int) -> list[str]:
    """The command that builds the store."""
    command = [sys.executable, "-m", "sersearch", "features", f"--corpus=enterface={folder / 'enterface'}"]
    command += [f"--noise={folder / 'noise'}", f"--speakers={folder / 'genders.csv'}"]
    return [*command, f"--out={out}", f"--workers={workers}"]


def measure(command: list[str]) -> Found:
    """Run a command to its end.

    Returns:
        `seconds`, `cpu_s` of all processes, `peak_bytes` of the largest one, and `said` on standard output.
    """
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)}: ended with status {status}")
        said.seek(0)
        return {
            "seconds": time.monotonic() - begun,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_bytes": 1024 * usage.ru_maxrss,
            "said": said.read(),
        }


def build_with_kills(command: list[str], out: Path, kills: int, longest_s: float, seed: int) -> dict[str, int]:
    """Kill a build at random moments and start it again; at last let it end.

    Returns:
        How many kills came before the first speaker, and how many after it.
    """
    moments = random.Random(seed)
    counts = {"before the first speaker": 0, "after it": 0}
    while sum(counts.values()) < kills:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(moments.uniform(0, longest_s))
        except subprocess.TimeoutExpired:
            counts["after it" if any(out.glob("*.parquet")) else "before the first speaker"] += 1
            kill = random.Random(sum(counts.values())).choice((os.kill, os.killpg))
            kill(process.pid, signal.SIGKILL)
            process.wait()
            continue
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: ended with {process.returncode} after {counts}")
        # It was complete before all kills: more of them need a store to build.
        shutil.rmtree(out)
    measure(command)
    return counts


def hashes(store: Path) -> dict[str, str]:
    """SHA-256 of each file of a store, by its path there."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(store).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """Read the arguments, and work in a folder of one's own or in one that is removed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("--noises", type=int, default=NOISES)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="Where data and stores are kept; a folder that is removed if not given."
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "paper_size.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paper-size-") as scratch:
        return run(given, given.folder or Path(scratch))


def run(given: argparse.Namespace, folder: Path) -> int:
    """Generate the data, build both stores, compare and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    make_corpus(folder, given.subjects)
    make_noises(folder / "noise", given.noises)
    print(f"generated {sum(1 for _ in folder.rglob('*.avi'))} videos and {given.noises} noises in {folder}", flush=True)
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    built = measure(features(folder, undisturbed, given.workers))
    print(built.pop("said"), f"{built['cpu_s']:.0f} s of CPU, {built['peak_bytes'] / 2**20:.0f} MiB", flush=True)
    counts = build_with_kills(
        features(folder, killed, given.workers), killed, given.kills, built["seconds"], given.seed
    )
    ours, theirs = hashes(undisturbed), hashes(killed)
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    print(f"kills: {counts}; {len(ours)} files, of which differ: {differing or 'none'}", flush=True)
    verified = measure([sys.executable, "-m", "sersearch", "store", str(undisturbed), "--verify", "--format=json"])
    described = json.loads(verified.pop("said"))
    print(f"faults: {described['faults']}; {described['copies']} copies, {described['bytes'] / 1e9:.2f} GB")
    hours = described["frames"] / 100 / 3600
    figures = {
        "utterances": described["utterances"],
        "speakers": len(described["speakers"]),
        "copies": described["copies"],
        "hours": hours,
        "store_bytes": described["bytes"],
        "workers": given.workers,
        "build": built | {"cpu_s_per_hour": built["cpu_s"] / hours},
        "verify": {name: verified[name] for name in ("seconds", "cpu_s", "peak_bytes")},
        "kills": counts,
        "differing_files": differing,
        "faults": described["faults"],
    }
    write_results(given.out, figures)
    return 1 if differing or described["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

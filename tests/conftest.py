"""A small world for all tests: generated speech and noise, a store of them, and the real corpora."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store

# Tests run side by side, and threads of one that wait for those of another do nothing but wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A loaded machine is no failure, and a failure must come back.
settings.register_profile("sersearch", deadline=None, derandomize=True)
settings.load_profile("sersearch")

# A test that uses one of these fixtures is slow, even if it has no mark of its own.
SLOW_FIXTURES = {
    "browser": "it opens pages in a browser",
    "data_dir": "it reads real audio",
    "finished": "it runs a search with the real Ray, or reads what one left",
    "trained": "it trains models, or reads what training left",
    "written": "it draws every figure of a report as PDF, PNG and SVG",
}
# A test that takes longer should be made faster or marked slow, with the reason.
LONG_S = 10.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark tests of slow fixtures, before `-m` selects tests; refuse slow marks without a reason."""
    for item in items:
        for fixture, reason in SLOW_FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.slow(reason))
        for mark in item.iter_markers("slow"):
            if not mark.args:
                raise pytest.UsageError(
                    f"{item.nodeid}: the mark `slow` has no reason: write slow('why it takes long')"
                )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each test that takes long without a reason; it does not fail, because the machine may be busy."""
    duration_s: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "slow" not in report.keywords:
                duration_s[report.nodeid] += report.duration
    for test, seconds in duration_s.items():
        if seconds > LONG_S:
            terminalreporter.write_line(f"{test} took {seconds:.0f} s: make it faster, or mark it slow with the reason")


RATE = 16_000
EMOTIONS = {
    "anger": (330.0, 8.0),
    "happiness": (240.0, 5.0),
    "sadness": (150.0, 2.0),
}  # pitch in Hz, tremolo in Hz


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = Path(os.environ.get("SERSEARCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real audio at {folder}: set SERSEARCH_DATA to the folder that holds RAVDESS and ESC-10")
    return folder


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    folder = Path(os.environ.get("SERSEARCH_CASES", Path(__file__).parents[2] / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(f"no odd files at {folder}: set SERSEARCH_CASES to the folder that holds no-xing.mp3 and others")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the index of test openings of all tests apart from the user's; processes that tests start inherit it."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


def _part(data_dir: Path, name: str) -> Path:
    if not (data_dir / name).is_dir():
        pytest.skip(f"no {name} in {data_dir}")
    return data_dir / name


@pytest.fixture(scope="session")
def ravdess(data_dir: Path) -> Path:
    return _part(data_dir, "RAVDESS")


@pytest.fixture(scope="session")
def esc10(data_dir: Path) -> Path:
    return _part(data_dir, "ESC-10")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers s0 to s5, female and male in turn, x three emotions x two utterances of about 0.4 s."""
    folder = tmp_path_factory.mktemp("corpus") / "tiny corpus, it's generated"
    folder.mkdir()
    generator = np.random.default_rng(1)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion", "gender", "utterance"])
        for speaker in range(6):
            gender = ("female", "male")[speaker % 2]
            for emotion in EMOTIONS:
                for take in range(2):
                    id = f"s{speaker}-{emotion}-{take}"
                    path = f"s{speaker}'s voice/{emotion} {take}.flac"
                    (folder / path).parent.mkdir(exist_ok=True)
                    soundfile.write(folder / path, _utterance(emotion, gender, generator), RATE)
                    writer.writerow([path, f"s{speaker}", emotion, gender, id])
    return folder


def _utterance(emotion: str, gender: str, generator: np.random.Generator) -> np.ndarray:
    pitch_hz, tremolo_hz = EMOTIONS[emotion]
    pitch_hz *= generator.uniform(0.95, 1.05) * (1.5 if gender == "female" else 1.0)
    t = np.arange(int(generator.uniform(0.35, 0.45) * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, 6))
    loud = 0.1 * (1 + 0.8 * np.sin(2 * np.pi * tremolo_hz * t))
    return loud * voice + 0.003 * generator.standard_normal(t.size)


@pytest.fixture(scope="session")
def tiny_noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips: 3 s of hiss, 0.2 s of hum (shorter than an utterance), two bursts with silence between."""
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(2)
    hiss = 0.1 * generator.standard_normal(3 * RATE)
    hum = 0.2 * np.sin(2 * np.pi * 100 * np.arange(RATE // 5) / RATE)
    bursts = np.concatenate([hiss[: RATE // 4], np.zeros(RATE), hiss[-RATE // 2 :]])
    for name, noise in {"hiss.flac": hiss, "short hum.wav": hum, "bursts/two.flac": bursts}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, noise, RATE)
    return folder


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, tiny_noise: Path) -> Store:
    """Two noises x one SNR; tests that damage it work on a copy."""
    out = tmp_path_factory.mktemp("store") / "store"
    return build_store(out, read_corpus("tiny", tiny_corpus), tiny_noise, noises=2, snrs=1, workers=1)

"""The input of the demo: a generated corpus, generated noise, and a study.

The speech is synthetic, so figures that come from it say nothing about human speech.
"""

from collections.abc import Callable
from pathlib import Path

from sersearch.demo.synthesis import synthesise_corpus, synthesise_noises

STUDY = """\
# A study: search spaces in the notation of the paper's Table 2, and the settings that differ from the paper's training.
name = "demo"
store = "store"

spaces = [
    { name = "fst", model = "FST-CLDNN", features = "log-mels", w1 = [3, 5, 7], w2 = 2 },
    { name = "fst-mfccs", model = "FST-CLDNN", features = "mfccs", w1 = [3, 6], w2 = 2 },
    { name = "s", model = "S-CLDNN", features = "log-mels", h1 = 22, h2 = 3 },
]

[training]
epochs = 8
"""

SPEAKERS = 16


def make_demo(folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write speech/, noise/ and study.toml into a folder; speech and noise that exist already are kept.

    Args:
        folder: where they are written.
        progress: called with (utterances written, utterances in total) after each utterance.

    Raises:
        InputError: the extra `demo` is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "speech" / "manifest.csv").exists():
        synthesise_corpus(folder / "speech", speakers=SPEAKERS, progress=progress)
    if not (folder / "noise" / "README.txt").exists():
        synthesise_noises(folder / "noise")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")

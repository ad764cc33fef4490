"""The whole way on generated speech: a corpus, noise, a store, a study. Synthetic, so its figures say nothing."""

from pathlib import Path

from sersearch.demo.synthesis import synthesise_corpus, synthesise_noises

STUDY = """\
# What a study looks like: spaces in the notation of the paper's Table 2, and what differs from the paper's training.
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


def make_demo(folder: Path) -> None:
    """Write speech/, noise/ and study.toml into a folder, unless they are there.

    Raises:
        InputError: the extra `demo` is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "speech" / "manifest.csv").exists():
        synthesise_corpus(folder / "speech", speakers=SPEAKERS)
    if not (folder / "noise" / "README.txt").exists():
        synthesise_noises(folder / "noise")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")

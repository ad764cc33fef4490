"""The README's commands as they are typed, from the first to the last, on a small corpus and a part of RAVDESS."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETUP = "Two commands"
"""The section that sets the checkout up, which was done before any test runs."""

OWN = ("Your own corpus", "A study", "Stop and resume", "Inside the models")
RAVDESS = ("RAVDESS, and the paper's studies", "The SVM baseline")


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """Kind and content of each block of a section that a reader types or saves."""
    texts = SECTION.split(README)
    yield from BLOCK.findall(dict(zip(texts[1::2], texts[2::2], strict=True))[section])


def follow(section: str, folder: Path) -> str:
    """Save the files of a section and type its commands in a shell; what they print."""
    said = ""
    bin = folder.parent / "bin"
    bin.mkdir(exist_ok=True)
    program = bin / "sersearch"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sersearch "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for kind, content in blocks(section):
        if kind == "toml":
            name = content.splitlines()[0].removeprefix("# ")
            (folder / name).write_text(content)
            continue
        command = ["bash", "-euo", "pipefail", "-c", content]
        done = subprocess.run(command, cwd=folder, env=os.environ | paths, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


def test_every_command_belongs_to_a_section_that_is_followed() -> None:
    with_blocks = [name for name in SECTION.findall(README) if list(blocks(name))]
    assert set(with_blocks) == {SETUP, *OWN, *RAVDESS}
    makefile = (ROOT / "Makefile").read_text()
    for _, content in blocks(SETUP):
        for target in re.findall(r"^make (\w+)", content, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.slow("it types the README's commands: builds a store, and trains, reports and probes a study")
def test_the_readme_from_an_own_corpus_to_the_modules(tiny_corpus: Path, tiny_noise: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    (folder / "my").mkdir(parents=True)
    (folder / "my" / "corpus").symlink_to(tiny_corpus)
    (folder / "my" / "noise").symlink_to(tiny_noise)
    said = {section: follow(section, folder) for section in OWN}
    assert "utterances per speaker: s0 (6)" in said["Your own corpus"]
    assert "108 copies of 6 speakers" in said["Your own corpus"]
    assert "mine: 5 trials: 0 done, 5 left" in said["A study"]
    assert "Leaderboard, noisy condition" in said["A study"]
    assert "5 of 5 trials done" in said["Stop and resume"]
    assert "(Table 5)" in said["Inside the models"]
    assert (folder / "runs" / "mine" / "report" / "report.html").is_file()


@pytest.mark.slow("it types the README's commands on real audio")
def test_the_readme_with_ravdess(ravdess: Path, esc10: Path, tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="the extra `functionals` is not installed")
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "ESC-10").symlink_to(esc10)
    # Six actors who say one sentence with normal intensity: 12 utterances each.
    for actor in sorted(ravdess.glob("Actor_0[1-6]")):
        few = folder / "data" / "RAVDESS" / actor.name
        few.mkdir(parents=True)
        for file in actor.glob("03-01-0?-01-01-0?-*"):
            (few / file.name).symlink_to(file)
    said = {section: follow(section, folder) for section in RAVDESS}
    assert "144 copies of 6 speakers" in said["RAVDESS, and the paper's studies"]
    assert "FST-CLDNN (log-mels)" in said["RAVDESS, and the paper's studies"]
    assert "IS13: 72 vectors of 6373 numbers" in said["The SVM baseline"]
    assert "SVM (IS" in said["The SVM baseline"]

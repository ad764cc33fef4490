"""Names that terminals, Markdown, CSV, LaTeX and HTML would obey, on their way from a corpus to a report."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.text import Text

from sersearch.errors import InputError, printable
from sersearch.report import latex
from sersearch.report.cells import Sheet, file_name
from sersearch.report.text import csv_cell, table
from sersearch.terminal.screen import Screen

RATE = 16_000
ESCAPE, OVERRIDE = "\x1b[2J", "\u202e"
STUDY = "TABLES | [red]STATE[/red] `x` $x_1$ 50%_#&~^\\end{table} </script><b>\n=cmd"
SPACES = ("=1+2|a", "-2+3 `rm` [link](http://x) *a* _b_ <b>&amp; \\")
SPEAKERS = ("=SUM(A1)", "@a|b", "[bold]c[/bold]", "-d `e`", "$f_1$ %#&{}~^\\", f"g{OVERRIDE}h", "</script><i>")
EMOTIONS = ("a|nger [red]", "=joy_%", "<b>sad</b>")
NOISES = ("[red]hum|`x`_%/1.wav", "=cmd()/2.wav")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    "ab1 |`*_[](){}<>&;#~^\\!=+-@.,'\"$%\n\r\t\x1b\x85\u202e\u2028", max_size=12
)


def shown_by_markdown(source: str) -> tuple[list[list[str]], list[str], set[str]]:
    """Cells of tables by row, all other texts, and the kinds of tokens, as a parser of GitHub's Markdown finds them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    rows: list[list[str]] = []
    texts: list[str] = []
    kinds: set[str] = set()
    in_cell = False
    for token in tokens:
        kinds.add(token.type)
        if token.type == "tr_open":
            rows.append([])
        in_cell = token.type in ("td_open", "th_open") or (in_cell and token.type == "inline")
        if token.type == "inline":
            children: list[Token] = token.children or []
            kinds |= {child.type for child in children}
            content = "".join(child.content for child in children)
            if in_cell:
                rows[-1].append(content)
            else:
                texts.append(content)
    return rows, texts, kinds


@given(names)
@example(STUDY)
@example("- a\n# b")
def test_a_screen_shows_a_name_and_obeys_nothing(name: str) -> None:
    screen = Screen(file=StringIO(), force_terminal=True, width=10_000)
    screen.print(f"x{name}")
    shown = screen.file.getvalue()
    assert shown == f"x{printable(name)}".expandtabs(8) + "\n"
    assert Text(printable(name)).plain == printable(name)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)


@given(names)
def test_an_error_is_one_printable_line(name: str) -> None:
    assert len(f"{InputError(name)}x".splitlines()) == 1


@given(names, names)
@example(SPACES[1], "a\\|b")
@example("***", "12. x")
def test_markdown_shows_a_name_as_it_is(heading: str, cell: str) -> None:
    sheet = Sheet("x", f"t {heading}", ("first", cell), ((cell, "1"), ("x", f"{cell} [1.0, 2.0]")), (f"Note {cell}.",))
    rows, texts, kinds = shown_by_markdown(table(sheet))
    assert [[text.strip() for text in row] for row in rows] == [
        ["first", printable(cell).strip()],
        [printable(cell).strip(), "1"],
        ["x", f"{printable(cell)} [1.0, 2.0]".strip()],
    ]
    assert texts[0] == f"t {printable(heading)}".strip()
    assert not kinds & {"em_open", "strong_open", "link_open", "image", "html_inline", "html_block", "s_open"}


@given(names)
@example("`")
def test_a_note_keeps_its_code_and_obeys_nothing_else(name: str) -> None:
    sheet = Sheet("x", "t", ("a",), (("1",),), (f"Say `sersearch report {name}` again.",))
    _, texts, kinds = shown_by_markdown(table(sheet))
    assert len(texts) == 2
    if "`" not in name:
        assert texts[1] == f"Say sersearch report {printable(name)} again."
        assert "code_inline" in kinds
    assert not kinds & {"em_open", "strong_open", "link_open", "image", "html_inline", "html_block", "heading"}


@given(st.lists(names | st.floats(allow_nan=False) | st.integers() | st.none(), min_size=2, max_size=4))
@example(["=1+2", "\t=1", "\r@x", "-1"])
def test_a_cell_of_csv_is_no_formula(values: list[object]) -> None:
    file = StringIO()
    csv.writer(file, lineterminator="\n").writerow([csv_cell(value) for value in values])
    (cells,) = csv.reader(StringIO(file.getvalue(), newline=""), strict=True)
    for value, cell in zip(values, cells, strict=True):
        if isinstance(value, str):
            assert cell.removeprefix("'") == printable(value).removeprefix("'")
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        elif value is not None:
            assert float(cell) == value


@given(names)
def test_latex_obeys_no_name(name: str) -> None:
    escaped = latex.escape(name)
    commands = "|".join(re.escape(found) for found in sorted(latex._ESCAPES.values(), key=len, reverse=True))
    left = re.sub(rf"{commands}|\{{\}}", "", escaped)
    assert not re.search(r"[\\{}$&#%_^~\n]", left)
    assert "--" not in left.replace("–", "") or "–" in name or "-" in name


@given(names, names)
def test_file_names_are_safe_and_stay_different(one: str, other: str) -> None:
    assert re.fullmatch(r"[\w.-]{1,130}", f"x{file_name(one)}", re.ASCII)
    assert (file_name(one) == file_name(other)) == (one == other)


def sersearch(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sersearch", *map(str, words)], capture_output=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, noise and a study, all with names that something would obey."""
    folder = tmp_path_factory.mktemp("names") / "[red]a|b`c`"
    (folder / "corpus").mkdir(parents=True)
    generator = np.random.default_rng(0)
    with (folder / "corpus" / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion", "gender", "utterance"])
        for number, speaker in enumerate(SPEAKERS):
            for emotion in EMOTIONS:
                path = f"{number}-{EMOTIONS.index(emotion)}[b].wav"
                soundfile.write(folder / "corpus" / path, 0.1 * generator.standard_normal(RATE // 3), RATE)
                writer.writerow([path, speaker, emotion, ("female", "male")[number % 2], f"={number}{emotion}"])
    for noise in NOISES:
        (folder / "noise" / noise).parent.mkdir(parents=True)
        soundfile.write(folder / "noise" / noise, 0.1 * generator.standard_normal(RATE // 2), RATE)
    (folder / "study.toml").write_text(
        f"""
name = {json.dumps(STUDY)}
store = "store"
spaces = [
    {{ name = {json.dumps(SPACES[0])}, model = "T-CLDNN", w1 = [3, 4], w2 = 2 }},
    {{ name = {json.dumps(SPACES[1])}, model = "S-CLDNN", h1 = [5, 6, 7], h2 = 3 }},
]
[training]
epochs = 1
maps = 2
cells = 2
dense = [2]
"""
    )
    return folder


@pytest.fixture(scope="module")
def said(world: Path) -> dict[str, bytes]:
    """What each command said, on both streams."""
    features = ("--corpus", f"x={world / 'corpus'}", "--noise", world / "noise", "--noises", 1, "--snrs", 1)
    commands: dict[str, tuple[object, ...]] = {
        "corpus": ("corpus", "[red]x", world / "corpus"),
        "features": ("features", *features, "--out", world / "store"),
        "plan": ("plan", world / "study.toml"),
        "search": ("search", world / "study.toml", "--run", world / "run"),
        "status": ("status", world / "run", "--verify"),
        "report": ("report", world / "run"),
        "compare": ("compare", world / "run", world / "run"),
        "json": ("report", world / "run", "--format", "json"),
    }
    output = {}
    for name, words in commands.items():
        done = sersearch(*words)
        assert done.returncode == 0, (name, done.stderr.decode(errors="replace"))
        output[name] = done.stdout + done.stderr
    return output


class Page(HTMLParser):
    """Tags of a page with the texts in them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1] if self.tags else "", data))


@pytest.mark.slow("it runs every command on a corpus of its own, one of them with the real Ray")
class TestEveryCommand:
    def test_nothing_that_is_said_moves_the_cursor(self, said: dict[str, bytes]) -> None:
        for name, output in said.items():
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", output.decode()), name
            assert "Traceback" not in output.decode()

    def test_names_are_shown_as_they_are(self, said: dict[str, bytes]) -> None:
        corpus = said["corpus"].decode()
        for speaker in SPEAKERS:
            assert f"{printable(speaker)} (3)" in corpus
        for emotion in EMOTIONS:
            assert emotion in corpus
        assert "[red]x: utterances" in corpus
        for space in SPACES:
            assert f"\n{space}: " in said["plan"].decode()
        assert f"study {printable(STUDY)}," in said["status"].decode()
        assert json.loads(said["json"].decode().partition("\nwritten")[0])["study"] == STUDY

    def test_markdown(self, said: dict[str, bytes], world: Path) -> None:
        source = (world / "run" / "report" / "leaderboard.md").read_text()
        rows, texts, kinds = shown_by_markdown(source)
        assert texts[0] == printable(STUDY)
        cells = {cell for row in rows for cell in row}
        assert {space.strip() for space in SPACES} | {"a|nger [red]"} <= cells
        assert cells & {printable(speaker) for speaker in SPEAKERS}
        assert not kinds & {"em_open", "link_open", "html_inline", "html_block", "fence", "hr"}
        for row in shown_by_markdown(said["compare"].decode())[0]:
            assert row

    def test_csv(self, said: dict[str, bytes], world: Path) -> None:
        with (world / "run" / "report" / "leaderboard.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        assert {row["space"] for row in rows} == {f"'{space}" for space in SPACES}
        assert all(0 <= float(row["test_ua"]) <= 100 for row in rows)
        assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())

    def test_html(self, said: dict[str, bytes], world: Path) -> None:
        page = Page((world / "run" / "report" / "report.html").read_text())
        assert "b" not in page.tags
        assert "i" not in page.tags
        assert page.tags.count("script") == 2
        assert ("h1", printable(STUDY)) in page.texts
        (data,) = [json.loads(text) for tag, text in page.texts if tag == "script" and text.startswith("{")]
        assert any(SPACES[0] in group["title"] for group in data["groups"])

    def test_latex(self, said: dict[str, bytes], world: Path, tmp_path: Path) -> None:
        document = (world / "run" / "report" / "leaderboard.tex").read_text()
        assert document.count(r"\begin{document}") == document.count(r"\end{document}") == 1
        assert document.count(r"\begin{table}") == document.count(r"\end{table}") > 3
        labels = re.findall(r"\\label\{(.*)\}", document)
        assert len(set(labels)) == len(labels)
        assert all(re.fullmatch(r"tab:[\w.-]+", label) for label in labels)
        if not (pdflatex := shutil.which("pdflatex")):
            pytest.skip("no pdflatex here: LaTeX is not compiled")
        (tmp_path / "x.tex").write_text(document)
        words = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]

    def test_figures(self, said: dict[str, bytes], world: Path) -> None:
        drawn = list((world / "run" / "report" / "figures").iterdir())
        for path in drawn:
            assert re.fullmatch(r"[\w.-]+", path.name, re.ASCII)
            if path.suffix == ".svg":
                ElementTree.fromstring(path.read_text())
        assert len({path.stem for path in drawn if path.name.startswith("landscape")}) + len(
            {path.stem for path in drawn if path.name.startswith("sweep")}
        ) >= len(SPACES)

    def test_the_command_of_a_rerun_can_be_pasted(self, said: dict[str, bytes], world: Path) -> None:
        page = Page((world / "run" / "report" / "report.html").read_text())
        commands = [text for tag, text in page.texts if tag == "code" and text.startswith("sersearch rerun")]
        assert commands
        assert all(shlex.split(command)[2] == str(world / "run") for command in commands)

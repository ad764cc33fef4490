"""Links into docs/decisions.md, which other pages and the code cite by anchor."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions.md"
DECISION = re.compile(r'^- <a id="([a-z0-9-]+)"></a>\*\*[^*]+\*\*(.*)$', re.MULTILINE)
DATE = re.compile(r"\(20\d\d-\d\d-\d\d\b")
LINK = re.compile(r"decisions\.md#([\w-]*)")


def linking_files() -> Iterator[Path]:
    """The pages at the root, the docs, the guides for clusters, the package, its tests, benchmarks and spaces."""
    yield from ROOT.glob("*.md")
    for folder in ("docs", "cluster", "sersearch", "tests", "benchmarks", "search_spaces"):
        for suffix in (".md", ".py", ".toml", ".html"):
            yield from (ROOT / folder).rglob(f"*{suffix}")


def test_every_decision_has_an_anchor_and_a_date() -> None:
    text = DECISIONS.read_text()
    bullets = [line for line in text.splitlines() if line.startswith("- ")]
    decisions = DECISION.findall(text)
    assert len(decisions) == len(bullets) > 0
    # A title may take two lines, so the date is looked for in the whole paragraph.
    paragraphs = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
    assert [paragraph for paragraph in paragraphs if not DATE.search(paragraph)] == []


def test_no_two_decisions_have_the_same_anchor() -> None:
    anchors = [anchor for anchor, _ in DECISION.findall(DECISIONS.read_text())]
    assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize("file", sorted(linking_files()), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_to_decisions_exist(file: Path) -> None:
    anchors = {anchor for anchor, _ in DECISION.findall(DECISIONS.read_text())}
    links = set(LINK.findall(file.read_text(encoding="utf-8")))
    if file != Path(__file__) and file != DECISIONS:
        assert links <= anchors, f"docs/decisions.md has no anchor {sorted(links - anchors)}"


@pytest.mark.slow("it renders every page and every docstring")
def test_the_site_is_built_without_a_warning() -> None:
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    site = ROOT / "docs" / "make_site.py"
    done = subprocess.run([sys.executable, site], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (ROOT / "build" / "site" / "reference" / "study" / "index.html").read_text()
    assert "Agenda" in page
    index = (ROOT / "build" / "site" / "index.html").read_text()
    assert 'href="./docs/study/"' in index

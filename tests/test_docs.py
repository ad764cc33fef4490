"""Links into docs/decisions.md, which other pages and the code cite by anchor."""

import re
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

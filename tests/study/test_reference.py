import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from sersearch.shipped import shipped_spaces
from sersearch.study.reference import Setting, new_study, setting_paths, settings, write_tables
from sersearch.study.study import Search, Study, load_study, parse_study

TEXT = new_study("mine.toml", "mine", shipped_spaces())
PAGE = Path(__file__).parents[2] / "docs" / "study.md"
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
COMMENTED = re.compile(r"^(#)(\w+) = ", re.MULTILINE)


def test_every_setting_has_a_meaning() -> None:
    without = [path for table, found in settings().items() for path in _without_meaning(table, found)]
    assert without == [], "say what these mean in the `Attributes:` of their class"


def _without_meaning(table: str, found: list[Setting]) -> list[str]:
    return [f"{table}.{setting.name}" for setting in found if not setting.meaning]


def test_paths_name_every_key_of_the_study_and_of_its_tables() -> None:
    paths = set(setting_paths())
    tables = {path.split(".")[0] for path in paths}
    assert tables == set(Study.model_fields)
    assert {"seeds", "training.epochs", "features.deltas", "partition.seed", "search.sampler"} <= paths


def test_a_new_study_is_a_study_with_every_default() -> None:
    as_written = parse_study(tomllib.loads(TEXT), "mine.toml")
    assert [space.name for space in as_written.spaces] == ["ldnn", "fst"]
    known = {setting.name for found in settings().values() for setting in found if setting.default}
    defaults = COMMENTED.sub(lambda line: line[0].removeprefix("#") if line[2] in known else line[0], TEXT)
    assert defaults != TEXT
    uncommented = parse_study(tomllib.loads(defaults), "mine.toml")
    assert uncommented.model_copy(update={"features": {}, "training": {}}) == as_written
    assert [list(space.enumerate(uncommented.settings)) for space in uncommented.spaces] == [
        list(space.enumerate({})) for space in as_written.spaces
    ]


# A form of [partition] other than shares, and a hypothesis, have no default to show.
WITHOUT_DEFAULT = ("name", "spaces", "systems", "partition.folds", "partition.file", "partition.column")


@pytest.mark.parametrize(
    "path", [path for path in setting_paths() if path not in WITHOUT_DEFAULT and not path.startswith("hypothesis.")]
)
def test_a_new_study_shows_every_setting(path: str) -> None:
    assert f"\n#{path.split('.')[-1]} = " in TEXT


def test_lines_of_a_new_study_fit_a_page() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > 110] == []


def test_the_page_of_settings_is_current_and_complete() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert write_tables(page) == page, "run `make reference`"
    marks = re.findall(r"<!-- settings: (.+?) -->", page)
    assert {"" if mark == "study" else mark for mark in marks} == set(settings()), "mark the place of each table"
    for found in settings().values():
        assert all(f"\n| `{setting.name}` | " in page for setting in found)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_of_the_page_is_a_study(number: int, tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(EXAMPLES[number])
    assert load_study(tmp_path / "example.toml").spaces


def test_each_sampler_and_each_pruner_has_an_example() -> None:
    searches = [tomllib.loads(example).get("search", {}) for example in EXAMPLES]
    for name in ("sampler", "pruner"):
        values = set(get_args(Search.model_fields[name].annotation))
        assert values - {"grid"} <= {search.get(name) for search in searches}


def test_links_of_the_page_lead_to_decisions() -> None:
    decisions = PAGE.with_name("decisions.md").read_text(encoding="utf-8")
    links = re.findall(r"decisions\.md#([\w-]+)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if f'<a id="{link}">' not in decisions] == []

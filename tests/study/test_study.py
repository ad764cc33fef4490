from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.study.space import Range, Space
from sersearch.study.study import Study, load_study, parse_study

SHIPPED = Path(__file__).parents[2] / "search_spaces"
FST = {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": "2:3"}


def study(*spaces: dict[str, Any], **tables: Any) -> Study:
    return parse_study({"name": "x", "spaces": list(spaces), **tables}, "x.toml")


@given(st.integers(0, 50), st.integers(0, 50))
def test_table_2_notation_is_inclusive(low: int, length: int) -> None:
    found = Range.model_validate(f"{low}:{low + length}")
    assert found.choices == tuple(range(low, low + length + 1))


def test_three_to_eight_is_no_sexagesimal() -> None:
    assert Range.model_validate("3:8").choices == (3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("name", "trials"),
    [
        ("t-cldnn-log-mels", 12),
        ("t-cldnn-mfccs", 12),
        ("s-cldnn-log-mels", 12),
        ("fst-cldnn-log-mels", 12),
        ("fst-cldnn-mfccs", 12),
        ("st-cldnn-log-mels", 144),
        ("s-cldnn-h1-sweep", 27),
        ("ldnn-log-mels", 1),
        ("ldnn-mfccs", 1),
    ],
)
def test_shipped_spaces_have_the_papers_counts(name: str, trials: int) -> None:
    (space,) = [s for s in load_study(SHIPPED / "paper.toml").spaces if s.name == name]
    assert len(list(space.enumerate({}))) == trials


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_file_is_a_study_or_a_space(path: Path) -> None:
    if "spaces" in path.read_text():
        assert load_study(path).spaces
    else:
        Space.model_validate({"name": path.stem, **__import__("tomllib").loads(path.read_text())})


def test_a_study_survives_its_own_record() -> None:
    given_study = study(
        FST,
        {"name": "lr", "model": "LDNN", "learning_rate": [0.001, 0.01], "dense": [[128, 32], [64]]},
        training={"epochs": 5},
        partition={"train": 60, "validation": 20, "test": 20},
    )
    assert parse_study(given_study.model_dump(mode="json"), "again") == given_study


def test_a_parameter_that_a_model_lacks_is_no_dimension() -> None:
    made = study({"name": "m", "model": ["S-CLDNN", "T-CLDNN", "LDNN"], "h1": "4:5", "h2": 3, "w1": [3, 4], "w2": 2})
    configurations = list(made.spaces[0].enumerate({}))
    assert len(configurations) == len(set(configurations)) == 2 + 2 + 1
    assert {c.h1 for c in configurations if c.model == "T-CLDNN"} == {1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"trainig": {}}, "x.toml: unknown key trainig; did you mean training?"),
        ({"training": {"lerning_rate": 1}}, "x.toml: training: unknown key lerning_rate; did you mean learning_rate?"),
        ({"training": {"h1": 4}}, "training: unknown key h1"),
        ({"partition": {"tain": 3}}, "x.toml: partition: unknown key tain; did you mean train?"),
        ({"partition": {"train": 0}}, "partition.train: 0 was given: input should be greater"),
        ({"training": {"epochs": "many"}}, "epochs: 'many' was given: input should be a whole number of epochs"),
        ({"seeds": 0}, "seeds: 0 was given"),
        ({"search": {"sampler": "gird"}}, "search.sampler: 'gird' was given"),
        ({"spaces": []}, "spaces"),
        ({"spaces": [FST, FST]}, "space fst is named twice"),
        ({"spaces": [{**FST, "w1": "8:3"}]}, 'space fst.w1: the range "8:3" is empty; write "low:high"'),
        ({"spaces": [{**FST, "w1": []}]}, "space fst.w1: the list is empty"),
        ({"spaces": [{**FST, "ww1": 3}]}, "space fst: unknown key ww1; did you mean w1?"),
        ({"spaces": [{**FST, "h1": 5}]}, "space fst: h1 is not a free parameter of FST-CLDNN"),
        ({"spaces": [{**FST, "model": "FTS-CLDNN"}]}, "space fst: model: 'FTS-CLDNN' was given"),
        (
            {"spaces": [{"name": "s", "model": "S-CLDNN", "h1": "39:41", "h2": 3}]},
            "h1 = 41 is larger than the spectrum",
        ),
        ({"spaces": [{"name": "s", "model": "S-CLDNN", "h1": 4}]}, "space s: S-CLDNN needs h2"),
        ({"spaces": [{"name": "s", "h1": 4}]}, "model is missing"),
        ({"spaces": [{**FST, "learning_rate": {"log": [0, 1]}}]}, "an interval needs 0 < low < high"),
        ({"spaces": [{**FST, "learning_rate": {"log": [0.1, 1]}}]}, "space fst holds an interval"),
        (
            {"spaces": [{**FST, "top": {"k": 2, "h": "s", "w": "t"}}]},
            "space fst takes its top k from s: add that space",
        ),
    ],
)
def test_a_wrong_study_is_one_clear_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_study({"name": "x", "spaces": [FST]} | table, "x.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    text = (SHIPPED / "smoke.toml").read_text(encoding="utf-8")
    marked = tmp_path / "smoke.toml"
    for name in SHIPPED.glob("*.toml"):
        (tmp_path / name.name).write_text(name.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert marked.read_bytes() == b"\xef\xbb\xbf" + text.encode()
    assert load_study(marked).spaces == load_study(SHIPPED / "smoke.toml").spaces


def test_files_that_are_no_studies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "torn.toml").write_text("spaces = [")
    with pytest.raises(InputError, match="is not TOML"):
        load_study(tmp_path / "torn.toml")
    (tmp_path / "fst.toml").write_text('model = "FST-CLDNN"\nw1 = 3\nw2 = 2\n')
    (tmp_path / "lost.toml").write_text('spaces = ["fts"]')
    with pytest.raises(InputError, match=r"unknown space fts; did you mean fst\?"):
        load_study(tmp_path / "lost.toml")
    (tmp_path / "good.toml").write_text('spaces = ["fst"]\nstore = "stores/a"')
    assert load_study(tmp_path / "good.toml").store == str(tmp_path / "stores/a")

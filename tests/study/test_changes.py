import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.study.changes import load_changed_study, parse_value
from sersearch.study.study import load_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text('store = "s"\nspaces = ["fst-cldnn-log-mels"]\n[training]\nepochs = 50\npatience = 2\n')
    return path


def test_a_change_is_as_if_it_were_written_in_the_file(file: Path) -> None:
    changes = ["training.epochs=5", "seeds = 3", "training.dense=[64, 32]", "search.sampler=tpe", "search.trials=4"]
    changed = load_changed_study(file, changes)
    written = file.with_name("written.toml")
    written.write_text(
        'name = "mine"\nstore = "s"\nspaces = ["fst-cldnn-log-mels"]\nseeds = 3\n'
        '[training]\nepochs = 5\npatience = 2\ndense = [64, 32]\n[search]\nsampler = "tpe"\ntrials = 4\n'
    )
    assert changed == load_study(written)
    assert load_changed_study(file, []) == load_study(file)


def test_studies_that_come_with_the_package_are_changed_too() -> None:
    assert load_changed_study(Path("table-4"), ["partition.seed=7"]).partition.seed == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["trainig.epochs=5"], "--set trainig.epochs=5: unknown key trainig.epochs; did you mean training.epochs?"),
        (["training.epoch=5"], "did you mean training.epochs?"),
        (["epochs=5"], "did you mean training.epochs?"),
        (["training.h1=5"], "unknown key training.h1"),
        (["training=5"], "unknown key training"),
        (["training.epochs"], "write PATH=VALUE, as in --set training.epochs=5"),
        (["=5"], "write PATH=VALUE"),
        (["training.epochs="], "write PATH=VALUE"),
        (["training.epochs=many"], "--set training.epochs=many: space fst-cldnn-log-mels: epochs: 'many' was given"),
        (["seeds=0"], "--set seeds=0: seeds: 0 was given: input should be greater"),
        (["seeds=2", "seeds=3"], "seeds was given twice"),
        (["store=elsewhere"], "or give --store"),
        (['spaces=["svm"]'], "spaces can't be changed here"),
        (["search.sampler=tpe"], "the sampler tpe needs trials"),
    ],
)
def test_a_wrong_change_is_one_clear_line(file: Path, changes: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_changed_study(file, changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_named_before_a_change(file: Path) -> None:
    file.write_text("seedz = 3\n" + file.read_text())
    with pytest.raises(InputError, match=r"mine.toml: unknown key seedz"):
        load_changed_study(file, ["seeds=2"])


@given(st.one_of(st.integers(), st.booleans(), st.lists(st.integers()), st.text(st.characters(codec="ascii"))))
def test_values_are_toml_or_text(value: Any) -> None:
    if isinstance(value, str):
        assert parse_value(value) == value or tomllib.loads(f"value = {value}")
    else:
        assert parse_value(str(value).lower()) == value

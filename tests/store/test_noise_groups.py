"""Groups of speakers with noises of their own, so that the parts of a study in folds are disjoint in noise."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sersearch.errors import InputError
from sersearch.run.run import start_run
from sersearch.run.split import check_split
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.manifest import NoiseUnit
from sersearch.store.reader import Store
from sersearch.study.study import parse_study


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of two noises each."""
    folder = tmp_path_factory.mktemp("library")
    generator = np.random.default_rng(0)
    for kind in ("dog", "rain", "sea", "wind"):
        (folder / kind).mkdir()
        for number in range(2):
            soundfile.write(folder / kind / f"{number}.wav", 0.1 * generator.standard_normal(16_000), 16_000)
    return folder


def build(tmp_path: Path, corpus: Path, library: Path, groups: int, unit: NoiseUnit = "recording") -> Store:
    return build_store(
        tmp_path / "store",
        read_corpus("tiny", corpus),
        library,
        noises=2,
        snrs=1,
        noise_groups=groups,
        noise_unit=unit,
        workers=1,
    )


@pytest.mark.parametrize(("unit", "words"), [("recording", "0 % of the noisy"), ("folder", "0 % one of a folder")])
def test_folds_of_a_store_with_groups_share_no_noise(
    tiny_corpus: Path, library: Path, tmp_path: Path, unit: NoiseUnit, words: str
) -> None:
    store = build(tmp_path, tiny_corpus, library, 3, unit)
    partition = {"folds": 3, "validation": 2}
    study = parse_study({"name": "x", "spaces": [{"name": "l", "model": "LDNN"}], "partition": partition}, "x")
    run = start_run(tmp_path / "run", study, store.path)
    of_part = [
        {p: set().union(*(store.noises_of(s) for s in f.speakers(p))) for p in ("train", "test")} for f in run.folds
    ]
    assert all(noises["train"] and noises["test"] for noises in of_part)
    assert not any(noises["train"] & noises["test"] for noises in of_part)
    if unit == "folder":
        folders = [{part: {n.split("/")[0] for n in noises[part]} for part in noises} for noises in of_part]
        assert not any(each["train"] & each["test"] for each in folders)
    assert words in check_split(store, run.folds)[-1]


def test_groups_are_part_of_the_recipe_and_no_groups_are_not(tiny_store: Store) -> None:
    recipe = tiny_store.recipe
    grouped = recipe.model_copy(update={"noise_groups": 3})
    assert len({recipe.fingerprint, grouped.fingerprint}) == 2
    assert grouped.model_copy(update={"noise_unit": "folder"}).fingerprint != grouped.fingerprint
    assert recipe.model_copy(update={"noise_unit": "folder"}).fingerprint == recipe.fingerprint


def test_too_many_groups_are_one_line(tiny_corpus: Path, library: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"5 noise groups of the 8 recordings of .* leave one of them 1 noises, but 2"):
        build(tmp_path, tiny_corpus, library, 5)
    with pytest.raises(InputError, match="7 noise groups were asked for, but there are 6 speakers"):
        build(tmp_path, tiny_corpus, library, 7)
    assert not (tmp_path / "store").exists()

import shutil
from pathlib import Path

import pytest

from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import open_store
from sersearch.store.vectors.opensmile import extract_functionals


@pytest.fixture(scope="module")
def clean(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "store"
    return build_store(out, read_corpus("tiny", tiny_corpus), noises=0, snrs=0, workers=1).path


@pytest.fixture(scope="module")
def added(clean: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with two sets; tests that damage it work on a copy."""
    out = Path(shutil.copytree(clean, tmp_path_factory.mktemp("added") / "store"))
    extract_functionals(open_store(out), read_corpus("tiny", tiny_corpus), ("IS09", "eGeMAPSv02"), workers=1)
    return out


@pytest.fixture
def empty(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "empty"))


@pytest.fixture
def copy(added: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(added, tmp_path / "copy"))

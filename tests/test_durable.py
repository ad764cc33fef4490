import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sersearch.durable import private_data_folder, private_folder


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    return tmp_path / "new" / "cache"


def test_private_folder_is_created_for_its_owner_alone(cache_home: Path) -> None:
    folder = private_folder()
    assert folder == cache_home / "sersearch"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder() == folder


def test_data_that_cannot_be_made_again_has_a_folder_of_its_own(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = private_data_folder()
    assert folder == tmp_path / "data" / "sersearch"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder != private_folder()


def make_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [make_link, Path.touch, lambda folder: folder.mkdir() or folder.chmod(0o750)],
    ids=["a symbolic link", "a file", "open to the group"],
)
def test_a_folder_that_is_not_private_is_not_used(cache_home: Path, spoil: Callable[[Path], None]) -> None:
    cache_home.mkdir(parents=True)
    spoil(cache_home / "sersearch")
    assert private_folder() is None


def test_a_folder_of_another_user_is_not_used(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert private_folder()
    another_user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another_user)
    assert private_folder() is None


def test_no_folder_can_be_created(tmp_path: Path, cache_home: Path) -> None:
    (tmp_path / "new").touch()
    assert private_folder() is None


def test_a_user_without_a_home_folder_has_no_private_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.durable.user_cache_path", lambda name: Path("~/.cache") / name)
    assert private_folder() is None

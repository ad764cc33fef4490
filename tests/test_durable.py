import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sersearch.durable import private_data_folder, private_folder, write_once
from sersearch.errors import InputError


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


def open_to(mode: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        folder.mkdir()
        folder.chmod(mode)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(make_link, "is not a folder: remove it", id="a symbolic link"),
        pytest.param(Path.touch, "it is not a folder|it can't be created", id="a file"),
        pytest.param(open_to(0o750), "its mode is 750", id="open to the group"),
        pytest.param(open_to(0o701), "its mode is 701", id="open to all"),
    ],
)
def test_a_folder_that_is_not_private_is_not_used(cache_home: Path, spoil: Callable[[Path], None], reason: str) -> None:
    cache_home.mkdir(parents=True)
    spoil(cache_home / "sersearch")
    with pytest.warns(RuntimeWarning, match=reason):
        assert private_folder() is None


@pytest.mark.parametrize(("mode", "trusted"), [(0o755, True), (0o777, False), (0o1777, True)])
def test_a_folder_that_others_can_replace_is_not_used(cache_home: Path, mode: int, trusted: bool) -> None:
    cache_home.mkdir(parents=True)
    cache_home.chmod(mode)
    if trusted:
        assert private_folder() == cache_home / "sersearch"
    else:
        with pytest.warns(RuntimeWarning, match=f"others may write to {cache_home}"):
            assert private_folder() is None


def test_a_folder_of_another_user_is_not_used(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert private_folder()
    another_user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another_user)
    with pytest.warns(RuntimeWarning, match="it belongs to another user"):
        assert private_folder() is None


def test_no_folder_can_be_created(tmp_path: Path, cache_home: Path) -> None:
    (tmp_path / "new").touch()
    with pytest.warns(RuntimeWarning, match="it can't be created"):
        assert private_folder() is None


def test_a_user_without_a_home_folder_has_no_private_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.durable.user_cache_path", lambda name: Path("~/.cache") / name)
    with pytest.warns(RuntimeWarning, match="you have no home folder"):
        assert private_folder() is None


@pytest.mark.slow("a process without a cache compiles the loops that it needs")
def test_compiled_loops_are_not_read_from_a_folder_that_others_can_write(tmp_path: Path) -> None:
    folder = tmp_path / "sersearch"
    folder.mkdir()
    folder.chmod(0o777)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    study = tmp_path / "study.toml"
    study.write_text('spaces = [{ name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 }]')
    words = [sys.executable, "-m", "sersearch", "plan", str(study), "--calibrate", "--parallel", "1"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"the cache folder {folder} is not used, because its mode is 777, so others may have" in done.stderr
    assert not list(folder.iterdir())


def test_a_link_that_nfs_makes_twice_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the first request was lost, and the second finds what the first has made."""
    link = Path.hardlink_to

    def link_twice(path: Path, part: Path) -> None:
        link(path, part)
        link(path, part)

    monkeypatch.setattr(Path, "hardlink_to", link_twice)
    assert write_once(tmp_path / "result", b"mine")
    assert not write_once(tmp_path / "result", b"another's")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_bytes() == b"mine"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_refused_by_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(path: Path, part: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "hardlink_to", no_link)
    with pytest.raises(InputError, match=f"^{tmp_path}: its file system \\(.+\\) has no hard links"):
        write_once(tmp_path / "result", b"")
    assert not list(tmp_path.iterdir())

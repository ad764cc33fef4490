"""The contract of every storage; another implementation is one more entry of `STORAGES`."""

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.run.storage import Folder, Storage

STORAGES: dict[str, Callable[[Path], Storage]] = {"folder": Folder}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return STORAGES[request.param](tmp_path / "run")


def test_what_is_put_is_got(storage: Storage) -> None:
    storage.put("a/b/c.json", b"1")
    storage.put("a/b/c.json", b"2")
    assert storage.get("a/b/c.json") == b"2"
    assert storage.exists("a/b/c.json")
    with storage.open("a/b/c.json") as file:
        assert file.seekable()
        assert file.read() == b"2"


def test_what_is_not_there(storage: Storage) -> None:
    assert storage.get("none") is None
    assert not storage.exists("none")
    assert storage.list("none/") == storage.list() == []
    storage.delete("none")
    with pytest.raises(FileNotFoundError):
        storage.open("none")
    storage.put("a", b"")
    assert storage.get("a/b") is None, "an object is no prefix"
    assert not storage.exists("a/b")


def test_names_are_listed_one_level_at_a_time(storage: Storage) -> None:
    for name in ("trials/b/result.json", "trials/a/trial.json", "trials/a/attempt-001/checkpoint", "run.json"):
        storage.put(name, b"x")
    assert storage.list() == ["run.json", "trials/"]
    assert storage.list("trials/") == ["a/", "b/"]
    assert storage.list("trials/a/") == ["attempt-001/", "trial.json"]
    assert not storage.exists("trials/a"), "a prefix is no object"


def test_what_is_deleted_is_gone_and_can_be_put_again(storage: Storage) -> None:
    assert storage.put_once("a", b"1")
    storage.delete("a")
    assert storage.get("a") is None
    assert storage.put_once("a", b"2")


def test_the_first_of_several_puts_wins(storage: Storage) -> None:
    assert storage.put_once("a/b", b"first")
    assert not storage.put_once("a/b", b"second")
    assert storage.get("a/b") == b"first"


def _race(name: str, folder: Path, number: int) -> bool:
    return STORAGES[name](folder).put_once("a/winner", bytes([number]) * 1000)


@pytest.mark.parametrize("name", STORAGES)
def test_of_many_processes_one_put_wins(name: str, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_race, [(name, tmp_path, number) for number in range(12)])
    assert won.count(True) == 1
    assert STORAGES[name](tmp_path).get("a/winner") == bytes([won.index(True)]) * 1000


def test_a_large_object_is_put_whole_or_not_at_all(storage: Storage) -> None:
    with storage.writing("a/large") as file:
        file.write_bytes(b"x" * 10)
        assert not storage.exists("a/large")
        assert storage.list("a/") == []
    assert storage.get("a/large") == b"x" * 10
    with suppress(RuntimeError), storage.writing("a/large") as file:
        file.write_bytes(b"y")
        raise RuntimeError("half way")
    assert storage.get("a/large") == b"x" * 10
    assert storage.list("a/") == ["large"]


@given(st.dictionaries(st.sampled_from(["a", "b/a", "b/b", "c d/é", "'q'/x"]), st.binary(max_size=50)))
def test_objects_are_independent_of_each_other(objects: dict[str, bytes]) -> None:
    import tempfile

    for make in STORAGES.values():
        with tempfile.TemporaryDirectory() as folder:
            storage = make(Path(folder))
            for name, content in objects.items():
                storage.put(name, content)
            assert {name: storage.get(name) for name in objects} == objects
            assert set(storage.list()) == {
                name if "/" not in name else f"{name.partition('/')[0]}/" for name in objects
            }


def test_messages_name_the_place(storage: Storage) -> None:
    assert storage.locate("a/b").endswith("a/b")

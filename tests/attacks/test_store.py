"""Each file of a store is damaged in each way, and whoever reads it answers as the table says.

"done" means that the answer is the one that the untouched store gives, to the letter.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import InputError
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.reader import open_vector_set
from sersearch.store.vectors.table import import_table
from tests.attacks.damage import ATTACKS, answer, refusal

LEARNT = ("s0", "s1")


@pytest.fixture(scope="module")
def world(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has Arrow files and a set of vectors."""
    folder = tmp_path_factory.mktemp("attacked") / "store"
    shutil.copytree(tiny_store.path, folder, ignore=shutil.ignore_patterns("arrow"))
    store = open_store(folder)
    lines = ["utterance,a,b"]
    for info in store.speakers:
        names = dict.fromkeys(store.table(info.speaker)["utterance"].to_pylist())
        lines += [f"{name},{number},{number / 7}" for number, name in enumerate(names)]
    (folder.parent / "table.csv").write_text("\n".join(lines))
    import_table(store, "mine", folder.parent / "table.csv")
    return folder


def learn(path: Path) -> tuple[str, str]:
    """What a search reads: the frames of its speakers."""
    try:
        store = open_store(path)
        return "done", str([float(store.frames(speaker).sum()) for speaker in LEARNT])
    except InputError as error:
        return refusal(error)


def read_vectors(path: Path) -> tuple[str, str]:
    try:
        return "done", str(open_vector_set(open_store(path), "mine").x_UD.sum())
    except InputError as error:
        return refusal(error)


READERS: dict[str, Callable[[Path], tuple[str, str]]] = {
    "store": lambda path: answer("store", path, home=path.parent),
    "verify": lambda path: answer("store", path, "--verify", home=path.parent),
    "learn": learn,
    "vectors": read_vectors,
}

S, F, R = "done", "failed", "refused"
# By file: what each reader answers, in the order of READERS; then what another of its kind is.
TABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "store.json": ((R, R, R, R), ""),
    "arrow/s0-*.arrow": ((S, F, R, S), "arrow/s1-*.arrow"),
    "vectors/mine/vectors.json": ((S, F, S, R), ""),
    "vectors/mine/s0.parquet": ((S, F, S, R), "vectors/mine/s1.parquet"),
    "s0.parquet": ((S, F, R, S), "s1.parquet"),
}
# A Parquet file of another size is noticed when the store is opened, and one without its footer when labels are read.
OTHER_SIZE = (R, F, R, R)
NO_FOOTER = (R, F, R, S)


def rows() -> Iterator[Any]:
    for file, (_, other) in TABLE.items():
        for attack in ATTACKS:
            if other or attack != "another's":
                yield pytest.param(file, attack, id=f"{file}, {attack}")


@pytest.fixture(scope="module")
def untouched(world: Path) -> dict[str, tuple[str, str]]:
    said = {name: reader(world) for name, reader in READERS.items()}
    assert {name: outcome for name, (outcome, _) in said.items()} == dict.fromkeys(READERS, "done")
    return said


@pytest.mark.parametrize(("file", "attack"), list(rows()))
def test_every_reader_answers_what_the_table_says(
    world: Path, untouched: dict[str, tuple[str, str]], tmp_path: Path, file: str, attack: str
) -> None:
    path = tmp_path / "store"
    no_copies = ["arrow"] if file == "s0.parquet" else []
    shutil.copytree(world, path, ignore=shutil.ignore_patterns(*no_copies))
    answers, other = TABLE[file]
    damaged = next(path.glob(file))
    size = damaged.stat().st_size
    ATTACKS[attack](damaged, next(path.glob(other)) if other else None)
    if file == "s0.parquet" and damaged.stat().st_size != size:
        answers = OTHER_SIZE
    elif file == "s0.parquet" and attack == "edited":
        answers = NO_FOOTER
    for (name, reader), expected in zip(READERS.items(), answers, strict=True):
        outcome, said = reader(path)
        assert outcome == expected, f"{name}: {said}"
        if expected == "done":
            assert said == untouched[name][1], name
        else:
            # A set of vectors is named by its folder.
            assert damaged.name in said or damaged.parent.name in said, f"{name}: {said}"
            assert any(word in said for word in ("delete", "again", "damaged", "build")), f"{name}: {said}"


@pytest.mark.parametrize("file", ["arrow/s0-*.arrow", "s0.parquet", "vectors/mine/s0.parquet"])
def test_what_is_deleted_is_made_again(
    world: Path,
    untouched: dict[str, tuple[str, str]],
    tiny_corpus: Path,
    tiny_noise: Path,
    tmp_path: Path,
    file: str,
) -> None:
    path = tmp_path / "store"
    shutil.copytree(world, path, ignore=shutil.ignore_patterns(*(["arrow"] if file == "s0.parquet" else [])))
    next(path.glob(file)).unlink()
    if file == "s0.parquet":
        recipe = open_store(world).recipe
        words = ["--noise", tiny_noise, "--noises", recipe.noises, "--snrs", recipe.snrs, "--workers", 1]
        built = answer("features", "--corpus", f"tiny={tiny_corpus}", "--out", path, *words, home=tmp_path)
        assert built[0] == "done", built
    elif file.startswith("vectors"):
        table = world.parent / "table.csv"
        assert answer("functionals", "--table", f"mine={table}", "--out", path, home=tmp_path)[0] == "done"
    assert learn(path) == untouched["learn"]
    assert read_vectors(path) == untouched["vectors"]
    assert READERS["verify"](path)[0] == "done"

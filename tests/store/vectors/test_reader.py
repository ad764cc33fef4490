"""Reading vector sets, and what becomes of damage."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars
import pytest

from sersearch.errors import InputError
from sersearch.speech.audio import decode
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import open_store
from sersearch.store.vectors.opensmile import extract_functionals, functionals_of
from sersearch.store.vectors.reader import open_vector_set, vector_digests
from sersearch.store.verify import verify_store
from tests.store.vectors.helpers import flip_a_byte, refused, says, sets_of


def test_what_is_read(added: Path, tiny_corpus: Path) -> None:
    store = open_store(added)
    read = open_vector_set(store, "IS09")
    order = sorted(read_corpus("tiny", tiny_corpus).utterances, key=lambda u: (u.speaker, u.id))
    assert read.utterance == tuple(utterance.id for utterance in order)
    assert read.speaker.tolist() == [utterance.speaker for utterance in order]
    assert read.gender.tolist() == [utterance.gender for utterance in order]
    assert [store.emotions[emotion] for emotion in read.emotion] == [utterance.emotion for utterance in order]
    assert read.names[0] == "pcm_RMSenergy_sma_max"
    assert len(set(read.names)) == 384
    assert read.x_UD.dtype == np.float64
    assert len(np.unique(read.x_UD, axis=0)) == len(order)
    np.testing.assert_array_equal(read.x_UD[17], functionals_of("IS09", decode(order[17].path)))


def test_others_can_read_it(added: Path) -> None:
    table = polars.read_parquet(added / "vectors" / "IS09" / "s2.parquet")
    assert table.columns == ["utterance", "speaker", "gender", "emotion", "vector"]
    read = open_vector_set(open_store(added), "IS09")
    numbers = np.array(table["vector"].to_list())
    np.testing.assert_array_equal(numbers, read.x_UD[read.speaker == "s2"])


@pytest.mark.slow("it imports the package in another process")
def test_reading_needs_neither_opensmile_nor_torch(added: Path) -> None:
    program = (
        "import sys; sys.modules['opensmile'] = None\n"
        "from pathlib import Path; from sersearch.store.reader import open_store\n"
        "from sersearch.store.vectors.reader import open_vector_set, vector_digests\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "print(open_vector_set(store, 'IS09').x_UD.shape, len(vector_digests(store)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(added)], capture_output=True, text=True)
    assert done.stdout == "(36, 384) 2 False\n", done.stderr


def test_digests(added: Path, copy: Path) -> None:
    digests = vector_digests(open_store(added))
    assert digests == {name: open_vector_set(open_store(added), name).digest for name in ("IS09", "eGeMAPSv02")}
    assert len(set(digests.values())) == 2
    assert all(len(bytes.fromhex(digest)) == 8 for digest in digests.values())
    shutil.rmtree(copy / "vectors")
    assert vector_digests(open_store(copy)) == {}


def test_damage_is_named_and_mended(copy: Path, added: Path, tiny_corpus: Path) -> None:
    store, again = open_store(copy), ("--corpus", f"tiny={tiny_corpus}", "--out", copy, "--workers", 1)
    damaged = copy / "vectors" / "IS09" / "s1.parquet"
    flip_a_byte(damaged)
    (copy / "vectors" / "eGeMAPSv02" / "s5.parquet").unlink()
    (copy / "vectors" / "IS09" / "notes.txt").touch()
    faults = [line.split(" (")[0] for line in verify_store(store)]
    assert faults == [
        "vectors/IS09/notes.txt: foreign",
        "vectors/IS09/s1.parquet: damaged",
        "vectors/eGeMAPSv02/s5.parquet: missing",
    ]
    with pytest.raises(InputError, match=r"s1.parquet: is missing or damaged; delete it and run the same"):
        open_vector_set(store, "IS09")
    with pytest.raises(InputError, match=r"s5.parquet: is missing or damaged; delete it and run the same"):
        open_vector_set(store, "eGeMAPSv02")
    assert "s1.parquet: is damaged" in refused(*again, "--sets", "IS09")
    damaged.unlink()
    (copy / "vectors" / "IS09" / "notes.txt").unlink()
    says(*again, "--sets", "IS09,eGeMAPSv02")
    assert sets_of(copy) == sets_of(added)
    assert verify_store(store) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '"name"', None])
def test_damaged_manifest(copy: Path, added: Path, tiny_corpus: Path, text: str | None) -> None:
    manifest = copy / "vectors" / "eGeMAPSv02" / "vectors.json"
    edited = manifest.read_text().replace("loudness", "loudnezz", 1)
    manifest.write_text(edited if text is None else text)
    store = open_store(copy)
    assert {line.split(": ")[1][:21] for line in verify_store(store)} == {"unfinished or damaged"}
    with pytest.raises(InputError, match="eGeMAPSv02: is unfinished or damaged; run the same"):
        open_vector_set(store, "eGeMAPSv02")
    with pytest.raises(InputError, match="eGeMAPSv02: is unfinished or damaged; run the same"):
        vector_digests(store)
    extract_functionals(store, read_corpus("tiny", tiny_corpus), ("eGeMAPSv02",), workers=1)
    assert sets_of(copy) == sets_of(added)


def test_set_of_another_store(copy: Path, tmp_path: Path, tiny_corpus: Path) -> None:
    corpus = read_corpus("tiny", tiny_corpus, ("anger", "sadness"))
    two = build_store(tmp_path / "two", corpus, noises=0, snrs=0, workers=1)
    shutil.copytree(copy / "vectors", two.path / "vectors")
    with pytest.raises(InputError, match="IS09: belongs to a store of other utterances; delete the folder"):
        open_vector_set(two, "IS09")

"""Tables of the user's own, and what becomes of awkward input."""

import json
from pathlib import Path

import numpy as np
import polars
import pytest
import soundfile

from sersearch.errors import InputError
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import open_store
from sersearch.store.vectors.reader import open_vector_set, vector_digests
from sersearch.store.vectors.table import import_table
from sersearch.store.verify import verify_store
from tests.store.vectors.helpers import refused, says, write_csv


def utterances_of(store: Path) -> list[str]:
    return [
        id
        for info in open_store(store).speakers
        for id in open_store(store).table(info.speaker)["utterance"].to_pylist()
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table(empty: Path, tmp_path: Path, suffix: str) -> None:
    generator = np.random.default_rng(0)
    ids = generator.permutation(sorted(utterances_of(empty))).tolist()
    numbers = generator.standard_normal((36, 300)).astype(np.float32)
    table = polars.DataFrame(numbers, [f"d{d}" for d in range(300)]).insert_column(7, polars.Series("utterance", ids))
    file = tmp_path / f"embeddings.{suffix}"
    table.write_csv(file) if suffix == "csv" else table.write_parquet(file)
    words = says("--table", f"wav2vec={file}", "--out", empty)
    assert words == f"{empty}: wav2vec: 36 vectors of 300 numbers\n"
    read = open_vector_set(open_store(empty), "wav2vec")
    assert read.names == tuple(f"d{d}" for d in range(300))
    np.testing.assert_array_equal(read.x_UD, numbers[[ids.index(id) for id in read.utterance]])
    assert read.utterance == tuple(sorted(ids))
    assert [id.split("-")[1] for id in read.utterance] == [open_store(empty).emotions[e] for e in read.emotion]
    assert says("--table", f"wav2vec={file}", "--out", empty) == words
    assert verify_store(open_store(empty)) == []


def test_any_number_of_a_table_enters_its_digest(empty: Path, tmp_path: Path) -> None:
    ids, digests = utterances_of(empty), []
    for name, last in (("a", 1.0), ("b", 1.0000001)):
        rows = [[id, float(row)] for row, id in enumerate(ids[:-1])] + [[ids[-1], last]]
        says("--table", f"{name}={write_csv(tmp_path / 'x.csv', ['utterance', 'x'], rows)}", "--out", empty)
        facts = json.loads((empty / "vectors" / name / "vectors.json").read_text())
        digests.append(list(facts["files"].values()))
    assert len({sha256 for files in digests for sha256 in files}) == 12
    one, other = vector_digests(open_store(empty)).values()
    assert one != other
    assert "holds a from another source" in refused("--table", f"a={tmp_path / 'x.csv'}", "--out", empty)


def test_what_a_table_may_leave_out(tmp_path: Path) -> None:
    """Ids that look like numbers stay text; numbers that are no finite float32 become NaN."""
    hiss = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for row in range(5):
        soundfile.write(tmp_path / f"{row}.wav", hiss[row:], 16_000)
    write_csv(
        tmp_path / "manifest.csv",
        ["path", "speaker", "emotion", "utterance"],
        [[f"{row}.wav", "s", "joy", f"00{row}"] for row in range(5)],
    )
    store = build_store(tmp_path / "store", read_corpus("five", tmp_path), noises=0, snrs=0, workers=1)
    given = ["", "inf", "1e300", "nan", "7"]
    file = write_csv(tmp_path / "x.CSV", ["x", "utterance"], [[x, f"00{row}"] for row, x in enumerate(given)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as spreadsheets write it
    assert "4 numbers of 4 utterances are NaN" in says("--table", f"x={file}", "--out", store.path)
    np.testing.assert_array_equal(open_vector_set(store, "x").x_UD, [[np.nan]] * 4 + [[7.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"utterance 's5-sadness-1' is missing; a table has exactly one row for each"),
        (lambda rows: rows[:20], r"utterance 's3-\w+-\d' is missing \(and 15 more\); a table has exactly one row"),
        (
            lambda rows: [*rows, ["s9", 1, 2]],
            r"utterance 's9' is no utterance of the store; a table has",
        ),
        (lambda rows: [*rows, rows[0]], r"utterance 's0-anger-0' has 2 rows; a table has exactly one row"),
        (lambda rows: [*rows[:-1], [rows[-1][0], 1, "loud"]], r"column #2.*'loud'.*; a table has a column `utterance`"),
        (lambda rows: [[*row, 1] for row in rows], r"Expected 3 columns, got 4.*; a table has a column `utterance`"),
        (lambda rows: [], r"utterance 's0-anger-0' is missing \(and 35 more\)"),
    ],
)
def test_rows_that_do_not_fit(empty: Path, tmp_path: Path, change: object, message: str) -> None:
    rows = [[id, 0.5, 1] for id in utterances_of(empty)]
    file = write_csv(tmp_path / "x.csv", ["utterance", "x", "y"], change(rows))  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as refusal:
        import_table(open_store(empty), "mine", file)
    assert "\n" not in str(refusal.value)
    assert not (empty / "vectors").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["id", "x"], r"has no column `utterance`; give this name to the column"),
        (["utterance;x"], r"has no column `utterance`; give this name to the column"),
        ([], r"has no column `utterance`"),
        (["utterance"], r"has no column of numbers; a table has"),
        (["utterance", "x", "x"], r"has 2 columns 'x'; give each column a name"),
        (["", "utterance", "x"], r"column 1 has no name \(pandas' index\?\); write the table without it"),
    ],
)
def test_columns_that_do_not_fit(empty: Path, tmp_path: Path, header: list[str], message: str) -> None:
    rows = [[id if name == "utterance" else 1 for name in header] for id in utterances_of(empty)]
    with pytest.raises(InputError, match=message):
        import_table(open_store(empty), "mine", write_csv(tmp_path / "x.csv", header, rows))


def test_files_that_are_no_table(empty: Path, tmp_path: Path) -> None:
    store = open_store(empty)
    ids = utterances_of(empty)
    polars.DataFrame({"utterance": ids, "text": ids}).write_parquet(tmp_path / "text.parquet")
    polars.DataFrame({"utterance": [None, *ids[1:]], "x": range(36)}).write_parquet(tmp_path / "null.parquet")
    polars.DataFrame({"utterance": range(36), "x": range(36)}).write_parquet(tmp_path / "numbers.parquet")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "binary.csv").write_bytes(b"utterance,x\n\xff\xfe\x00")
    for file, message in {
        "text.parquet": r"column 'text' is (large_)?string; all columns except `utterance` must be numbers",
        "numbers.parquet": r"column `utterance` is int64; write the ids as text",
        "null.parquet": r"utterance '' is no utterance of the store; a table has",
        "nothing.csv": r"No such file or directory; give a CSV or Parquet file",
        "nothing.parquet": r"No such file or directory; give a CSV or Parquet file",
        "empty.csv": r"has no column `utterance`",
        "torn.parquet": r"torn.parquet: .*; a table has a column `utterance`, and all its other",
        "binary.csv": r"binary.csv: .*; a table has a column `utterance`, and all its other",
        "table.xlsx": r"is neither .csv nor .parquet; write the table as one of them",
    }.items():
        with pytest.raises(InputError, match=message) as refusal:
            import_table(store, "mine", tmp_path / file)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["IS09", "a/b", "..", ".x", "my set", "ünder"])
def test_names_that_do_not_fit(empty: Path, tmp_path: Path, name: str) -> None:
    assert "choose a name of letters, digits" in refused("--table", f"{name}={tmp_path / 'x.csv'}", "--out", empty)

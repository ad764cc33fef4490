"""Whatever a record file holds, its reader answers or refuses in one line.

Three kinds of content: any bytes; any JSON, with the hash that belongs to it; and a record that was written, of which
one value was replaced and the hash computed again.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sersearch.digests import digest
from sersearch.errors import InputError
from sersearch.evaluation.probe.findings import Findings, check_findings
from sersearch.evaluation.test_partition import (
    Computed,
    LedgerState,
    Opening,
    check_computed,
    opening_name,
    read_ledger_state,
)
from sersearch.run.ledger import Begun, Epoch, Failure, Result
from sersearch.run.records import DIGEST, seal, seal_bytes, unseal_bytes
from sersearch.run.run import Run, open_run
from sersearch.run.storage import Folder
from sersearch.run.suggestions import Slots, Suggestion
from sersearch.run.verify import FAULTS, verify, verify_draws
from sersearch.store.manifest import Manifest
from sersearch.store.reader import Store, open_store
from sersearch.store.vectors.manifest import VectorSetManifest, read_manifest
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import parse_study
from sersearch.study.trial import StoreIdentity
from tests.trials import make_trial

TRIAL = make_trial(NetworkConfiguration(model="LDNN"), 0, "d").sealed
KEY = TRIAL.key
STUDY = {
    "name": "fuzzed",
    "spaces": [{"name": "l", "model": "LDNN", "learning_rate": {"log": [0.001, 0.1]}}],
    "search": {"sampler": "random", "trials": 2},
}
RESULT = Result(
    trial=TRIAL,
    epochs=(Epoch(epoch=1, train_loss=2.0, validation_loss=1.0, ua_noisy=50.0, ua_clean=50.0, seconds=1.5),),
    best=0,
    stopped="early",
    seconds=1.5,
    parameters=10,
    confusion={c: {"s3": [[1, 0], [1, 0]], "s4": [[1, 0], [1, 0]]} for c in ("noisy", "clean")},
    environment={"torch": "x"},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
AWKWARD: list[Any] = [
    None,
    -1,
    10**400,
    1e308,
    "",
    "\n",
    "x" * 300,
    [],
    {},
    [[]],
    {"": None},
    True,
    "../../x",
    "\ud800",
]
NESTED = (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500 + b"]" * 500)


def places(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value of a record."""
    if path:
        yield path
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ():
        yield from places(value, (*path, key))


@st.composite
def mutations(draw: st.DrawFn, written: bytes) -> bytes:
    """A record of which a value is replaced or left out, with the hash of what it is then."""
    plain = json.loads(written)
    plain.pop(DIGEST, None)
    *path, last = draw(st.sampled_from(sorted(places(plain), key=str)))
    parent = changed = copy.deepcopy(plain)
    for key in path:
        parent = parent[key]
    if draw(st.booleans()):
        parent[last] = draw(st.sampled_from(AWKWARD) | json_values)
    else:
        del parent[last]
    return resealed(changed)


def resealed(plain: Any) -> bytes:
    content = plain | {DIGEST: digest(plain)} if isinstance(plain, dict) else plain
    return json.dumps(content).encode()


def contents(written: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.binary(max_size=200),
        st.sampled_from(NESTED),
        json_values.map(resealed),
        st.integers(0, len(written)).map(lambda end: written[:end]),
        mutations(written),
    )


@contextmanager
def answers_or_refuses() -> Iterator[None]:
    """Let a reader answer, or refuse in one line; any other error is the test's."""
    try:
        yield
    except InputError as error:
        said = str(error)
    else:
        return
    if "\n" in said:
        pytest.fail(f"it refuses in more than one line: {said!r}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with one record of each kind, all of them intact."""
    study = parse_study(STUDY, "fuzzed.toml")
    identity = StoreIdentity(fingerprint="d", speakers=tuple("abcdefghij"))
    path = tmp_path_factory.mktemp("fuzzed") / "run"
    run = Run(path, study, path, identity)
    run.storage.put("run.json", seal(run.record()))
    attempt = run.ledger.begin(TRIAL)
    attempt.save(b"checkpoint", RESULT.epochs)
    attempt.commit(RESULT, b"weights")
    suggestions = run.suggestions()
    suggestions.launch(slots=4)
    suggestions.add("l", 0, NetworkConfiguration(model="LDNN"), known=0)
    return run


@pytest.fixture
def written(run: Run) -> dict[str, bytes]:
    """By kind of record, what is written."""
    figures = RESULT.figures_digest
    opening = Opening(key=KEY, condition="noisy", by="report", utterances=1, opened="2026", figures=figures, ledger="x")
    findings = Findings(condition="clean", emotions=("a",), utterance=("u",), labels={}, omitted={}, winners=())
    return {
        "result": seal(RESULT),
        "run": seal(run.record()),
        "failure": seal(Failure(error="ValueError: no", traceback="")),
        "trial": seal(TRIAL),
        "attempt": seal(Begun(host="h")),
        "epochs": b"".join(epoch.model_dump_json().encode() + b"\n" for epoch in RESULT.epochs),
        "checkpoint": seal_bytes(b"checkpoint"),
        "weights": b"weights",
        "suggestion": seal(
            Suggestion(space="l", number=0, window=8, known=0, configuration=NetworkConfiguration(model="LDNN"))
        ),
        "slots": seal(Slots(slots=4)),
        "opening": seal(opening),
        "ledger": seal(LedgerState(results={KEY: figures})),
        "computed": seal(Computed(key=KEY, condition="noisy", figures=figures, sha256="0" * 64)),
        "findings": seal(findings),
    }


def _read_result(run: Run) -> None:
    for result in run.ledger.results().values():
        assert result.figures_digest
        assert all(0 <= result.ua(condition) <= 100 for condition in result.conditions)


def _open_and_list(run: Run) -> None:
    opened = open_run(run.path)
    assert opened.agenda().upper_bound() >= 0


def _verify(run: Run) -> None:
    findings = [*verify(run, [KEY]), *verify_draws(run, run.agenda())]
    assert all("\n" not in finding.text for finding in findings)


def _read_checkpoint(run: Run) -> None:
    content = run.ledger.begin(TRIAL).checkpoint()
    assert content in (None, b"checkpoint")


def _read_weights(run: Run) -> None:
    _verify(run)
    assert run.ledger.weights(run.ledger.results()[KEY]) == b"weights"


READERS: dict[str, tuple[str, Callable[[Run], object]]] = {
    "result": (f"trials/{KEY}/result.json", _read_result),
    "run": ("run.json", _open_and_list),
    "failure": (f"trials/{KEY}/attempt-001/failure.json", lambda run: run.ledger.failures(KEY)),
    "trial": (f"trials/{KEY}/trial.json", _verify),
    "attempt": (f"trials/{KEY}/attempt-001/attempt.json", _verify),
    "epochs": (f"trials/{KEY}/attempt-001/epochs.jsonl", _verify),
    "checkpoint": (f"trials/{KEY}/attempt-001/checkpoint", _read_checkpoint),
    "weights": (f"trials/{KEY}/attempt-001/best.safetensors", _read_weights),
    "suggestion": ("suggestions/*/000000.json", lambda run: run.suggestions().drawn),
    "slots": ("slots.json", _verify),
    "opening": (
        opening_name(RESULT, "noisy", "report"),
        lambda run: check_computed(run, "test/x.parquet", RESULT, "noisy", "report"),
    ),
    "ledger": ("ledgers/x.json", lambda run: read_ledger_state(run, "x.json")),
    "computed": ("test/x.json", lambda run: check_computed(run, "test/x.parquet", RESULT, "noisy", "report")),
    "findings": ("probe/probe-clean.json", lambda run: check_findings(run, "clean")),
}


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_reader_of_a_run_answers_or_refuses_in_one_line(
    kind: str, data: st.DataObject, run: Run, written: dict[str, bytes]
) -> None:
    pattern, read = READERS[kind]
    name = next((str(path.relative_to(run.path)) for path in run.path.glob(pattern)), pattern)
    before = run.storage.get(name)
    text = kind not in ("checkpoint", "weights", "epochs")
    content = contents(written[kind]) if text else st.binary(max_size=200) | st.sampled_from(NESTED)
    run.storage.put(name, data.draw(content, label="content"))
    try:
        with answers_or_refuses():
            read(run)
    finally:
        run.storage.put(name, before) if before is not None else run.storage.delete(name)


@given(st.binary(max_size=100))
def test_bytes_are_what_was_sealed_or_nothing(content: bytes) -> None:
    assert unseal_bytes(seal_bytes(content)) == content
    assert unseal_bytes(content) is None
    assert unseal_bytes(seal_bytes(content)[:-1]) is None


@settings(max_examples=60)
@given(data=st.data())
def test_a_reader_of_a_store_answers_or_refuses_in_one_line(data: st.DataObject, tiny_store: Store) -> None:
    written = (tiny_store.path / "store.json").read_bytes()
    plain = json.loads(written)
    content = data.draw(contents(written), label="content")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "store.json").write_bytes(content)
        with answers_or_refuses():
            assert Manifest.read(Path(folder)).fingerprint == plain["fingerprint"]
        with answers_or_refuses():
            open_store(Path(folder))


@settings(max_examples=60)
@given(data=st.data())
def test_a_manifest_of_vectors_is_whole_or_nothing(data: st.DataObject) -> None:
    manifest = VectorSetManifest(
        name="a", content="c", source={}, names=("f0",), utterances=1, not_finite={}, files={"s0.parquet": "0"}
    ).sealed()
    with tempfile.TemporaryDirectory() as folder:
        content = data.draw(contents(manifest.model_dump_json().encode()), label="content")
        (Path(folder) / "vectors.json").write_bytes(content)
        found = read_manifest(Path(folder))
        assert found is None or found.is_intact


@settings(max_examples=40)
@given(content=st.binary(max_size=300))
def test_rows_are_those_that_were_written_or_refused(content: bytes, tiny_store: Store) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), tiny_store.manifest)
        (store.path / "s0.parquet").write_bytes(content)
        with answers_or_refuses():
            store.table("s0")
            raise AssertionError("these are not the bytes that were written")
        with answers_or_refuses():
            store.emotions_of("s0")


def test_what_was_written_is_read(run: Run) -> None:
    assert Folder(run.path).get("run.json")
    found = run.ledger.result(KEY)
    assert found is not None
    assert found.figures_digest == RESULT.model_copy(update={"weights_sha256": found.weights_sha256}).figures_digest
    assert run.ledger.weights(found) == b"weights"
    assert [finding for finding in verify(run, [KEY]) if finding.kind in FAULTS] == []

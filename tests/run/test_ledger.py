import json
import multiprocessing
import platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch import durable
from sersearch.errors import InputError
from sersearch.run.ledger import Epoch, Ledger, Result
from sersearch.run.run import open_run, start_run
from sersearch.run.storage import Folder
from sersearch.store.reader import Store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import parse_study
from tests.trials import make_trial

TRIAL = make_trial(NetworkConfiguration(model="LDNN"), 0, "d")


def result(loss: float) -> Result:
    epoch = Epoch(epoch=1, train_loss=2.0, validation_loss=loss, ua_noisy=30.0, ua_clean=40.0, seconds=1.5)
    return Result(
        trial=TRIAL.sealed,
        epochs=(epoch,),
        best=0,
        stopped="early",
        seconds=1.5,
        parameters=10,
        confusion={"noisy": {"s1": [[1, 0], [0, 1]]}, "clean": {"s1": [[1, 0], [1, 0]]}},
        environment={"torch": "x"},
    )


def _commit(run: Path, number: int) -> bool:
    attempt = Ledger(Folder(run)).begin(TRIAL)
    return attempt.commit(result(float(number)), bytes([number]))


@pytest.mark.slow("four processes import the package")
def test_of_many_processes_one_commit_wins(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_commit, [(tmp_path, number) for number in range(8)])
    assert won.count(True) == 1
    ledger = Ledger(Folder(tmp_path))
    found = ledger.result(TRIAL.key)
    assert found
    assert found.epochs[0].validation_loss == won.index(True)
    assert ledger.weights(found) == bytes([won.index(True)])
    assert ledger.attempts(TRIAL.key) == 8
    assert len(list(tmp_path.glob("trials/*/*/best.safetensors"))) == 1


def test_a_zombie_can_neither_overwrite_a_checkpoint_nor_a_result(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    zombie = ledger.begin(TRIAL)
    zombie.save(b"epoch 1", ())
    heir = ledger.begin(TRIAL)
    assert heir.checkpoint() == b"epoch 1"
    heir.save(b"epoch 2 of the heir", ())
    zombie.save(b"epoch 2 of the zombie", ())
    assert heir.checkpoint() == b"epoch 2 of the heir"
    assert ledger.begin(TRIAL).checkpoint() == b"epoch 2 of the heir"
    assert heir.commit(result(1.0), b"heir")
    assert not zombie.commit(result(2.0), b"zombie")
    found = ledger.result(TRIAL.key)
    assert found
    assert found.epochs[0].validation_loss == 1.0
    assert ledger.weights(found) == b"heir"


def test_a_result_survives_its_record(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    ledger.begin(TRIAL).commit(result(0.25), b"w")
    (found,) = ledger.results().values()
    assert found.weights == "attempt-001/best.safetensors"
    assert found.host == platform.node()
    added = {"weights": "", "weights_sha256": "", "finished": "", "host": ""}
    assert found.model_copy(update=added) == result(0.25)
    assert (found.ua("noisy"), found.ua("clean")) == (100.0, 50.0)


def test_the_record_of_a_trial_holds_no_test_speaker(tmp_path: Path) -> None:
    attempt = Ledger(Folder(tmp_path)).begin(TRIAL)
    assert TRIAL.fold.test == ("s5",)
    assert attempt.trial.fold.test == ()
    recorded = json.loads((tmp_path / "trials" / TRIAL.key / "trial.json").read_text())
    assert recorded["fold"]["test"] == []


def test_looking_at_a_run_writes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path / "none"))
    assert ledger.results() == {}
    assert ledger.result("x") is None
    assert not (tmp_path / "none").exists()


@given(st.binary(max_size=300))
def test_a_damaged_result_is_named(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Folder(Path(folder)))
        Folder(Path(folder)).put("trials/k/result.json", content)
        with pytest.raises(InputError, match=r"result\.json is damaged"):
            ledger.result("k")


def test_a_checkpoint_that_is_damaged_is_set_aside_and_the_one_before_it_is_used(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    ledger.begin(TRIAL).save(b"epoch 1", ())
    ledger.begin(TRIAL).save(b"epoch 2", ())
    file = tmp_path / "trials" / TRIAL.key / "attempt-002" / "checkpoint"
    torn = file.read_bytes()[:-1]
    file.write_bytes(torn)
    heir = ledger.begin(TRIAL)
    assert heir.checkpoint() == b"epoch 1"
    assert not file.exists()
    assert file.with_name("checkpoint-damaged").read_bytes() == torn
    assert heir.checkpoint() == b"epoch 1"
    first = tmp_path / "trials" / TRIAL.key / "attempt-001" / "checkpoint"
    first.write_bytes(b"")
    assert heir.checkpoint() is None


def test_damaged_weights_and_the_result_of_another_trial_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    ledger.begin(TRIAL).commit(result(0.25), b"weights")
    (found,) = ledger.results().values()
    weights = tmp_path / "trials" / TRIAL.key / found.weights
    weights.write_bytes(b"weightz")
    with pytest.raises(
        InputError, match=r"best\.safetensors is damaged .* delete the folder .* to train the trial again"
    ):
        ledger.weights(found)
    weights.unlink()
    with pytest.raises(InputError, match=r"best\.safetensors is missing"):
        ledger.weights(found)
    other = tmp_path / "trials" / "other" / "result.json"
    other.parent.mkdir()
    other.write_bytes((tmp_path / "trials" / TRIAL.key / "result.json").read_bytes())
    with pytest.raises(InputError, match=f"is the result of another trial, {TRIAL.key}"):
        ledger.result("other")


def test_a_result_that_somebody_edited_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    ledger.begin(TRIAL).commit(result(0.25), b"weights")
    file = tmp_path / "trials" / TRIAL.key / "result.json"
    file.write_text(file.read_text().replace("30.0", "99.9"))
    with pytest.raises(
        InputError, match=r"result\.json is damaged \(its digest is not that of its content\): restore it"
    ):
        ledger.result(TRIAL.key)


def test_the_same_bits_have_the_same_digest_however_long_they_took(tmp_path: Path) -> None:
    slow = result(0.25).model_copy(update={"seconds": 9.0, "environment": {}, "weights": "attempt-002/x"})
    assert slow.figures_digest == result(0.25).figures_digest != result(0.5).figures_digest


def test_a_damaged_failure_is_told_and_can_be_deleted(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    attempt = ledger.begin(TRIAL)
    attempt.fail(ValueError("no"))
    file = tmp_path / "trials" / TRIAL.key / attempt.name / "failure.json"
    file.write_bytes(file.read_bytes()[:-9])
    said = ledger.failure(TRIAL.key)
    assert said is not None
    assert "failure.json is damaged" in said
    assert "delete it, and the trial is tried again" in said
    file.unlink()
    assert ledger.failures(TRIAL.key) == []


def test_a_failure_is_recorded_with_its_traceback(tmp_path: Path) -> None:
    ledger = Ledger(Folder(tmp_path))
    attempt = ledger.begin(TRIAL)
    try:
        raise FloatingPointError("loss is nan")
    except FloatingPointError as error:
        attempt.fail(error)
    assert ledger.failure(TRIAL.key) == "FloatingPointError: loss is nan"
    assert "test_a_failure_is_recorded" in (tmp_path / "trials" / TRIAL.key / attempt.name / "failure.json").read_text()
    ledger.begin(TRIAL)
    assert ledger.failure(TRIAL.key) is None


@pytest.mark.parametrize(
    ("errors", "retries", "final"),
    [
        (["OutOfMemoryError: 4 GiB"], 1, False),
        (["OutOfMemoryError: 4 GiB", "OutOfMemoryError: 4 GiB"], 1, True),
        (["ValueError"], 0, True),
        (["FloatingPointError: loss is nan"], 5, True),
    ],
)
def test_a_failure_is_final_when_no_retry_is_left_whichever_driver_saw_it(
    errors: list[str], retries: int, final: bool, tiny_store: Store, tmp_path: Path
) -> None:
    table = {"name": "x", "spaces": [{"name": "l", "model": "LDNN"}], "resources": {"retries": retries}}
    study = parse_study(table | {"partition": {"train": 50, "validation": 25, "test": 25}}, "x.toml")
    run = start_run(tmp_path / "run", study, tiny_store.path)
    (trial,) = run.agenda().left
    for error in errors:
        run.ledger.begin(trial)
        run.ledger.fail(trial, error)
    again = open_run(run.path)
    assert (again.agenda().failed == [trial.key]) == final
    assert (again.agenda().left == []) == final
    again.forgive_failures()
    assert [each.key for each in again.agenda().left] == [trial.key]
    assert again.ledger.failures(trial.key) == []


def test_writing_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old")
    with pytest.raises(TypeError):
        durable.write(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert durable.write_once(path, b"new") is False
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

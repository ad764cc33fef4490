"""Each file of a run is damaged in each way, and every command answers as the table says.

"done" means that the answer is the one that the untouched run gives, to the letter: no number changes without a word.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import InputError
from sersearch.evaluation.leaderboard import select_winners
from sersearch.evaluation.probe.inquiry import ProbeWinner, probe
from sersearch.evaluation.test_partition import record_ledger
from sersearch.report.folder import make_report
from sersearch.run.run import Run, open_run, start_run
from sersearch.search.suggest import sources
from sersearch.search.worker import open_data
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.training.system import make_system, run_steps, run_trial
from tests.attacks.damage import ATTACKS, answer, empty, flip, refusal
from tests.records import forge

pytestmark = pytest.mark.slow("four small networks are trained, tested and probed, and their run is damaged 70 times")

STUDY = """
name = "attacked"
spaces = [
    { name = "fst", model = "FST-CLDNN", w1 = "3:6", w2 = 2 },
    { name = "ldnn", model = "LDNN", features = "mfccs", learning_rate = { log = [0.001, 0.1] } },
]
[search]
sampler = "random"
trials = 2
[partition]
train = 60
validation = 15
test = 25
[training]
epochs = 2
maps = 4
cells = 4
dense = [6]
"""


def train(run: Run) -> None:
    """What a search does, without Ray."""
    agenda = run.agenda()
    agenda.draw_from(sources(run, agenda, slots=2))
    while trial := agenda.take():
        run_trial(trial, open_data(run, trial), attempt=run.ledger.begin(trial))
        result = run.ledger.result(trial.key)
        assert result
        agenda.finish(trial.key, run.outcome(result))


@pytest.fixture(scope="module")
def whole(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is searched, reported and probed; each trial failed once, and one of these failures is forgiven."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "study.toml").write_text(STUDY)
    run = start_run(folder / "run", load_study(folder / "study.toml"), tiny_store.path)
    agenda = run.agenda()
    agenda.draw_from(sources(run, agenda, slots=2))
    for number, trial in enumerate(agenda.trials.values()):
        run.ledger.begin(trial).fail(ValueError(f"no luck {number}"))
        if not number:
            run.ledger.forgive(trial.key)
    train(run)
    make_report(run, lambda words: None)
    probe(run, "clean", lambda words: None, 1)
    return run


def winner_of(run: Run) -> str:
    return select_winners(run).winners[0].key


def other_than(key: str, run: Run) -> str:
    return next(known for known in run.ledger.keys() if known != key)  # noqa: SIM118


def report(path: Path) -> tuple[str, str]:
    """What `sersearch report` says, without the seconds that drawing takes."""
    try:
        facts = make_report(open_run(path), lambda words: None)
        probed = [findings.model_dump(mode="json") for findings in facts.probed]
    except InputError as error:
        return refusal(error)
    # How often test speakers were opened depends on the copies of the run that were reported before.
    record = {name: value for name, value in facts.record().items() if name != "openings"}
    return "done", json.dumps(record | {"probed": probed})


def read_probes(path: Path) -> tuple[str, str]:
    """What `sersearch probe` reads of what it computed before, without computing it again."""
    try:
        run = open_run(path)
        board = select_winners(run)
        probing = ProbeWinner(run, record_ledger(run, board))
        found = [probing.targets(winner).utterance for winner in board.winners if winner.condition == "clean"]
    except InputError as error:
        return refusal(error)
    return "done", str(found)


COMMANDS: dict[str, Callable[[Path, str], tuple[str, str]]] = {
    "status": lambda path, key: answer("status", path, home=path.parent),
    "verify": lambda path, key: answer("status", path, "--verify", home=path.parent),
    "resume": lambda path, key: answer("resume", path, home=path.parent),
    "report": lambda path, key: report(path),
    "probe": lambda path, key: read_probes(path),
    "rerun": lambda path, key: answer("rerun", path, key, home=path.parent),
}

# By file of a winner: what each command answers, in the order of COMMANDS; then what another of its kind is.
S, F, R = "done", "failed", "refused"
TABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "run.json": ((R, R, R, R, R, R), ""),
    "trials/KEY/result.json": ((R, F, R, R, R, R), "trials/OTHER/result.json"),
    "trials/KEY/trial.json": ((S, F, S, S, S, S), "trials/OTHER/trial.json"),
    "trials/KEY/attempt-002/attempt.json": ((S, F, S, S, S, S), ""),
    "trials/KEY/attempt-002/epochs.jsonl": ((S, F, S, S, S, S), "trials/OTHER/attempt-002/epochs.jsonl"),
    "trials/KEY/attempt-002/best.safetensors": ((S, F, S, S, S, S), "trials/OTHER/attempt-002/best.safetensors"),
    "trials/KEY/attempt-001/failure.json": ((S, F, S, S, S, S), ""),
    "trials/FORGIVEN/attempt-001/forgiven.json": ((S, F, S, S, S, S), ""),
    "suggestions/*/000000.json": ((R, R, R, R, R, S), "suggestions/*/000001.json"),
    "slots.json": ((S, F, S, S, S, S), ""),
    "openings/KEY-noisy-report-*.json": ((S, F, S, R, S, S), "openings/KEY-clean-report-*.json"),
    "openings/KEY-clean-probe-*.json": ((S, F, S, S, R, S), "openings/KEY-clean-report-*.json"),
    "ledgers/*.json": ((S, F, S, R, S, S), ""),
    "test/KEY-noisy.json": ((S, F, S, R, S, S), "test/KEY-clean.json"),
    "test/KEY-noisy.parquet": ((S, F, S, R, S, S), "test/KEY-clean.parquet"),
    "probe/KEY-clean.json": ((S, F, S, S, R, S), "test/KEY-clean.json"),
    "probe/KEY-clean.parquet": ((S, F, S, S, R, S), "test/KEY-clean.parquet"),
    "probe/probe-clean.json": ((S, F, S, R, S, S), ""),
}


def rows() -> Iterator[Any]:
    for file, (_, other) in TABLE.items():
        for attack in ATTACKS:
            if other or attack != "another's":
                yield pytest.param(file, attack, id=f"{file}, {attack}")


def find(run: Run, pattern: str) -> Path:
    key = winner_of(run)
    forgiven = next(run.path.glob("trials/*/attempt-001/forgiven.json")).parents[1].name
    named = pattern.replace("KEY", key).replace("OTHER", other_than(key, run)).replace("FORGIVEN", forgiven)
    return sorted(run.path.glob(named))[0].relative_to(run.path)


@pytest.fixture(scope="module")
def untouched(whole: Run) -> dict[str, tuple[str, str]]:
    """What each command says of the run as it is; rerun and probe end as they should, so the run stays as it is."""
    key = winner_of(whole)
    said = {name: command(whole.path, key) for name, command in COMMANDS.items()}
    assert {name: outcome for name, (outcome, _) in said.items()} == dict.fromkeys(COMMANDS, "done")
    return said


@pytest.mark.parametrize(("file", "attack"), list(rows()))
def test_every_command_answers_what_the_table_says(
    whole: Run, untouched: dict[str, tuple[str, str]], tmp_path: Path, file: str, attack: str
) -> None:
    key, damaged = winner_of(whole), find(whole, file)
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report"))
    answers, other = TABLE[file]
    ATTACKS[attack](path / damaged, path / find(whole, other) if other else None)
    for (name, command), expected in zip(COMMANDS.items(), answers, strict=True):
        outcome, said = command(path, key)
        assert outcome == expected, f"{name}: {said}"
        if expected == "done":
            assert said == untouched[name][1], name
        else:
            assert damaged.name in said, f"{name}: {said}"
            assert any(word in said for word in ("delete", "restore", "again")), f"{name} says what to do: {said}"


def train_again(path: Path) -> None:
    """What `sersearch resume` does."""
    train(open_run(path))


def search_again(path: Path) -> None:
    """What the message says; the run is complete, so Ray does not start."""
    words = ["search", path.parent / "study.toml", "--store", (path.parent / "store.txt").read_text(), "--run", path]
    outcome, said = answer(*words, home=path.parent)
    assert outcome == "done"
    assert "run.json was lost or damaged and is written again; the trials are kept" in said


REMEDIES: dict[str, tuple[tuple[str, ...], Callable[[Path], object]]] = {
    "run.json": ((), search_again),
    "trials/KEY/result.json": (("trials/KEY/result.json",), train_again),
    "trials/KEY/trial.json": (("trials/KEY/trial.json",), report),
    "trials/KEY/attempt-002/attempt.json": (("trials/KEY/attempt-002/attempt.json",), report),
    "trials/KEY/attempt-002/epochs.jsonl": (("trials/KEY/attempt-002/epochs.jsonl",), report),
    "trials/KEY/attempt-002/best.safetensors": (("trials/KEY",), train_again),
    "trials/KEY/attempt-001/failure.json": (("trials/KEY/attempt-001/failure.json",), report),
    "suggestions/*/000000.json": (("suggestions/*",), train_again),
    "slots.json": (("slots.json",), report),
    "openings/KEY-noisy-report-*.json": (("openings/KEY-noisy-report-*.json", "test/KEY-noisy.*"), report),
    "openings/KEY-clean-probe-*.json": (("openings/KEY-clean-probe-*.json", "probe/KEY-clean.*"), read_probes),
    "ledgers/*.json": (("ledgers/*.json",), report),
    "test/KEY-noisy.json": (("test/KEY-noisy.*",), report),
    "test/KEY-noisy.parquet": (("test/KEY-noisy.*",), report),
    "probe/KEY-clean.json": (("probe/KEY-clean.*",), read_probes),
    "probe/KEY-clean.parquet": (("probe/KEY-clean.*",), read_probes),
}


@pytest.mark.parametrize("file", REMEDIES)
def test_the_remedy_works(whole: Run, untouched: dict[str, tuple[str, str]], tmp_path: Path, file: str) -> None:
    key = winner_of(whole)
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report"))
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "store.txt").write_text(str(whole.store_path))
    flip(path / find(whole, file), None)
    deleted, then = REMEDIES[file]
    for pattern in deleted:
        for each in list(path.glob(pattern.replace("KEY", key))):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    then(path)
    assert answer("status", path, "--verify", home=tmp_path)[0] == "done"
    now, before = (json.loads(said) for said in (report(path)[1], untouched["report"][1]))
    for record in (now, before):
        for row in record["rows"]:
            # When they were opened and how long training took may differ; no figure does.
            for name in ("opened", "seconds", "device_seconds", "environment", "attempts"):
                row.pop(name, None)
    assert now == before


def test_damaged_weights_open_no_test_speaker(whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    left_out = shutil.ignore_patterns("report", "test", "openings", "ledgers", "probe")
    shutil.copytree(whole.path, path, ignore=left_out)
    flip(path / find(whole, "trials/KEY/attempt-002/best.safetensors"), None)
    for command in (report, read_probes):
        outcome, said = command(path)
        assert outcome == "refused"
        assert "best.safetensors is damaged" in said
    for winner in select_winners(whole).winners:
        if winner.key == winner_of(whole):
            assert not list((path / "openings").glob(f"{winner.key}-*"))


def test_a_result_whose_hash_was_computed_again_is_found_as_far_as_it_can_be(whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report"))
    loser = next(key for key in open_run(path).ledger.results() if key not in winners(whole))
    file = path / "trials" / loser / "result.json"

    def be_perfect(record: dict[str, Any]) -> None:
        for counts in record["confusion"].values():
            for matrix in counts.values():
                for emotion, row in enumerate(matrix):
                    row[emotion], total = sum(row), row[emotion]
                    for predicted in range(len(row)):
                        row[predicted] = row[predicted] if predicted == emotion else 0
                    assert total <= row[emotion]

    forge(file, be_perfect)
    outcome, said = answer("status", path, "--verify", home=tmp_path)
    assert outcome == "failed"
    assert f"damaged: trials/{loser}/result.json: it says" in said, "the UA of the epoch is another one"
    assert f"changed: trials/{loser}/result.json: not the result that there was when test speakers were opened" in said
    told: list[str] = []
    with suppress(InputError):
        make_report(open_run(path), told.append)
    assert any(f"the result of {loser} is not the one that there was" in words for words in told)


def winners(run: Run) -> set[str]:
    return {winner.key for winner in select_winners(run).winners}


def test_the_record_of_another_run_shows_no_number_as_its_own(whole: Run, tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(STUDY.replace("epochs = 2", "epochs = 3"))
    other = start_run(tmp_path / "other", load_study(tmp_path / "other.toml"), tiny_store.path)
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report"))
    shutil.copy(other.path / "run.json", path / "run.json")
    outcome, said = answer("status", path, home=tmp_path)
    assert outcome == "done"
    assert "0 of 4 trials done" in said
    assert not re.search(r"\d\.\d\d", said), "a UA is shown"
    outcome, said = answer("status", path, "--verify", home=tmp_path)
    assert said.count("extra: ") == 4


def test_a_failed_trial_whose_failure_is_damaged_is_told_and_tried_again(whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report", "test", "openings", "ledgers", "probe"))
    key = winner_of(whole)
    (path / "trials" / key / "result.json").unlink()
    shutil.rmtree(path / "trials" / key / "attempt-002")
    failure = path / "trials" / key / "attempt-001" / "failure.json"
    for damage in (flip, empty):
        damage(failure, None)
        for words in (["status"], ["status", "--verify"]):
            outcome, said = answer(words[0], path, *words[1:], home=tmp_path)
            assert "failure.json is damaged" in said
            assert "delete it, and the trial is tried again" in said
            assert outcome == ("failed" if "--verify" in words else "done")
    failure.unlink()
    train_again(path)
    assert answer("status", path, "--verify", home=tmp_path)[0] == "done"


@pytest.mark.parametrize("attack", ["empty", "torn", "flipped", "another's", "edited"])
def test_a_trial_whose_checkpoint_is_damaged_ends_with_the_same_bits(whole: Run, tmp_path: Path, attack: str) -> None:
    key = winner_of(whole)
    expected = whole.ledger.results()[key]
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report", "test", "openings", "ledgers", "probe"))
    (path / "trials" / key / "result.json").unlink()
    run = open_run(path)
    system = make_system(expected.trial, open_data(run, expected.trial))
    next(run_steps(system, run.ledger.begin(expected.trial), after_epochs=True))
    checkpoint = path / "trials" / key / "attempt-003" / "checkpoint"
    other = tmp_path / "other"
    other.write_bytes(b"\0" * 32 + checkpoint.read_bytes())
    ATTACKS[attack](checkpoint, other)
    outcome, said = answer("status", path, "--verify", home=tmp_path)
    assert outcome == "failed"
    assert f"damaged: trials/{key}/attempt-003/checkpoint: not what was written: it is set aside when" in said
    train_again(path)
    assert run.ledger.results()[key].figures_digest == expected.figures_digest
    outcome, said = answer("status", path, "--verify", home=tmp_path)
    assert outcome == "done"
    assert f"set aside: trials/{key}/attempt-003/checkpoint-damaged" in said


def test_what_a_report_had_begun_when_it_was_killed_is_ended_by_the_next(
    whole: Run, untouched: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path, ignore=shutil.ignore_patterns("report"))
    record = path / "test" / f"{winner_of(whole)}-noisy.json"
    openings = {file: file.read_bytes() for file in (path / "openings").iterdir()}
    record.unlink()
    assert answer("status", path, "--verify", home=tmp_path)[0] == "done"
    assert report(path) == untouched["report"]
    record.with_suffix(".parquet").unlink()
    outcome, said = report(path)
    assert outcome == "refused"
    assert f"{record.with_suffix('.parquet')} is missing: delete it and {record}, and `sersearch report" in said
    record.unlink()
    assert report(path) == untouched["report"]
    assert {file: file.read_bytes() for file in (path / "openings").iterdir()} == openings

"""Where trials are sent, without Ray: their shares of GPUs, the nodes that they avoid, and what is learnt of memory."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from sersearch.run.ledger import Result
from sersearch.run.run import Run, start_run
from sersearch.search.nodes import Finding, Node, Nodes, Sight
from sersearch.search.places import Places
from sersearch.store.reader import Store
from sersearch.study.study import parse_study
from sersearch.study.trial import Trial

GB = 10**9
NODES = {
    "large": Node("large", "10.0.0.1", cpus=4, gpus=2),
    "small": Node("small", "10.0.0.2", cpus=4, gpus=2),
    "none": Node("none", "10.0.0.3", cpus=4, gpus=0),
}
MEMORY = {"large": 80 * GB, "small": 24 * GB, "none": 0}


@pytest.fixture
def run(tiny_store: Store, tmp_path: Path) -> Run:
    table = {
        "name": "x",
        "systems": [str(Path(__file__).with_name("sharing_system.py"))],
        "spaces": [
            {"name": "c", "model": "on-cpu", "rate": [0.1, 0.2, 0.3]},
            {"name": "g", "model": "on-gpu", "gb": [1, 8, 30, 100]},
        ],
        "partition": {"train": 50, "validation": 25, "test": 25},
        "resources": {"gpus": 0.25},
    }
    return start_run(tmp_path / "run", parse_study(table, "x.toml"), tiny_store.path)


@pytest.fixture
def nodes(run: Run) -> Nodes:
    found = Nodes(run.study.resources, None, run.study.devices)
    findings = [
        Finding(node, Sight("host", "1", "", "2", "cpu", int(node.gpus), (), gpu_memory=MEMORY[id]), "")
        for id, node in NODES.items()
    ]
    found.begin(NODES, findings, 0.0)
    return found


@pytest.fixture
def note() -> Mock:
    return Mock()


@pytest.fixture
def places(run: Run, nodes: Nodes, note: Mock) -> Places:
    return Places(run, run.agenda(), (), nodes, note)


def trial_of(run: Run, gb: int) -> Trial:
    (trial,) = [each for each in run.agenda().left if dict(each.configuration).get("gb") == gb]
    return trial


def result_of(trial: Trial, gpu_bytes: int) -> Result:
    return Result(
        trial=trial,
        stopped="fitted",
        seconds=1.0,
        parameters=1,
        confusion={"clean": {"s": [[1, 1], [1, 1]]}},
        environment={},
        gpu_bytes=gpu_bytes,
    )


def test_each_trial_is_sent_where_it_fits(run: Run, places: Places, note: Mock) -> None:
    others = [trial for trial in run.agenda().left if trial.configuration.model == "on-cpu"]
    assert places.hand_out("c", others[0], [])[:2] == (0.0, frozenset())
    assert places.hand_out("1", trial_of(run, 1), [])[:2] == (0.25, frozenset())
    assert places.hand_out("30", trial_of(run, 30), [])[:2] == (0.5, frozenset(["large"]))
    assert places.hand_out("8", trial_of(run, 8), [])[:2] == (0.5, frozenset(["small"])), "where the least is in use"
    note.assert_not_called()
    for id in ("100", "100 again"):
        assert places.hand_out(id, trial_of(run, 100), [])[:2] == (1.0, frozenset(["large"]))
    (sentence,) = note.call_args.args
    assert sentence == (
        "on-gpu (log-mels) is expected to take 100.6 GB of a GPU, and the largest here has 80.0 GB: such trials are "
        "tried there, each on a GPU of its own"
    )
    note.assert_called_once()


def test_shares_that_are_given_back_are_used_again(run: Run, places: Places) -> None:
    """8 GB go to the small GPUs only as long as more of the large ones is in use."""
    places.hand_out("30", trial_of(run, 30), [])
    places.start("30")
    places.end("30")
    assert places.hand_out("8", trial_of(run, 8), [])[:2] == (0.25, frozenset(["large"]))


def test_what_finished_trials_took_corrects_the_estimates(run: Run, places: Places) -> None:
    trial = trial_of(run, 8)
    places.finished(result_of(trial_of(run, 1), gpu_bytes=GB // 2))
    assert places.hand_out("8", trial, [])[:2] == (0.25, frozenset()), "now it fits anywhere"
    places.finished(result_of(trial_of(run, 1), gpu_bytes=16 * GB))
    assert places.hand_out("8 again", trial, [])[:2] == (1.0, frozenset(["large"]))


def test_a_resumed_search_knows_what_trials_took(run: Run, nodes: Nodes, note: Mock) -> None:
    results = [result_of(trial_of(run, 1), gpu_bytes=16 * GB)]
    places = Places(run, run.agenda(), results, nodes, note)
    assert places.hand_out("8", trial_of(run, 8), [])[:2] == (1.0, frozenset(["large"]))


def test_a_failure_for_want_of_memory_is_for_all_trials_of_the_model(run: Run, places: Places) -> None:
    small, failure = trial_of(run, 1), "OutOfMemoryError: CUDA out of memory"
    place = places.hand_out("1", small, [])
    places.failed(small, place, ["ValueError: something else"])
    assert places.hand_out("1 again", small, []).share == 0.25
    places.failed(small, place, [failure])
    # 6 GB were too little, so that the small GPUs would have to be shared by two.
    assert places.hand_out("1 once more", small, []) == (0.25, frozenset(["large"]), 80 * GB, True, frozenset())
    assert places.hand_out("1 itself", small, [failure]).share == 0.5


def test_what_is_left_can_be_trained_without_gpus_for_a_while(run: Run, nodes: Nodes) -> None:
    agenda = run.agenda()
    places = Places(run, agenda, (), nodes, Mock())
    put_back: dict[bool, list[Trial]] = {True: [], False: []}
    assert places.next_kinds(put_back) == [True, False]
    list(nodes.update({"none": NODES["none"]}, 0.0))
    places.look_around()
    assert places.next_kinds(put_back) == [False], "no GPU is left, and the others have not begun"
    assert places.lack == "", "the others can be trained"
    for id in "abc":
        trial = agenda.take(False)
        assert trial
        places.hand_out(id, trial, [])
        places.start(id)
    assert places.next_kinds(put_back) == [True], "some may wait for a node to join"


def test_the_search_lacks_gpus_when_only_trials_on_gpus_are_left(run: Run, nodes: Nodes) -> None:
    agenda = run.agenda()
    while agenda.take(False):
        pass
    places = Places(run, agenda, (), nodes, Mock())
    list(nodes.update({"none": NODES["none"]}, 0.0))
    places.look_around()
    assert places.next_kinds({True: [], False: []}) == [True]
    assert places.lack == "a trial takes 1 CPU and 0.25 GPUs, but the only machine has 4 CPUs and 0 GPUs"


def test_the_cores_that_gpus_need_are_kept_for_them(run: Run, nodes: Nodes, note: Mock) -> None:
    """Nodes whose cores trials on GPUs take all of are left to these, while there are enough."""
    agenda = run.agenda()
    other = next(trial for trial in agenda.left if trial.configuration.model == "on-cpu")
    places = Places(run, agenda, (), nodes, note)
    places.next_kinds({True: [trial_of(run, 1)] * 8, False: []})
    assert places.hand_out("c", other, []).avoided == frozenset(["large", "small"])
    places.next_kinds({True: [], False: []})
    assert places.hand_out("c again", other, []).avoided == frozenset()

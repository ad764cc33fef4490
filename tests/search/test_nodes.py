"""Nodes as a search sees them, without Ray: who is used, who is set aside, what is said of it."""

import time
from collections.abc import Mapping, Sequence
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.search.nodes import LOSS_SETTLES_S, PAUSES_S, REFUSALS, Finding, Node, Nodes, Sight, alive, lacking
from sersearch.study.study import Resources

TWO = {id: Node(id, f"10.0.0.{id}", cpus=4, gpus=0) for id in "12"}


class Checks:
    """Checks of nodes, and what they find."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.checked: list[list[str]] = []

    def __call__(self, nodes: Sequence[Node], closed: Event) -> Sequence[Finding]:
        self.checked.append([node.id for node in nodes])
        return [found(node, self.faults.get(node.id, "")) for node in nodes]


def found(node: Node, fault: str = "", gpu_fault: str = "", gpu_memory: int = 0) -> Finding:
    sight = Sight("host", "1", "", "2", "cpu", 1, (), gpu_memory=gpu_memory)
    return Finding(node, sight, fault, gpu_fault)


def begin(checks: Checks | None = None) -> Nodes:
    nodes = Nodes(Resources(), checks)
    nodes.begin(TWO, (), 0.0)
    return nodes


def settle(nodes: Nodes, present: Mapping[str, Node], now_s: float, checks: Checks | None = None) -> list[str]:
    """Look at the nodes, and again when the checks that this began are over."""
    before = len(checks.checked) if checks else 0
    said = list(nodes.update(present, now_s))
    while checks and len(checks.checked) > before and not nodes._checked:
        time.sleep(0.001)
    return said + list(nodes.update(present, now_s))


@pytest.mark.parametrize(
    ("node", "resources", "slots"),
    [
        ((4, 0), {}, 4),
        ((4, 0), {"cpus": 3}, 1),
        ((4, 0), {"cpus": 0.1}, 40),
        ((16, 2), {"gpus": 0.25}, 8),
        ((16, 2), {"gpus": 0.3}, 6),
        ((3, 2), {"gpus": 0.25}, 3),
        ((16, 5), {"gpus": 2}, 2),
        ((16, 0), {"gpus": 0.5}, 0),
        ((0, 0), {}, 0),
    ],
)
def test_slots(node: tuple[float, float], resources: dict[str, float], slots: int) -> None:
    assert Node("n", "a", *node).slots(Resources(**resources)) == slots


def test_a_share_of_a_gpu_does_not_fit_on_the_rests_of_two() -> None:
    assert Node("n", "a", 16, 2).slots(Resources(gpus=0.6)) == 2


def test_a_lost_node_is_told_with_its_trials() -> None:
    nodes = begin()
    one = {"1": TWO["1"]}
    assert list(nodes.update(one, 100.0)) == []
    for _ in range(3):
        nodes.put_back("2")
    assert list(nodes.update(one, 100.0 + LOSS_SETTLES_S)) == [
        "node 10.0.0.2 lost, 3 trials put back, now 1 node, 4 slots"
    ]
    assert list(nodes.update(one, 200.0)) == []
    assert list(nodes.update({}, 300.0)) == []
    assert list(nodes.update({}, 400.0)) == ["node 10.0.0.1 lost, now 0 nodes, 0 slots"]


def test_a_node_that_refuses_is_set_aside_and_used_again_when_it_passes_a_check() -> None:
    checks = Checks()
    nodes = begin(checks)
    for _ in range(REFUSALS - 1):
        assert nodes.refused("2", "RUN: read-only", 0.0) == ""
    assert nodes.avoided == []
    sentence = nodes.refused("2", "RUN: read-only", 0.0)
    assert sentence == "node 10.0.0.2 is set aside for 10 s (RUN: read-only), now 1 node, 4 slots"
    assert nodes.avoided == ["2"]
    assert nodes.refused("2", "RUN: read-only", 0.0) == "", "trials that were on their way change nothing"
    assert settle(nodes, TWO, 0.99 * PAUSES_S[0], checks) == []
    assert checks.checked == []
    checks.faults["2"] = "RUN: read-only"
    assert settle(nodes, TWO, PAUSES_S[0], checks) == [], "that was said before"
    checks.faults["2"] = "RUN: no such folder"
    said = settle(nodes, TWO, PAUSES_S[0] + PAUSES_S[1], checks)
    assert said == ["node 10.0.0.2 is left out (RUN: no such folder), now 1 node, 4 slots"]
    checks.faults.clear()
    assert settle(nodes, TWO, sum(PAUSES_S[:3]), checks) == ["node 10.0.0.2 is used, now 2 nodes, 8 slots"]
    assert checks.checked == [["2"]] * 3
    assert nodes.avoided == []


def test_an_epoch_begins_the_count_of_refusals_again() -> None:
    nodes = begin(Checks())
    for _ in range(10 * REFUSALS):
        assert nodes.refused("1", "", 0.0) == ""
        nodes.progressed("1")


def test_pauses_grow_until_an_epoch_is_finished() -> None:
    checks = Checks()
    nodes = begin(checks)
    now_s = 0.0
    for pause_s in (*PAUSES_S, PAUSES_S[-1]):
        for _ in range(REFUSALS):
            said = nodes.refused("1", "ESTALE", now_s)
        assert f"for {pause_s:g} s" in said
        now_s += pause_s
        assert settle(nodes, TWO, now_s, checks) == ["node 10.0.0.1 is used, now 2 nodes, 8 slots"]
    nodes.progressed("1")
    for _ in range(REFUSALS):
        said = nodes.refused("1", "ESTALE", now_s)
    assert f"for {PAUSES_S[0]:g} s" in said


def test_a_node_that_joins_is_checked_before_it_is_used() -> None:
    checks = Checks()
    nodes = begin(checks)
    more = TWO | {"3": Node("3", "10.0.0.3", 2, 0), "head": Node("head", "10.0.0.4", 0, 0)}
    checks.faults["3"] = "no store"
    assert settle(nodes, more, 0.0, checks) == ["node 10.0.0.3 is left out (no store), now 2 nodes, 8 slots"]
    assert nodes.avoided == ["3"]
    assert checks.checked == [["3"]], "a node without a slot is not checked"


def test_a_check_that_breaks_leaves_the_node_out() -> None:
    def broken(nodes: Sequence[Node], closed: Event) -> Sequence[Finding]:
        raise RuntimeError("no Ray")

    nodes = Nodes(Resources(), broken)
    nodes.begin({}, (), 0.0)
    list(nodes.update(TWO, 0.0))
    while not nodes._checked:
        time.sleep(0.001)
    said = list(nodes.update(TWO, 0.0))
    assert len(said) == 2
    assert "could not be checked: no Ray" in said[0]


def test_none_left_names_each_node() -> None:
    nodes = Nodes(Resources(), Checks())
    nodes.begin(TWO, [found(TWO["1"], "no CUDA"), found(TWO["2"], "no store")], 0.0)
    assert nodes.lack == ("no node is left that can train a trial (node 10.0.0.1: no CUDA; node 10.0.0.2: no store)")
    nodes = Nodes(Resources(), Checks())
    nodes.begin(TWO, [found(TWO["1"], "no CUDA")], 0.0)
    assert nodes.lack == ""


MIXED = {
    "cpu": Node("cpu", "10.0.0.1", cpus=8, gpus=0),
    "gpu": Node("gpu", "10.0.0.2", cpus=4, gpus=1),
    "full": Node("full", "10.0.0.3", cpus=2, gpus=2),
}


def begin_mixed(checks: Checks | None = None, **gpu_faults: str) -> Nodes:
    """Nodes of a study that has trials on GPUs, two per GPU, and trials that take none."""
    nodes = Nodes(Resources(gpus=0.5), checks, {True, False})
    findings = [found(node, gpu_fault=gpu_faults.get(id, ""), gpu_memory=8) for id, node in MIXED.items()]
    nodes.begin(MIXED, findings, 0.0)
    return nodes


def test_each_kind_of_trials_has_nodes_of_its_own() -> None:
    nodes = begin_mixed()
    assert nodes.slots_by_kind == (4, 14)
    assert nodes.counted == "3 nodes, 14 slots, 4 of them on GPUs"
    assert nodes.gpu_memories == {"gpu": 8, "full": 8}
    assert nodes.without_spare_cores == {"full"}
    assert nodes.lack == ""


def test_a_node_whose_gpus_are_at_fault_trains_what_takes_none() -> None:
    checks = Checks()
    nodes = begin_mixed(checks, gpu="no CUDA")
    assert nodes.avoided_by(True) == ["gpu"]
    assert nodes.avoided_by(False) == []
    assert nodes.slots_by_kind == (2, 14)
    assert nodes.gpu_memories == {"full": 8}
    nodes.progressed("gpu")
    assert settle(nodes, MIXED, PAUSES_S[0], checks) == [
        "node 10.0.0.2 is used, now 3 nodes, 14 slots, 4 of them on GPUs"
    ]
    assert checks.checked == [["gpu"]]
    assert nodes.take_used_again() == {"gpu"}, "trials that wait may go there now"


def test_a_node_whose_gpus_stay_at_fault_is_told_once_and_checked_less_and_less() -> None:
    class NoCUDA(Checks):
        def __call__(self, nodes: Sequence[Node], closed: Event) -> Sequence[Finding]:
            super().__call__(nodes, closed)
            return [found(node, gpu_fault="no CUDA") for node in nodes]

    checks = NoCUDA()
    nodes = begin_mixed(checks)
    for _ in range(REFUSALS):
        said = nodes.refused("gpu", "no CUDA device", 0.0)
    assert "is set aside for 10 s" in said
    assert settle(nodes, MIXED, PAUSES_S[0], checks) == [
        "node 10.0.0.2 is used without its GPUs (no CUDA), now 3 nodes, 14 slots, 2 of them on GPUs"
    ]
    assert settle(nodes, MIXED, PAUSES_S[0] + PAUSES_S[1], checks) == []
    assert settle(nodes, MIXED, sum(PAUSES_S[:2]) + 0.99 * PAUSES_S[2], checks) == []
    assert checks.checked == [["gpu"]] * 2


def test_without_a_gpu_that_works_the_kind_that_needs_one_is_named() -> None:
    nodes = begin_mixed(gpu="no CUDA", full="no driver")
    assert nodes.lack_of(False) == ""
    reasons = "node 10.0.0.3: no driver; node 10.0.0.2: no CUDA"
    assert nodes.lack == nodes.lack_of(True) == f"no node is left that can train a trial on a GPU ({reasons})"


def test_trials_that_wait_for_a_lost_node_are_recalled() -> None:
    """They may avoid all others, whose GPUs are too small."""
    nodes = begin_mixed()
    assert nodes.take_used_again() == set()
    list(nodes.update({id: MIXED[id] for id in ("cpu", "full")}, 0.0))
    assert nodes.take_used_again() == {"cpu", "full"}


def test_what_ray_lists() -> None:
    listed = [
        {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Alive": False, "Resources": {}},
    ]
    assert alive(listed) == {"a": Node("a", "10.0.0.1", 2, 1)}
    assert lacking(Resources(cpus=3), alive(listed).values()).endswith("but the only machine has 2 CPUs and 1 GPU")


def test_a_check_that_is_under_way_is_closed() -> None:
    ended = []

    def slow(nodes: Sequence[Node], closed: Event) -> Sequence[Finding]:
        closed.wait()
        ended.append(True)
        return []

    nodes = Nodes(Resources(), slow)
    nodes.begin({}, (), 0.0)
    list(nodes.update(TWO, 0.0))
    nodes.close()
    assert ended


@given(st.lists(st.tuples(st.sampled_from(["refuse", "epoch", "lose", "join", "look"]), st.sampled_from("123"))))
def test_only_nodes_that_are_alive_are_used_or_avoided(events: list[tuple[str, str]]) -> None:
    nodes = Nodes(Resources(), None)
    present: dict[str, Node] = {}
    for number, (event, id) in enumerate(events):
        if event == "refuse":
            nodes.refused(id, "reason", float(number))
        elif event == "epoch":
            nodes.progressed(id)
        elif event == "lose":
            present.pop(id, None)
        elif event == "join":
            present[id] = Node(id, id, 1, 0)
        list(nodes.update(present, float(number)))
        assert {node.id for node in nodes.usable} | set(nodes.avoided) == present.keys()
        assert not {node.id for node in nodes.usable} & set(nodes.avoided)

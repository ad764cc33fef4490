"""What a cluster can train, from its nodes."""

from typing import Any

import pytest

from sersearch.search.nodes import alive
from sersearch.study.study import Resources


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {
        "Alive": alive,
        "NodeManagerAddress": "",
        "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus},
    }


@pytest.mark.parametrize(
    ("resources", "nodes", "count"),
    [
        (Resources(cpus=1), [node(2), node(3.5), node(8, alive=False)], 5),
        (Resources(cpus=0.3), [node(0.9)], 3),
        (Resources(cpus=1, gpus=0.25), [node(64, 8)] * 200, 6400),
        (Resources(cpus=4, gpus=0.25), [node(64, 8)], 16),
        # A share of a GPU is one of a single GPU, and a node's two halves do not make a whole trial.
        (Resources(cpus=1, gpus=0.6), [node(64, 8)], 8),
        (Resources(cpus=1, gpus=2), [node(64, 3), node(64, 1)], 1),
        (Resources(cpus=4), [node(2), node(2)], 0),
        (Resources(cpus=1), [], 0),
    ],
)
def test_slots(resources: Resources, nodes: list[dict[str, Any]], count: int) -> None:
    found = alive(each | {"NodeID": str(number)} for number, each in enumerate(nodes))
    assert sum(each.slots(resources) for each in found.values()) == count

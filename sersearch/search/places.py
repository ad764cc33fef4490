"""Where trials are sent: which kind is next, what share of a GPU a trial gets, and which nodes it is kept away from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.search.nodes import Nodes
from sersearch.search.shares import Memory, Place, is_out_of_memory, least_share, place_trial
from sersearch.search.turns import Turns
from sersearch.study.agenda import Agenda
from sersearch.study.trial import Trial
from sersearch.training.gpu_memory import kept_data_sets


def bundle(cpus: float, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial takes of one node, and of which nodes not.

    Args:
        cpus: cores that it takes.
        config: with its share of a GPU, `gpus`, the ids of the nodes that it is sent to, `nodes`, empty for all, and of
            those that it is kept away from, `avoided`.
    """
    labels = None
    if config["nodes"]:
        # A node that joins may have smaller GPUs, so it is not enough to name those that the trial does not fit on.
        labels = [{"ray.io/node-id": f"in({','.join(config['nodes'])})"}]
    elif config["avoided"]:
        labels = [{"ray.io/node-id": f"!in({','.join(config['avoided'])})"}]
    return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}], bundle_label_selector=labels)


@dataclass
class HandedOut:
    """A trial that Ray Tune has.

    Attributes:
        trial: the trial.
        failures: number of its failures on record when it was handed out.
        attempts: number of its attempts on record then.
        place: where it was sent.
        error: what Ray says about the loss of its worker; empty while there is none.
    """

    trial: Trial
    failures: int
    attempts: int
    place: Place
    error: str = ""


class Places:
    """The trials that are handed out, and where they are sent."""

    def __init__(
        self, run: Run, agenda: Agenda, results: Iterable[Result], nodes: Nodes, note: Callable[[str], object]
    ) -> None:
        """Begin with what finished trials took of the GPUs' memory.

        Args:
            run: the run.
            agenda: its agenda, with the first trials that samplers have drawn.
            results: of finished trials.
            nodes: that can train.
            note: called with what a person should read.
        """
        self._study, self._agenda, self._nodes, self._note = run.study, agenda, nodes, note
        self._turns = Turns(run.study.devices, nodes.slots_by_kind)
        self.look_around()
        self._memory = Memory(run, kept_data_sets(filter(self.on_gpu, agenda.trials.values())))
        for result in results:
            self._memory.saw(result.trial, result.gpu_bytes)
        self._places: dict[str, Place] = {}
        self._in_use: dict[int, float] = {}
        self._is_told = False

    def on_gpu(self, trial: Trial) -> bool:
        """Whether a trial takes GPUs."""
        return self._study.on_gpu(type(trial.configuration))

    def look_around(self) -> None:
        """Look at each node that is usable now, which takes too long to be done for each trial."""
        self._turns.slots = self._nodes.slots_by_kind
        self._memories = self._nodes.gpu_memories
        self._gpus: dict[int, float] = {}
        for id, memory in self._memories.items():
            self._gpus[memory] = self._gpus.get(memory, 0.0) + self._nodes.alive[id].gpus
        self._full = self._nodes.without_spare_cores

    @property
    def lack(self) -> str:
        """Why no node can train any of the trials that are left; empty if one can train some of them."""
        lacks = [self._nodes.lack_of(kind) for kind in self._turns.wanted]
        return lacks[0] if lacks and all(lacks) else ""

    @property
    def pending(self) -> int:
        """How many trials may wait for a worker."""
        return self._turns.pending

    def next_kinds(self, put_back: Mapping[bool, Sequence[Trial]]) -> list[bool]:
        """The kinds of which a trial may be handed out now, by `Study.on_gpu`.

        Args:
            put_back: trials of each kind that are due again.
        """
        return self._turns.next({kind: self._agenda.queued(kind) + len(put_back[kind]) for kind in (True, False)})

    def hand_out(self, id: str, trial: Trial, failures: Sequence[str]) -> Place:
        """Send a trial to a place.

        Args:
            id: of the trial in Ray Tune.
            trial: the trial.
            failures: on record, why it failed so far.
        """
        on_gpu = self.on_gpu(trial)
        avoided = frozenset(self._nodes.avoided_by(on_gpu))
        if on_gpu:
            place = self._on_gpus(trial, failures)
            weight = max(1, round(place.share / self._study.resources.gpus))
            place = place._replace(nodes=(place.nodes - avoided) or place.nodes, avoided=avoided)
        else:
            place, weight = Place(0.0, avoided=avoided | self._crowded()), 1
        self._places[id] = place
        self._use(place, place.share)
        self._turns.hand_out(id, on_gpu, weight)
        return place

    def _on_gpus(self, trial: Trial, failures: Sequence[str]) -> Place:
        loads = {memory: self._in_use.get(memory, 0.0) / number for memory, number in self._gpus.items()}
        # Where the memory of GPUs is not known, an estimate says nothing, and none is made.
        is_known = bool(self._gpus) and all(self._gpus)
        expected = self._memory.corrected(trial) if is_known else None
        place = place_trial(least_share(self._study.resources.gpus, failures), expected, self._memories, loads)
        if expected is not None and not place.holds and not self._is_told:
            self._is_told = True
            self._note(
                f"{trial.configuration.description} is expected to take {expected / 1e9:.1f} GB of a GPU, and the "
                f"largest here has {place.memory / 1e9:.1f} GB: such trials are tried there, each on a GPU of its own"
            )
        return place

    def _crowded(self) -> frozenset[str]:
        """The nodes whose cores trials on GPUs need, as long as there are enough of these, and other nodes besides."""
        return self._full if self._turns.gpus_are_wanted else frozenset()

    def start(self, id: str) -> None:
        """Enter that a worker has taken a trial on."""
        self._turns.start(id)

    def end(self, id: str) -> None:
        """Enter that a trial that was running has ended."""
        self._turns.end(id)
        place = self._places.pop(id)
        self._use(place, -place.share)

    def _use(self, place: Place, share: float) -> None:
        """Count a share as in use, or no more, by a trial that was sent to GPUs of one size."""
        if place.nodes:
            self._in_use[place.memory] = self._in_use.get(place.memory, 0.0) + share

    def finished(self, result: Result) -> None:
        """Enter what a trial took of a GPU's memory."""
        self._memory.saw(result.trial, result.gpu_bytes)

    def failed(self, trial: Trial, place: Place, failures: Iterable[str]) -> None:
        """Enter why a trial failed where it was sent."""
        if any(map(is_out_of_memory, failures)):
            self._memory.ran_out(trial, place)

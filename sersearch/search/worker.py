"""A trial on a Ray worker: a step of Ray's is a step of training, and the ledger holds it before Ray is told.

A report says how a trial ended: "committed", "failed" (the failure is on record), "stopping" (the search ends, so the
trial did not begin, or stopped at a checkpoint) or "refused": this machine can't train it; the trial is not at fault.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import ray
from cachetools import LRUCache
from ray import tune

from sersearch.errors import InputError, printable
from sersearch.run.ledger import Attempt, Epoch
from sersearch.run.records import seal
from sersearch.run.run import Run, open_run
from sersearch.search.notices import GivenBackError, Notices, noting_sigterm
from sersearch.study.trial import Trial
from sersearch.training.gpu_memory import KEPT_OPEN
from sersearch.training.system import Device, System, make_system, run_steps, system_class

# No node can train a trial before someone mends this, so the search ends where it stands.
FATAL = {errno.ENOSPC, errno.EDQUOT}

# Another node may see the same folder in order.
REFUSED = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV),
    *(errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO),
}

# What torch says where the GPU that Ray granted can't be used by any trial.
_NO_GPU = re.compile(
    "no CUDA GPUs are available|no NVIDIA driver|CUDA driver|CUDA unknown error|uncorrectable ECC|busy or unavailable"
    "|no kernel image",
    re.IGNORECASE,
)

STORE_VARIABLE = "SERSEARCH_STORE"
"""In the environment of a node's Ray: where the store is on this node, such as a copy on its own disk."""

Outcome = Literal["", "committed", "failed", "refused", "stopping"]


class NodeFault(Exception):  # noqa: N818
    """This machine can't train the trial, whatever the trial is."""


class Worker(tune.Trainable):
    """Trains one trial, and then, reused, the next.

    A failure of the trial is in the ledger, and one of the machine is said in the report. Nothing is raised to Ray but
    that the trial is given back, so that Ray ends this worker and reuses it for no other trial.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial over; what can fail is left to the first step."""
        self._key: str = config["key"]
        self._record: dict[str, Any] = config["trial"]
        self._path = Path(config["run"])
        self._store = Path(os.environ.get(STORE_VARIABLE) or config["store"])
        self._session: str = config["session"]
        self._notices: Notices | None = None
        self._attempt: Attempt | None = None
        self._system: System | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial over."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one step.

        Returns:
            The trial's key, the epoch's figures, whether the trial is done and how it ended, its result if it is
            committed, the id of this node, and what, if anything, has to be mended before any trial can be trained.

        Raises:
            GivenBackError: the trial has stopped at a checkpoint, because this worker's machine will be taken away.
        """
        with noting_sigterm():
            try:
                return self._step()
            except GivenBackError:
                raise
            except Exception as error:
                return self._failed(error)

    def train_buffered(self, buffer_time_s: float, max_buffer_length: int = 1000) -> Any:
        """Train several steps, as Ray Tune does; SIGTERM is noted between them too."""
        with noting_sigterm():
            return super().train_buffered(buffer_time_s, max_buffer_length)

    def _step(self) -> dict[str, Any]:
        # The run names the systems of a user's own that the trial's configuration may be of.
        run = _open_run(self._path, self._store)
        trial = Trial.model_validate(self._record)
        self._notices = self._notices or Notices(run.storage, self._session)
        if self._attempt is None:
            if run.ledger.result(trial.key):
                return self._committed(run, None)
            if self._notices.interrupted:
                return self._stop(self._notices)
            self._attempt = run.ledger.begin(trial)
        return self._advance(run, self._attempt)

    def _advance(self, run: Run, attempt: Attempt) -> dict[str, Any]:
        notices = self._notices
        assert notices
        if self._system is None:
            resources = run.study.resources
            device: Device = "cuda" if run.study.on_gpu(type(attempt.trial.configuration)) else "cpu"
            if device == "cuda" and not has_gpu():
                raise NodeFault("Ray grants a GPU here, but torch finds no CUDA device")
            self._system = make_system(attempt.trial, open_data(run, attempt.trial), device)
            # A trial that is pruned ends with the checkpoint of the epoch that it has reported.
            after_epochs = run.study.search.pruner != "none"
            self._steps: Iterator[Epoch] = run_steps(
                self._system, attempt, resources.checkpoint_every_s, after_epochs, lambda: notices.interrupted
            )
        step = next(self._steps, None)
        epoch = step.model_dump() if step else None
        if self._system.stopped is None:
            return self._report(epoch=epoch) if epoch else self._stop(notices)
        # The generator commits the result after its last step.
        next(self._steps, None)
        return self._committed(run, epoch)

    def _committed(self, run: Run, epoch: dict[str, Any] | None) -> dict[str, Any]:
        """Send the result along: on a network's file system, the driver may see it later than it gets the report."""
        result = run.ledger.result(self._key)
        assert result
        return self._report("committed", epoch=epoch, result=seal(result))

    def _stop(self, notices: Notices) -> dict[str, Any]:
        """End without a result, because the search stops or the trial is given back."""
        if not notices.stopping:
            raise GivenBackError(notices.lost_machine)
        return self._report("stopping", begun=self._attempt is not None)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Record what a trial can be blamed for; report what it can't."""
        try:
            if self._attempt is not None and not _is_nodes(error):
                self._attempt.fail(error)
                return self._report("failed", reason=f"{type(error).__name__}: {error}")
        except OSError as unwritten:
            error = unwritten
        reason = _describe(error, self._path)
        if isinstance(error, OSError) and error.errno in FATAL:
            return self._report("refused", reason=reason, fatal=reason)
        return self._report("refused", reason=reason)

    def _report(self, outcome: Outcome = "", **more: Any) -> dict[str, Any]:
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        return {"key": self._key, "done": bool(outcome), "outcome": outcome, "node": node, **more}


def has_gpu() -> bool:
    """Whether torch finds a GPU on this machine."""
    # The driver imports this module, and importing torch takes it a second.
    import torch

    return torch.cuda.is_available()


def _is_nodes(error: Exception) -> bool:
    """Whether an error is the machine's, and not the trial's."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FATAL | REFUSED
    is_gpus = isinstance(error, RuntimeError) and _NO_GPU.search(str(error))
    return bool(is_gpus) or isinstance(error, InputError | ImportError | NodeFault)


def _describe(error: Exception, path: Path) -> str:
    """Say in one line what is wrong with the machine."""
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.strerror}: {error.filename or path}")
    if isinstance(error, InputError | NodeFault):
        return str(error)
    return printable(f"{type(error).__name__}: {error}")


def commit_pruned(run: Run, trial: Trial) -> None:
    """Make a trial's newest checkpoint its result: it lagged behind, and its worker is done with it."""
    host = run.ledger.host(trial.key)
    attempt = run.ledger.begin(trial)
    checkpoint = attempt.checkpoint()
    assert checkpoint, "a trial is pruned after its checkpoint"
    system = make_system(attempt.trial, open_data(run, attempt.trial))
    system.restore(checkpoint)
    attempt.commit(system.result("pruned").model_copy(update={"host": host}), system.weights())


@lru_cache(maxsize=1)
def _open_run(path: Path, store: Path) -> Run:
    """The run, kept from trial to trial in the same worker."""
    return open_run(path, store)


_OPENED: LRUCache[tuple[Any, ...], Any] = LRUCache(KEPT_OPEN)


def open_data(run: Run, trial: Trial) -> Any:
    """What a trial may see, kept from trial to trial in the same process."""
    system = system_class(trial.configuration)
    configuration = trial.configuration
    settings = (configuration.vectors, configuration.data_settings)
    key = (run.store_path, system, trial.data, settings, trial.fold.sealed)
    if key not in _OPENED:
        _OPENED[key] = system.open_data(run.store, trial)
    return _OPENED[key]

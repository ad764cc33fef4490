"""A system with long epochs of many short steps: named by a study in `systems = ["patient_system.py"]`.

Each step moves the weights by random numbers of its own, so a step that is left out or repeated changes the result, and
adds a line to `steps.txt` beside this file: key, epoch, step, and Ray's node. While the file `hold` is there, an epoch
takes longer than any test.
"""

import json
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import ray

from sersearch.run.ledger import Epoch
from sersearch.study.trial import Trial
from sersearch.training.dataset import Dataset
from sersearch.training.system import Device, derive_seed
from tests.training.tiny_system import Tiny, TinyConfiguration

HOLD = Path(__file__).with_name("hold")
STEPS = Path(__file__).with_name("steps.txt")

STEPS_PER_EPOCH = 1000
HELD_S = 0.2


class PatientConfiguration(TinyConfiguration):
    """Two epochs of a thousand steps each."""

    model: Literal["patient"]  # type: ignore[assignment]
    epochs: int = 2

    system: ClassVar[str] = f"{__name__}:Patient"


class Patient(Tiny):
    def __init__(self, trial: Trial, data: Dataset, device: Device = "cpu") -> None:
        super().__init__(trial, data, device)
        self.taken = 0
        self.confusion = {}

    def step(self) -> Epoch | None:  # type: ignore[override]
        self.taken += 1
        epoch = len(self.epochs) + 1
        generator = np.random.default_rng(derive_seed(self.trial.key, f"step {epoch} {self.taken}"))
        self.weight_ME += 1e-4 * generator.standard_normal(self.weight_ME.shape)
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
        with STEPS.open("a") as file:
            file.write(f"{self.trial.key} {epoch} {self.taken} {node}\n")
        if HOLD.exists():
            time.sleep(HELD_S)
        if self.taken < STEPS_PER_EPOCH:
            return None
        self.taken = 0
        return super().step()

    def checkpoint(self) -> bytes:
        return json.dumps([self.taken, super().checkpoint().decode()]).encode()

    def restore(self, checkpoint: bytes) -> None:
        self.taken, inner = json.loads(checkpoint)
        super().restore(inner.encode())

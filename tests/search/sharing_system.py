"""Systems with and without a GPU form, named by a study in `systems = ["sharing_system.py"]`.

Each step adds a line to `steps.txt` beside this file: model, key, Ray's node, and the device. While the file
`hold-MODEL` is there, a model's trials wait in their second epoch.
"""

import time
from pathlib import Path
from typing import ClassVar, Literal

import ray

from sersearch.run.ledger import Epoch
from tests.training.tiny_system import Tiny, TinyConfiguration

FOLDER = Path(__file__).parent
STEPS = FOLDER / "steps.txt"


class OnGPUConfiguration(TinyConfiguration):
    """Takes a GPU, and so much of its memory."""

    model: Literal["on-gpu"]  # type: ignore[assignment]
    gb: float = 1.0

    system: ClassVar[str] = f"{__name__}:Sharing"

    def minibatch_bytes(self, emotions: int, frames: int) -> int:
        return int(1e9 * self.gb)


class OnCPUConfiguration(TinyConfiguration):
    """Takes no GPU, where others do."""

    model: Literal["on-cpu"]  # type: ignore[assignment]

    system: ClassVar[str] = f"{__name__}:Sharing"
    uses_gpu: ClassVar[bool] = False


class Sharing(Tiny):
    def step(self) -> Epoch:
        hold = FOLDER / f"hold-{self.configuration.model}"
        while self.epochs and hold.exists():
            time.sleep(0.05)
        with STEPS.open("a") as file:
            node = ray.get_runtime_context().get_node_id()
            file.write(f"{self.configuration.model} {self.trial.key} {node} {self.device}\n")
        return super().step()

"""A system whose process is killed in training, for real: named by a study in `systems = ["deadly_system.py"]`."""

import os
import signal
from pathlib import Path
from typing import ClassVar, Literal

from sersearch.run.ledger import Epoch
from tests.training.tiny_system import Tiny, TinyConfiguration

PLAGUE = Path(__file__).with_name("plague")
"""While this file exists, processes are killed."""


class DeadlyConfiguration(TinyConfiguration):
    """Steps that a process survives: with 0 it dies before it ends an epoch."""

    model: Literal["deadly"]  # type: ignore[assignment]
    survives: int = 0
    epochs: int = 6

    system: ClassVar[str] = f"{__name__}:Deadly"


class Deadly(Tiny):
    survived = 0

    def step(self) -> Epoch:
        assert isinstance(self.configuration, DeadlyConfiguration)
        if self.survived == self.configuration.survives and PLAGUE.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        self.survived += 1
        return super().step()

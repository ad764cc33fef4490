"""A system whose trials wait while a file exists, so that something can happen to their machine in the meantime."""

import platform
import time
from pathlib import Path
from typing import ClassVar, Literal

from sersearch.run.ledger import Epoch
from tests.training.tiny_system import Tiny, TinyConfiguration

HOLD = Path(__file__).with_name("hold")
"""While this file exists, trials wait in their second epoch; with the name of a host, as in hold-host1, those there."""


class WaitingConfiguration(TinyConfiguration):
    model: Literal["waiting"]  # type: ignore[assignment]

    system: ClassVar[str] = f"{__name__}:Waiting"


class Waiting(Tiny):
    def step(self) -> Epoch:
        holds = [HOLD, HOLD.with_name(f"hold-{platform.node()}")]
        while self.epochs and any(hold.exists() for hold in holds):
            time.sleep(0.05)
        return super().step()

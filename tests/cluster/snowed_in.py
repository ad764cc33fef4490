"""A system that trains slowly while it snows: named by a study in `systems = ["snowed_in.py"]`."""

import time
from pathlib import Path
from typing import ClassVar, Literal

from sersearch.run.ledger import Epoch
from tests.training.tiny_system import Tiny, TinyConfiguration

SNOW = Path(__file__).with_name("snow")
"""While this file exists, an epoch takes a second."""


class SnowedInConfiguration(TinyConfiguration):
    model: Literal["snowed-in"]  # type: ignore[assignment]
    epochs: int = 120

    system: ClassVar[str] = f"{__name__}:SnowedIn"


class SnowedIn(Tiny):
    def step(self) -> Epoch:
        if SNOW.exists():
            time.sleep(1)
        return super().step()

"""Lets processes of a Ray node find a GPU of FAKE_GPU_GB, or none if it is 0; in a folder on PYTHONPATH.

Nothing computes on it. What the package asks torch of GPUs is answered here: whether there is one, its memory, and what
a trial took of it.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

GB = 10**9
MEMORY = float(os.environ.get("FAKE_GPU_GB", 0)) * GB
TAKEN = int(float(os.environ.get("FAKE_GPU_TAKEN_GB", 0)) * GB)


def answer(module: ModuleType) -> None:
    found: Any = module
    if module.__name__ == "sersearch.search.worker":
        found.has_gpu = lambda: MEMORY > 0
    else:
        found.find_gpus = lambda: [found.GPU("Fake", int(MEMORY))] if MEMORY else []
        found.begin_peak = lambda: None
        found.peak_bytes = lambda: TAKEN


class Answers(MetaPathFinder):
    """Imports two modules of the package as ever, and then replaces what asks torch."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name not in ("sersearch.search.worker", "sersearch.training.gpu_memory"):
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        sys.meta_path.insert(0, self)
        assert spec
        assert spec.loader
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            answer(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


if "FAKE_GPU_GB" in os.environ:
    sys.meta_path.insert(0, Answers())

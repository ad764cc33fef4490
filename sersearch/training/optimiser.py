"""Adam as torch computes it, without the import of torch's compiler.

Torch 2.11 imports its compiler, 900 modules and a second of CPU time, when the first optimiser is made, only to
tell the compiler to leave optimisers alone. A worker needs no compiler, so what torch has wrapped is unwrapped here.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """The same numbers as `torch.optim.Adam`."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step from the gradients."""
        return _STEP(self, closure)


_STEP = inspect.unwrap(torch.optim.Adam.step)

"""Adam without torch's compiler: the same bits, and no import of the compiler while a network is trained."""

import copy
import subprocess
import sys

import pytest
import torch

from sersearch.training.optimiser import Adam

TRAIN = """
import sys
import numpy as np
from sersearch.study.configuration import NetworkConfiguration
from sersearch.training.system import system_class

tiny = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2, maps=2, cells=4, dense=(4,), minibatch=2)
system_class(tiny).measure(tiny, 2, np.array([20, 30]), "cpu")
print("torch._dynamo" in sys.modules)
"""


def train(optimiser_class: type[torch.optim.Adam], resumed_after: int) -> list[torch.Tensor]:
    """Take ten steps, resumed from a state after some of them."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(5, 3, generator=generator)) for _ in range(2)]
    optimiser = optimiser_class(weights, lr=0.01, eps=1e-8, fused=True)
    for step in range(10):
        if step == resumed_after:
            state = copy.deepcopy(optimiser.state_dict())
            optimiser = optimiser_class(weights, lr=0.01, eps=1e-8, fused=True)
            optimiser.load_state_dict(state)
        optimiser.zero_grad()
        inputs = torch.randn(4, 5, generator=generator)
        sum(((inputs @ weight) ** 2).mean() for weight in weights).backward()
        optimiser.step()
    assert all(weight.requires_grad for weight in weights)
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("resumed_after", [3, 99])
def test_the_same_bits_as_torchs_own(resumed_after: int) -> None:
    ours, theirs = train(Adam, resumed_after), train(torch.optim.Adam, resumed_after)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow("a fresh process imports torch and trains")
def test_training_does_not_import_torchs_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The ONNX graph and the network are one function."""

from pathlib import Path

import numpy as np
import pytest

from sersearch.deployment.classifier import open_model
from sersearch.deployment.export import export_model
from sersearch.deployment.network import NetworkClassifier
from sersearch.deployment.onnx import TOLERANCE, compare, example_inputs
from sersearch.evaluation.leaderboard import select_winners
from sersearch.run.run import Run
from sersearch.store.reader import Store
from tests.deployment.conftest import NETWORKS, train

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install 'sersearch[onnx]'")


@pytest.fixture(scope="module", params=["", 'normalisation = "speaker"', 'normalisation = "utterance"\ndeltas = 2'])
def run(request: pytest.FixtureRequest, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("onnx")
    return train(folder, NETWORKS.replace("FEATURES", request.param), tiny_store)


@pytest.mark.slow("it trains networks")
def test_logits_are_the_networks(run: Run, tmp_path: Path) -> None:
    for number, winner in enumerate(winner for winner in select_winners(run).winners if winner.condition == "clean"):
        folder = tmp_path / str(number)
        export_model(run, winner.key, folder, onnx=True)
        model = open_model(folder)
        assert isinstance(model, NetworkClassifier)
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        for frames in (1, 2, 16, 333):
            inputs = example_inputs(model, frames)
            assert compare(model, session, inputs) <= TOLERANCE
        stored = run.store.frames(run.partition.train[0])[:100]
        assert compare(model, session, example_inputs(model, 1) | {"log_mel": np.array(stored)}) <= TOLERANCE

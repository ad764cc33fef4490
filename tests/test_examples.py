"""The notebooks in examples/ are executed on a run of the demo's form."""

import shutil
from pathlib import Path

import pytest

from sersearch.store.reader import Store
from tests.deployment.conftest import NETWORKS, train

nbclient = pytest.importorskip("nbclient", reason="nbclient is missing: pip install -e '.[dev]'")
nbformat = pytest.importorskip("nbformat", reason="nbformat is missing: pip install -e '.[dev]'")
pytest.importorskip("ipykernel", reason="ipykernel is missing: pip install -e '.[dev]'")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow("it starts a kernel and trains networks")
def test_the_notebook_of_a_first_study_runs(tiny_store: Store, tiny_corpus: Path, tmp_path: Path) -> None:
    train(tmp_path / "demo", NETWORKS.replace("FEATURES", ""), tiny_store)
    shutil.copytree(tiny_store.path, tmp_path / "demo" / "store")
    shutil.copytree(tiny_corpus, tmp_path / "demo" / "speech")
    notebook = nbformat.read(EXAMPLES / "first-study.ipynb", as_version=4)
    # A cell that fails raises.
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "demo" / "model" / "README.md").is_file()


def test_notebooks_hold_their_outputs() -> None:
    files = sorted(EXAMPLES.glob("*.ipynb"))
    assert files
    for file in files:
        assert file.stat().st_size < 300_000
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert cell.execution_count, f"{file.name} was not executed"
                assert cell.outputs
                assert not [output for output in cell.outputs if output.output_type == "error"]

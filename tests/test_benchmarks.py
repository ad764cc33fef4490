"""The header of each benchmark's JSON; the benchmarks themselves are too long for a test."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"processor", "cores", "commit", "date", "versions"}


@pytest.fixture(scope="module")
def results_file() -> ModuleType:
    """The module, by its path, for benchmarks are scripts and no package."""
    spec = importlib.util.spec_from_file_location("results_file", BENCHMARKS / "results_file.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_header_says_on_what_and_with_what(results_file: ModuleType, tmp_path: Path) -> None:
    results_file.write_results(tmp_path / "new folder" / "a.json", {"rows": [0.1]})
    written = json.loads((tmp_path / "new folder" / "a.json").read_text())
    assert written["rows"] == [0.1]
    assert set(written["header"]) == FIELDS
    assert {"python", "torch", "numpy", "ray"} <= set(written["header"]["versions"])
    assert written["header"]["processor"]
    assert written["header"]["cores"] >= 1


@pytest.mark.parametrize("file", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda file: file.stem)
def test_checked_in_results_have_the_header(file: Path) -> None:
    # Older results also say when they were checked in, because nobody recorded when they were measured.
    header = json.loads(file.read_text())["header"]
    assert set(header) - {"checked_in"} == FIELDS


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda script: script.stem)
def test_every_benchmark_writes_its_results_by_the_helper(script: Path) -> None:
    text = script.read_text()
    if '"results"' in text:
        assert "write_results(" in text

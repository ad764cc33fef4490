"""The benchmarks behind docs/statistics.md run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_benchmark_prints_its_three_tables() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
    command = [sys.executable, "-W", "error", str(script), "--repeats", "2"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n\n")[1::2]
    assert [table.count("\n|") for table in tables] == [36, 5, 25]


@pytest.mark.slow("it simulates boards of every design")
def test_the_simulation_of_training_luck_prints_its_five_tables_and_no_letter_contradicts(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "training_luck.py"
    command = [sys.executable, "-W", "error", str(script), "--studies", "2", "--out", str(tmp_path / "luck.json")]
    tables = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n\n")[1::2]
    assert [table.count("\n|") for table in tables] == [21, 29, 29, 9, 4]
    made = json.loads((tmp_path / "luck.json").read_text())
    assert {row["letters contradict"] for table in ("folds", "speakers") for row in made[table].values()} == {0.0}
    assert {row["compact letters"] for row in made["letters"].values()} == {0.0}

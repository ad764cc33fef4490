"""The benchmark behind docs/statistics.md runs."""

import subprocess
import sys
from pathlib import Path


def test_the_benchmark_prints_its_three_tables() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
    command = [sys.executable, "-W", "error", str(script), "--repeats", "2"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n\n")[1::2]
    assert [table.count("\n|") for table in tables] == [36, 5, 25]

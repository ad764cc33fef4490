"""Compiled loops when the cache of compiled code is empty, damaged, or on a full disk.

Each compilation takes 4 s or more, which makes these tests slow: the first one compiles up to four times.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disks import small_disk_at

RUN = """
import numpy as np
from sersearch.models.kernels import loops

def zeros(*shape):
    return np.zeros(shape, np.float32)

y = zeros(3, 2, 2, 4)
gates, weights = np.ones((3, 2, 2, 16), np.float32), np.ones((2, 4, 16), np.float32)
loops.lstm_forward(gates, weights, zeros(2, 16), np.array([3, 2]), zeros(3, 2, 2, 4), y)
compiled = loops.lstm_forward.stats
print(sum(compiled.cache_hits.values()), sum(compiled.cache_misses.values()), y.sum())
"""


def run(folder: Path) -> tuple[int, int, float]:
    """Run a loop in a process of its own; give the hits and misses of its cache, and the sum of its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")} | {"XDG_CACHE_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    hits, misses, total = done.stdout.split()
    return int(hits), int(misses), float(total)


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("loops.lstm_forward-*") if path.is_file())


@pytest.mark.slow("it compiles a loop anew for each damaged file, in processes of their own")
def test_compiled_code_is_cached_and_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert first[:2] == (0, 1)
    assert (tmp_path / "sersearch").stat().st_mode & 0o777 == 0o700
    assert run(tmp_path) == (1, 0, first[2])
    for path in kept(tmp_path):
        path.write_bytes(path.read_bytes()[:100])
        assert run(tmp_path)[2] == first[2]
        assert run(tmp_path) == (1, 0, first[2])


@pytest.mark.slow("it compiles a loop in two processes of their own")
def test_a_full_disk_does_not_stop_a_loop(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", "16k") as disk:
        (disk / "rest").write_bytes(bytes(12 * 1024))
        first = run(disk)
        assert first[:2] == (0, 1)
        assert run(disk)[2] == first[2]

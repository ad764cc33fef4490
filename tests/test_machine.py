"""A machine that lacks memory or room on a disk: one line that says so, names the file, and no traceback."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from sersearch.durable import write, write_once
from sersearch.errors import InputError, machine_fault
from sersearch.store.reader import Store
from tests.disks import small_disk_at


def sersearch(*words: object, memory_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit_memory() -> None:
        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    return subprocess.run(
        [sys.executable, "-m", "sersearch", *map(str, words)],
        capture_output=True,
        text=True,
        preexec_fn=limit_memory,
        timeout=300,
        check=False,
    )


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", "60k") as folder:
        yield folder


def fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            return


@pytest.mark.parametrize("writing", [write, write_once])
def test_what_is_not_written_is_named(full_disk: Path, writing: object) -> None:
    fill(full_disk)
    with pytest.raises(OSError, match="No space left on device") as failed:
        writing(full_disk / "result.json", bytes(100_000))  # type: ignore[operator]
    assert failed.value.filename == str(full_disk / "result.json")
    assert {path.name for path in full_disk.iterdir()} == {"ballast"}


@pytest.mark.slow("each command is a process of its own, and imports torch")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_with_the_path(
    full_disk: Path, tiny_corpus: Path, tiny_noise: Path, workers: int
) -> None:
    words = ("--corpus", f"tiny={tiny_corpus}", "--noise", tiny_noise, "--noises", 3, "--out", full_disk / "store")
    done = sersearch("features", *words, "--workers", workers)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"sersearch: {full_disk / 'store'}/s")
    assert last.endswith(".parquet: No space left on device; finished work is kept")
    assert "Traceback" not in done.stderr


@pytest.mark.slow("each command is a process of its own, and imports torch")
def test_a_disk_without_room_for_a_run_is_one_line_with_the_path(
    full_disk: Path, tiny_store: Store, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text('spaces = [{ name = "s", model = "S-CLDNN", h1 = 5, h2 = 3 }]')
    fill(full_disk)
    done = sersearch("search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", full_disk / "run")
    assert done.returncode == 1
    assert done.stderr.startswith(f"sersearch: {full_disk / 'run'}")
    assert done.stderr.endswith(": No space left on device; finished work is kept\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow("each command is a process of its own")
@pytest.mark.parametrize("megabytes", [300, 500, 900])
def test_too_little_memory_is_one_line(tiny_corpus: Path, tmp_path: Path, megabytes: int) -> None:
    words = ("features", "--corpus", f"tiny={tiny_corpus}", "--out", tmp_path / "store", "--workers", 1)
    done = sersearch(*words, memory_bytes=megabytes * 10**6)
    assert done.returncode == 1
    # A library may say before that it could not start a thread.
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sersearch: memory ran out")
    assert last.endswith(": free memory, or give fewer --workers; finished work is kept")
    assert "Traceback" not in done.stderr


def test_faults_of_the_machine_are_told_from_faults_of_the_program() -> None:
    assert "memory ran out" in machine_fault(MemoryError())
    assert "memory ran out" in machine_fault(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert "memory ran out" in machine_fault(RuntimeError("can't start new thread"))
    assert "a worker process has died" in machine_fault(BrokenProcessPool())
    assert machine_fault(PermissionError(13, "Permission denied", "a\nb")) == "a\\nb: Permission denied"
    for error in (KeyError("x"), ValueError("out of memory"), RuntimeError("x"), OSError("x"), InputError("x")):
        assert machine_fault(error) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError) as failed:
        write(tmp_path / "result.json", b"")
    assert failed.value.filename == str(tmp_path / "result.json")
    shutil.rmtree(tmp_path, ignore_errors=True)

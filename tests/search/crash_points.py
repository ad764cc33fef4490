"""Train a trial again and again, dying each time at another call: `python -m tests.search.crash_points STORE OUT LOSS`.

Every call that makes something durable (fsync, rename, link, mkdir) is a crash point, before and after it. With LOSS
"power", what was not fsynced by then is lost as well: contents of files as of their last fsync, names of a folder as of
the folder's. Prints the number of crash points; OUT/N is the run's folder as the N-th crash leaves it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sersearch.run.ledger import Ledger
from sersearch.run.storage import Folder
from sersearch.store.reader import open_store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold
from sersearch.training.dataset import open_dataset
from sersearch.training.system import make_system, run_steps
from tests.trials import make_trial

PARTITION = Fold(train=("s0",), validation=("s1",), test=("s5",))
CONFIGURATION = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2, epochs=2, maps=3, cells=4, dense=(4,))
TRIAL = make_trial(CONFIGURATION, fold=PARTITION)
CALLS = ("fsync", "replace", "link", "mkdir")


def durable_copy(disk: Path, folder: Path) -> None:
    """Keep what a folder's fsync keeps: its names."""
    names = {entry.name: entry.inode() if entry.is_file() else None for entry in os.scandir(folder)}
    (disk / f"folder-{folder.stat().st_ino}.json").write_text(json.dumps(names))


def rebuild(disk: Path, inode: int, folder: Path) -> None:
    """Make a folder as it is after the power came back."""
    folder.mkdir()
    listing = disk / f"folder-{inode}.json"
    kinds = json.loads((disk / "kinds.json").read_text())
    for name, file in (json.loads(listing.read_text()) if listing.exists() else {}).items():
        if file is None:
            rebuild(disk, kinds[f"{inode}/{name}"], folder / name)
        else:
            kept = disk / f"file-{file}"
            (folder / name).write_bytes(kept.read_bytes() if kept.exists() else b"")


def crash_at(point: int, disk: Path) -> None:
    """Let this process die at the point-th crash point; keep on the model disk what is fsynced until then."""
    passed = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal passed
            for before in (True, False):
                if passed == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                passed += 1
                if before:
                    result = real(*args, **more)
                    if name == "fsync":
                        keep(Path(f"/proc/self/fd/{args[0]}").readlink())
            return result

        return call

    def keep(path: Path) -> None:
        if path.is_dir():
            durable_copy(disk, path)
        else:
            (disk / f"file-{path.stat().st_ino}").write_bytes(path.read_bytes())

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def main(store: Path, out: Path, loss: str) -> None:
    data = open_dataset(open_store(store), PARTITION)
    point, died = 0, True
    while died:
        run, disk = out / f"{point}-live", out / f"{point}-disk"
        run.mkdir()
        disk.mkdir()
        child = os.fork()
        if child == 0:
            crash_at(point, disk)
            list(run_steps(make_system(TRIAL, data), Ledger(Folder(run)).begin(TRIAL), after_epochs=True))
            os._exit(0)
        died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if loss == "power":
            folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
            kinds = {f"{path.parent.stat().st_ino}/{path.name}": path.stat().st_ino for path in folders}
            (disk / "kinds.json").write_text(json.dumps(kinds))
            rebuild(disk, run.stat().st_ino, out / str(point))
        else:
            run.rename(out / str(point))
        point += 1
    print(point)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

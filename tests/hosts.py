"""Hosts of namespaces on one machine: each has its own address, processes, name and /tmp, and all see shared folders.

Their network is a bridge in a namespace of its own; nothing of it is seen outside. It needs root, as on a CI machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from platformdirs import user_cache_path

REPOSITORY = Path(__file__).parents[1]
NETWORK = "10.77.0"
PORT = 6379
_RAY = (sys.executable, "-m", "ray.scripts.scripts")

# Everything that a host mounts is visible to it alone. Folders are shared at their own paths: they are kept open below
# /run while a new /tmp covers those that lie in /tmp.
_HOST = r"""
set -e
name=$1; shift
hostname "$name"
ip link set lo up
mount -t tmpfs -o size=2g none /dev/shm
mount -t tmpfs none /run
number=0
for folder in "$@"; do number=$((number + 1)); mkdir /run/$number; mount --rbind "$folder" /run/$number; done
mount -t tmpfs -o size=3g none /tmp
chmod 1777 /tmp
mkdir /tmp/home
number=0
for folder in "$@"; do
    number=$((number + 1))
    mkdir -p "$folder"
    mount --rbind /run/$number "$folder"
done
echo up
exec sleep 86400
"""


@dataclass
class Host:
    """A host.

    Attributes:
        number: from 1.
        pid: of the process that keeps its namespaces.
        switch: of the process that keeps the network's.
    """

    number: int
    pid: int
    switch: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def name(self) -> str:
        return f"host{self.number}"

    def on(self, *words: object) -> list[str]:
        """A command line that runs another one on this host."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-u", "-p", "-i", "env", *_environment(), *map(str, words)]

    def run(self, *words: object, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end."""
        return subprocess.run(self.on(*words), capture_output=True, text=True, timeout=timeout, check=False)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Start a command on this host; it ends with the host at the latest."""
        process = subprocess.Popen(self.on(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def sersearch(self, *words: object) -> list[object]:
        """The words of a command of sersearch."""
        return [sys.executable, "-m", "sersearch", *words]

    def start_ray(self, cpus: int = 1, gpus: int = 0, head: str = "", mode: str = "disabled") -> None:
        """Start a node of a Ray cluster: its head, unless the head's address is given.

        Args:
            cpus: that Ray hands out.
            gpus: that Ray hands out, there or not.
            head: address of the head.
            mode: of authentication.
        """
        where = ["--address", f"{head}:{PORT}"] if head else ["--head", "--port", PORT, "--include-dashboard", "false"]
        done = self.run(
            *("env", f"RAY_AUTH_MODE={mode}", *_RAY, "start", *where),
            *("--node-ip-address", self.address, "--num-cpus", cpus, "--num-gpus", gpus),
            *("--object-store-memory", 100_000_000, "--disable-usage-stats"),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def stop_ray(self) -> None:
        """End this host's Ray."""
        self.run(*_RAY, "stop", "--force")

    def shell(self, command: str) -> None:
        """Run a command of the shell on this host, such as `mount`."""
        done = self.run("sh", "-c", command)
        assert done.returncode == 0, done.stderr

    def cut(self) -> None:
        """Take the host's link down."""
        _ip(self.switch, "link", "set", f"host{self.number}", "down")

    def heal(self) -> None:
        """Take the host's link up again."""
        _ip(self.switch, "link", "set", f"host{self.number}", "up")

    def kill(self, name: str) -> None:
        """Kill this host's processes of a name, such as raylet."""
        killed = 0
        for process in _in_namespace(self.pid):
            with suppress(psutil.Error):
                if process.name() == name:
                    process.kill()
                    killed += 1
        assert killed, f"no process {name} on {self.name}"

    def kill_driver(self, run: str) -> None:
        """Kill this host's commands of sersearch on a run."""
        killed = 0
        for process in _in_namespace(self.pid):
            with suppress(psutil.Error):
                words = process.cmdline()
                if "sersearch" in words and run in words:
                    process.kill()
                    killed += 1
        assert killed, f"no command on {run} on {self.name}"


def _in_namespace(pid: int) -> list[psutil.Process]:
    """All processes of a host: also those that entered its namespaces from outside, which are nobody's children."""
    namespace = Path(f"/proc/{pid}/ns/pid").readlink()
    found = []
    for process in psutil.process_iter():
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/ns/pid").readlink() == namespace:
                found.append(process)
    return found


@contextmanager
def hosts(number: int, *shared: Path) -> Iterator[list[Host]]:
    """Make hosts that share folders at their own paths; skip the test where that needs a right that is missing."""
    folders = [str(folder) for folder in (REPOSITORY, Path(sys.prefix), *shared)]
    if missing := [tool for tool in ("ip", "unshare", "nsenter", "setpriv") if not shutil.which(tool)]:
        pytest.skip(f"no {missing[0]} here, which makes hosts of namespaces")
    keepers: list[subprocess.Popen[str]] = []
    made: list[Host] = []
    try:
        switch = _keep(keepers, ["unshare", "-n", "sh", "-c", "echo up; exec sleep 86400"])
        _ip(switch, "link", "add", "bridge", "type", "bridge")
        _ip(switch, "link", "set", "bridge", "up")
        for k in range(1, number + 1):
            separate = ["unshare", "-m", "-n", "-u", "-p", "-i", "-f", "--mount-proc", "--kill-child"]
            unshared = _keep(
                keepers, [*separate, "--propagation", "private", "sh", "-c", _HOST, "sh", f"host{k}", *folders]
            )
            (inner,) = psutil.Process(unshared).children()
            _connect(switch, inner.pid, k)
            made.append(Host(k, inner.pid, switch))
        yield made
    finally:
        for keeper in reversed(keepers):
            for process in psutil.Process(keeper.pid).children():
                process.kill()  # the first process of a host; the others end with it
            keeper.kill()
        for ended in (*keepers, *(process for host in made for process in host.processes)):
            ended.communicate()


def _keep(keepers: list[subprocess.Popen[str]], command: Sequence[str]) -> int:
    """Start a process that keeps namespaces, and wait until it says that it is up."""
    # Hosts end with the test, even if it is killed.
    keeper = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert keeper.stdout
    assert keeper.stderr
    if keeper.stdout.readline() != "up\n":
        pytest.skip(f"no right to make hosts of namespaces here: {keeper.stderr.read().strip()}")
    keepers.append(keeper)
    return keeper.pid


def _connect(switch: int, host: int, number: int) -> None:
    name = f"host{number}"
    _ip(switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(host))
    _ip(switch, "link", "set", name, "master", "bridge", "up")
    _ip(host, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
    _ip(host, "link", "set", "eth0", "up")


def _ip(pid: int, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words], check=True, capture_output=True)


def _environment() -> list[str]:
    """What of the environment differs on a host."""
    unset = [word for name in os.environ if name.startswith("RAY_") for word in ("-u", name)]
    cache = user_cache_path()  # compiled loops are in there
    return [
        *unset,
        "-C",
        str(REPOSITORY),
        "HOME=/tmp/home",
        f"XDG_CACHE_HOME={cache}",
        "RAY_AUTH_MODE=disabled",
        f"PYTHONPATH={REPOSITORY}",
    ]


def wait_until(happens, process: subprocess.Popen[str] | None = None, timeout: float = 900.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until something is so, or fail: at the latest when the process ends."""
    deadline = time.monotonic() + timeout
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)

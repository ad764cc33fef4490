"""SLURM on one machine: a controller and two nodes, with files, ports and a key of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
SlurmUser=root
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
KillWait=30
MinJobAge=600
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=4 RealMemory=4000 Gres=gpu:a100:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000 Gres=gpu:a100:2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10
"""


class Slurm:
    """A running SLURM.

    Attributes:
        folder: its files; jobs are submitted there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: Mapping[str, str] = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: object) -> str:
        """Run a command of SLURM; what it prints."""
        words = [str(word) for word in command]
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, script: Path, *options: str) -> str:
        """Submit a job; its number."""
        return self.call("sbatch", "--parsable", *options, script)

    def facts(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_until(self, job: str, is_so: Callable[[dict[str, str]], bool], what: str, timeout_s: float = 400) -> None:
        """Wait until something is so of a job; fail with the job's log otherwise."""
        end_s = time.monotonic() + timeout_s
        while not is_so(facts := self.facts(job)):
            over = facts["JobState"] in ("FAILED", "TIMEOUT", "NODE_FAIL") or time.monotonic() > end_s
            assert not over, f"not {what}: {facts}\n{self.log()}"
            time.sleep(0.5)

    def log(self) -> str:
        """The logs of all jobs."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*-*.log")))


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Run SLURM in a folder until the end of the block; skip the test where that is not possible."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is missing: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons of a test run as root")
    ports = _free_ports(3)
    host = socket.gethostname()
    text = CONF.format(folder=folder, host=host, port=ports[0], ports=ports[1:])
    (folder / "slurm.conf").write_text(text)
    # Files stand for the devices: SLURM hands the GPUs out, and no job of the tests uses them.
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu Type=a100 File={folder}/gpu[0-1]\n")
    for number in range(2):
        (folder / f"gpu{number}").touch()
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    slurm = Slurm(folder)
    daemons = []
    try:
        for command in _daemons(folder):
            with (folder / f"{command[0]}.out").open("a") as log:
                daemons.append(subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log, cwd=folder))
            time.sleep(1)
        _wait_for_nodes(slurm)
        yield slurm
        with suppress(AssertionError):
            slurm.call("scancel", "--user=root")
            time.sleep(2)
    finally:
        for process in reversed(daemons):
            process.terminate()
        for process in daemons:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _daemons(folder: Path) -> Iterator[list[str]]:
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{option}={folder / name}" for option, name in names.items()]
    yield ["munged", "--foreground", "--force", f"--log-file={folder / 'munged.log'}", *options]
    yield ["slurmctld", "-D", "-i"]
    yield ["slurmd", "-D", "-N", "n1"]
    yield ["slurmd", "-D", "-N", "n2"]


def _wait_for_nodes(slurm: Slurm) -> None:
    end_s = time.monotonic() + 60
    while True:
        with suppress(AssertionError):
            if slurm.call("sinfo", "--noheader", "--states=idle", "--partition=main", "--format=%D") == "2":
                return
        assert time.monotonic() < end_s, slurm.call("sinfo", "--long", "--Node")
        time.sleep(0.5)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports

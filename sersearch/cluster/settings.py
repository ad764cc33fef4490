"""The settings from which files for a cluster are rendered, one class per kind of cluster.

Each class holds what its template uses and nothing else. What a template could not write safely, or what the cluster
would refuse only after the job has waited in a queue, is refused here.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sersearch.errors import InputError, printable

SIGNAL_RESOLUTION_S = 60
"""SLURM may send the signal before the time limit so much earlier than it was told."""

LEAST_STOP_BEFORE_S = 10
"""How long before its time limit a job is stopped at the latest: it has to requeue itself in this time."""

_TIME_LIMIT = re.compile(r"(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)")

_OPTIONS = {"study": "STUDY", "studies": "STUDY", "workers": "--worker", "labels": "--label"}
"""How settings are called on the command line, where it is not `--` and their name."""

SettingsT = TypeVar("SettingsT", bound="Settings")


def _text(given: str) -> str:
    """A text that fits on one line of any file and is no option of a command."""
    if not given.strip() or given != printable(given):
        raise ValueError("is empty or holds a control character; write one line of text")
    if given.startswith("-"):
        raise ValueError("begins with a dash, as options do; write ./ before it")
    return given


def _word(given: str) -> str:
    """A text that no file takes for anything but one word."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.:/@+,-]*", given, re.ASCII):
        raise ValueError("holds more than letters, digits and . _ - : / @ + ,")
    return given


def _cluster_name(given: str) -> str:
    """A name that SLURM, Kubernetes and clouds take alike."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", given):
        raise ValueError("write up to 40 small letters, digits and dashes; begin with a letter")
    return given


def _address(given: str) -> str:
    """An IP address: Ray can wait for minutes for a name that no name server knows."""
    try:
        ipaddress.IPv4Address(given)
    except ValueError:
        raise ValueError(
            "is no IPv4 address; write the machine's address in the network that all machines share, as in 10.0.0.1"
        ) from None
    return given


def _path_in_container(given: str) -> str:
    """An absolute path that needs no quotes."""
    if not re.fullmatch(r"/[\w./@+,:=-]*", given, re.ASCII):
        raise ValueError(
            "write an absolute path in the container, of letters, digits and . _ - / @ + , : = (others would need "
            "quotes, which do not survive all programs on the way)"
        )
    return given


def _time_limit(given: str) -> str:
    if not _TIME_LIMIT.fullmatch(given):
        raise ValueError("write HH:MM:SS or D-HH:MM:SS, as in 24:00:00")
    return given


def _label(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w./-]*=[\w.-]+", given, re.ASCII):
        raise ValueError("write KEY=VALUE, as in cloud.google.com/gke-accelerator=nvidia-l4")
    return given


Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, AfterValidator(_word)]
ClusterName = Annotated[str, AfterValidator(_cluster_name)]
Address = Annotated[str, AfterValidator(_address)]
ContainerPath = Annotated[str, AfterValidator(_path_in_container)]
TimeLimit = Annotated[str, AfterValidator(_time_limit)]
Label = Annotated[str, AfterValidator(_label)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """What every kind of cluster has.

    Attributes:
        template: name of the template, in the folder `cluster` that comes with the package.
        name: name of the cluster or job.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    template: ClassVar[str]

    name: ClusterName = "sersearch"


class Slurm(Settings):
    """A job of SLURM, or an array of jobs with one study each.

    Attributes:
        studies: studies to search, each in a job of its own.
        store: folder of the store.
        run: folder of the run; with several studies, the folder that holds one run per study.
        nodes: number of nodes per job.
        cpus: number of CPUs per node.
        gpus: number of GPUs per node.
        gpu_type: type of GPU, as the cluster's `GresTypes` are called.
        memory_gb: memory per node, in GB; the partition's default if None.
        partition: partitions to wait for, with commas between.
        account: account that is charged.
        time: time limit of one part of the job, which requeues itself until the run is complete.
        stop_before_s: how many seconds before the time limit the search is told to stop.
        environment: folder of the Python environment with sersearch, the same on each node.
        container: image of Apptainer that holds sersearch and is used instead of the environment.
    """

    template = "slurm.sh"

    studies: tuple[Text, ...] = Field(min_length=1)
    store: Text
    run: Text
    nodes: Count = 1
    cpus: Count
    gpus: int = Field(default=0, ge=0)
    gpu_type: Word | None = None
    memory_gb: Count | None = None
    partition: Word | None = None
    account: Word | None = None
    time: TimeLimit
    stop_before_s: int = Field(default=300, ge=LEAST_STOP_BEFORE_S)
    environment: Text
    container: Text | None = None

    @model_validator(mode="after")
    def _fits(self) -> Slurm:
        if self.gpu_type and not self.gpus:
            raise ValueError(f"--gpu-type {self.gpu_type} was given without --gpus; say how many per node")
        if self.stop_before_s >= self.time_s:
            raise ValueError(
                f"--stop-before-s {self.stop_before_s} leaves nothing of --time {self.time}; give less, or more time"
            )
        if len(set(self.runs)) < len(self.runs):
            raise ValueError("two of the studies have the same name, so their runs would; rename one of the files")
        return self

    @property
    def time_s(self) -> int:
        """The time limit, in seconds."""
        found = _TIME_LIMIT.fullmatch(self.time)
        assert found
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def runs(self) -> tuple[str, ...]:
        """Folder of the run of each study."""
        if len(self.studies) == 1:
            return (self.run,)
        return tuple(f"{self.run.rstrip('/')}/{Path(study).stem}" for study in self.studies)

    @property
    def patience_s(self) -> int:
        """How long running trials may write checkpoints after the signal; then the search is stopped immediately."""
        return max(self.stop_before_s - SIGNAL_RESOLUTION_S, self.stop_before_s // 2)

    @property
    def binds(self) -> tuple[str, ...]:
        """Paths that a container must see, beside the working folder."""
        return (self.store, *(str(Path(run).parent) for run in self.runs))


class Ssh(Settings):
    """Machines of one's own that share a folder and are reached by ssh.

    Attributes:
        study: study to search.
        store: folder of the store.
        run: folder of the run.
        head: address of the machine on which the search runs.
        workers: addresses of the other machines.
        port: port of the head at which the machines meet.
        environment: folder of the Python environment with sersearch, the same on each machine.
        cpus: number of CPUs per machine that trials may use; all if None.
        gpus: number of GPUs per machine that trials may use; all if None.
    """

    template = "ssh.sh"

    study: Text
    store: Text
    run: Text
    head: Address
    workers: tuple[Address, ...] = Field(min_length=1)
    port: int = Field(default=6379, ge=1024, le=65535)
    environment: Text
    cpus: Count | None = None
    gpus: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _each_once(self) -> Ssh:
        machines = (self.head, *self.workers)
        if twice := sorted({machine for machine in machines if machines.count(machine) > 1}):
            raise ValueError(f"{twice[0]} was given twice; name each machine once, the head with --head alone")
        return self


class InContainers(Settings):
    """A cluster of containers of one image, which grows and shrinks.

    Attributes:
        study: study to search; a file has to be in the shared folder.
        store: folder of the store.
        run: folder of the run.
        image: the image; it holds sersearch.
        shared: folder in the container where the shared file system is mounted.
        min_workers: number of workers that are always there. At least one: a search refuses a cluster that can't train.
        max_workers: number of workers at most.
    """

    study: ContainerPath | Word
    store: ContainerPath
    run: ContainerPath
    image: Word
    shared: ContainerPath = "/shared"
    min_workers: Count = 1
    max_workers: Count = 4

    @model_validator(mode="after")
    def _fits(self) -> InContainers:
        if self.min_workers > self.max_workers:
            raise ValueError(f"--min-workers {self.min_workers} is more than --max-workers {self.max_workers}")
        folder = self.shared.rstrip("/") + "/"
        for option, path in (("STUDY", self.study), ("--store", self.store), ("--run", self.run)):
            if "/" in path and not path.startswith(folder):
                raise ValueError(f"{option} {path} is outside {self.shared}, which alone is shared; put it in there")
        return self


class KubeRay(InContainers):
    """A RayJob of KubeRay.

    Attributes:
        claim: name of the claim to the shared volume, which exists already.
        cpus: number of CPUs per worker.
        gpus: number of GPUs per worker.
        memory_gb: memory per worker, in GiB.
        labels: labels of the nodes on which workers run, as KEY=VALUE: types of GPUs, spot nodes.
        retries: how many times a cluster that failed is replaced.
    """

    template = "kuberay.yaml"

    claim: ClusterName = "shared"
    cpus: Count
    gpus: int = Field(default=0, ge=0)
    memory_gb: Count
    labels: tuple[Label, ...] = ()
    retries: int = Field(default=10, ge=0)

    @property
    def node_selector(self) -> dict[str, str]:
        """The labels by their keys."""
        return dict(label.split("=", 1) for label in self.labels)


class Cloud(InContainers):
    """Virtual machines that Ray's cluster launcher starts.

    Attributes:
        region: region of the cloud.
        head_type: type of machine of the head, which does not train.
        worker_type: type of machine of the workers.
        file_system: the shared file system, as `mount -t nfs4` takes it.
        spot: whether workers are spot machines, which cost less and may be taken away.
    """

    region: Word
    head_type: Word
    worker_type: Word
    file_system: Word
    spot: bool = False


class Aws(Cloud):
    """A cluster on AWS."""

    template = "aws.yaml"


class Gcp(Cloud):
    """A cluster on Google Cloud.

    Attributes:
        project: the project that is charged.
        zone: zone of the region.
        machine_image: disk image of the machines, with Docker and for GPUs with NVIDIA's driver.
        cpus: number of CPUs per worker, which Ray can't find out before a worker runs.
        gpus: number of GPUs per worker.
        gpu_type: type of GPU that is attached to a worker; None where the machine's type includes its GPUs.
    """

    template = "gcp.yaml"

    project: Word
    zone: Word
    machine_image: Word
    cpus: Count
    gpus: int = Field(default=0, ge=0)
    gpu_type: Word | None = None

    @model_validator(mode="after")
    def _has_gpus(self) -> Gcp:
        if self.gpu_type and not self.gpus:
            raise ValueError(f"--gpu-type {self.gpu_type} was given without --gpus; say how many per worker")
        return self


class Docker(Settings):
    """An image with sersearch, for all that runs containers.

    Attributes:
        image: name of the image.
        python: version of Python.
        index: a further index of packages, for example that of a torch for CPUs.
    """

    template = "Dockerfile"

    image: Word
    python: str = "3.12"
    index: Text | None = None

    @model_validator(mode="after")
    def _new_enough(self) -> Docker:
        version = re.fullmatch(r"3\.(\d{1,2})", self.python)
        if not version or int(version[1]) < 11:
            raise ValueError(f"--python {self.python}: write 3.11 or newer, as in 3.12")
        return self


def read_settings(kind: type[SettingsT], given: dict[str, Any]) -> SettingsT:
    """Check settings that were given as options of a command; None is the same as not given.

    Raises:
        InputError: a setting is missing, unknown, or not as it should be.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InputError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """The first fault as one line: the option, what was given, the rule."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    setting = str(first["loc"][0])
    option = _OPTIONS.get(setting, f"--{setting.replace('_', '-')}")
    if first["type"] == "missing":
        return f"{option} is missing"
    message = message if first["type"] == "value_error" else f"{message[0].lower()}{message[1:]}"
    return f"{option} {first['input']}: {message}"

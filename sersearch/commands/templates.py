"""Commands that render files which start a cluster and a search on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sersearch.errors import InputError
from sersearch.terminal.screen import say_on_stderr, say_verbatim

Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the file, which must not exist, instead of printing it.")
]
Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's file, or a study that comes with sersearch.")]
Studies = Annotated[
    list[str], typer.Argument(metavar="STUDY", help="A study; several become an array of jobs, with a run each.")
]
Store = Annotated[str, typer.Option(metavar="STORE", help="The store's folder, as every node sees it.")]
RunPath = Annotated[str, typer.Option("--run", metavar="RUN", help="The run's folder, as every node sees it.")]
Name = Annotated[str, typer.Option(help="Name of the job or cluster: small letters, digits and dashes.")]
Environment = Annotated[
    str,
    typer.Option(
        metavar="DIR", help="The Python environment with sersearch, the same on each machine; this one unless given."
    ),
]
NodeCpus = Annotated[int, typer.Option("--cpus", min=1, help="CPUs per node.")]
NodeGpus = Annotated[int, typer.Option("--gpus", min=0, help="GPUs per node.")]
Image = Annotated[str, typer.Option(help="The container's image, made with `sersearch cluster docker`.")]
Shared = Annotated[str, typer.Option(metavar="DIR", help="Where the shared file system is in the container.")]
MinWorkers = Annotated[int, typer.Option(min=1, help="Workers that are always there.")]
MaxWorkers = Annotated[int, typer.Option(min=1, help="Workers at most.")]
FileSystem = Annotated[
    str, typer.Option(metavar="HOST:/PATH", help="The shared file system, as `mount -t nfs4` takes it.")
]
Region = Annotated[str, typer.Option(help="Region of the cloud.")]
HeadType = Annotated[str, typer.Option(help="Type of machine of the head, which does not train.")]
WorkerType = Annotated[str, typer.Option(help="Type of machine of the workers.")]
Spot = Annotated[bool, typer.Option("--spot", help="Take spot machines, which cost less and may be taken away.")]


def render_slurm(
    studies: Studies,
    store: Store,
    run: RunPath,
    cpus: NodeCpus,
    time: Annotated[str, typer.Option(metavar="HH:MM:SS", help="Time limit; the job requeues itself before it.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes per job.")] = 1,
    gpus: NodeGpus = 0,
    gpu_type: Annotated[str | None, typer.Option(help="Type of GPU, as in a100.")] = None,
    memory_gb: Annotated[int | None, typer.Option(min=1, help="Memory per node; the partition's unless given.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition, or several with commas between.")] = None,
    account: Annotated[str | None, typer.Option(help="Account that is charged.")] = None,
    stop_before_s: Annotated[
        int, typer.Option(min=10, help="Seconds before the time limit at which the search is told to stop.")
    ] = 300,
    environment: Environment = sys.prefix,
    container: Annotated[
        str | None, typer.Option(metavar="FILE.sif", help="Run in this image of Apptainer, not in the environment.")
    ] = None,
    name: Name = "sersearch",
    out: Out = None,
) -> None:
    """Render a job for SLURM that requeues itself until the run is complete.

    Example: [bold]sersearch cluster slurm paper --store stores/mine --run runs/paper --nodes 2 --cpus 16 --gpus 4
    --time 24:00:00 --out slurm.sh[/bold]
    """
    _render("Slurm", locals())


def render_ssh(
    study: Study,
    store: Store,
    run: RunPath,
    head: Annotated[str, typer.Option(metavar="ADDRESS", help="IP address of the machine that runs the search.")],
    worker: Annotated[list[str], typer.Option(metavar="ADDRESS", help="IP address of another machine; repeat it.")],
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the head at which the machines meet.")] = 6379,
    environment: Environment = sys.prefix,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs per machine for trials; all unless given.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs per machine for trials; all unless given.")] = None,
    name: Name = "sersearch",
    out: Out = None,
) -> None:
    """Render a script that starts, uses and stops Ray on machines of your own, by ssh.

    Example: [bold]sersearch cluster ssh paper --store stores/mine --run runs/paper --head 10.0.0.1 --worker 10.0.0.2
    --out cluster.sh[/bold]
    """
    given = locals()
    _render("Ssh", given | {"workers": given.pop("worker")})


def render_kuberay(
    study: Study,
    store: Store,
    run: RunPath,
    image: Image,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per worker.")],
    memory_gb: Annotated[int, typer.Option(min=1, help="Memory per worker, in GiB.")],
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per worker.")] = 0,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Label of the workers' nodes: a type of GPU, spot; repeat it."),
    ] = None,
    claim: Annotated[str, typer.Option(help="The claim to the shared volume.")] = "shared",
    shared: Shared = "/shared",
    min_workers: MinWorkers = 1,
    max_workers: MaxWorkers = 4,
    retries: Annotated[int, typer.Option(min=0, help="How many times a cluster that failed is replaced.")] = 10,
    name: Name = "sersearch",
    out: Out = None,
) -> None:
    """Render a RayJob for KubeRay 1.7 on Kubernetes.

    Example: [bold]sersearch cluster kuberay paper --store /shared/stores/mine --run /shared/runs/paper --image
    registry.example.org/sersearch:1 --cpus 8 --memory-gb 32 --gpus 1 --out kuberay.yaml[/bold]
    """
    given = locals()
    _render("KubeRay", given | {"labels": given.pop("label")})


def render_aws(
    study: Study,
    store: Store,
    run: RunPath,
    image: Image,
    region: Region,
    file_system: FileSystem,
    head_type: HeadType = "m6i.xlarge",
    worker_type: WorkerType = "g5.2xlarge",
    spot: Spot = False,
    shared: Shared = "/shared",
    min_workers: MinWorkers = 1,
    max_workers: MaxWorkers = 4,
    name: Name = "sersearch",
    out: Out = None,
) -> None:
    """Render a configuration for Ray's cluster launcher on AWS.

    Example: [bold]sersearch cluster aws paper --store /shared/stores/mine --run /shared/runs/paper --image
    registry.example.org/sersearch:1 --region eu-central-1 --file-system FILE-SYSTEM.example.org:/ --out aws.yaml[/bold]
    """
    _render("Aws", locals())


def render_gcp(
    study: Study,
    store: Store,
    run: RunPath,
    image: Image,
    project: Annotated[str, typer.Option(help="Project that is charged.")],
    region: Region,
    zone: Annotated[str, typer.Option(help="Zone of the region.")],
    file_system: FileSystem,
    machine_image: Annotated[
        str,
        typer.Option(help="Disk image of the machines, with Docker: projects/deeplearning-platform-release/global/..."),
    ],
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per worker, as its type has.")],
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per worker.")] = 0,
    gpu_type: Annotated[
        str | None, typer.Option(help="Type of GPU to attach; none where the type of machine includes its GPUs.")
    ] = None,
    head_type: HeadType = "n2-standard-4",
    worker_type: WorkerType = "g2-standard-8",
    spot: Spot = False,
    shared: Shared = "/shared",
    min_workers: MinWorkers = 1,
    max_workers: MaxWorkers = 4,
    name: Name = "sersearch",
    out: Out = None,
) -> None:
    """Render a configuration for Ray's cluster launcher on Google Cloud.

    Example: [bold]sersearch cluster gcp paper --store /shared/stores/mine --run /shared/runs/paper --image
    registry.example.org/sersearch:1 --project mine --region europe-west4 --zone europe-west4-a --file-system
    10.0.0.2:/share --machine-image IMAGE --cpus 8 --gpus 1 --out gcp.yaml[/bold]
    """
    _render("Gcp", locals())


def render_docker(
    image: Image,
    python: Annotated[str, typer.Option(help="Version of Python, 3.11 or newer.")] = "3.12",
    index: Annotated[
        str | None, typer.Option(metavar="URL", help="A further index of packages, such as PyTorch's for CPUs.")
    ] = None,
    out: Out = None,
) -> None:
    """Render a Dockerfile for an image with sersearch.

    Example: [bold]sersearch cluster docker --image registry.example.org/sersearch:1 --out Dockerfile[/bold]
    """
    _render("Docker", locals())


def _render(kind: str, given: dict[str, Any]) -> None:
    from sersearch.cluster import settings
    from sersearch.cluster.rendering import render

    out: Path | None = given.pop("out")
    text = render(settings.read_settings(getattr(settings, kind), given))
    if out is None:
        say_verbatim(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{out}: exists already and is not overwritten; choose another name") from None
    except FileNotFoundError:
        raise InputError(f"{out.parent}: no such folder; make it first") from None
    say_on_stderr(f"written to {out}: its first lines say how it is used")

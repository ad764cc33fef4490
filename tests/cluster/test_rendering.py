"""Rendered files against those who read them: bash and shellcheck, KubeRay's schema, the launcher's, hadolint."""

import gzip
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.cluster.rendering import render
from sersearch.cluster.settings import Slurm, Ssh, read_settings
from sersearch.errors import InputError

BIN = Path(sys.executable).parent
HOSTILE = 'it\'s "$HOME" `id`; rm -rf * #&|<>\\ é'
RUN = ("--store", "/shared/store", "--run", "/shared/run")
IMAGE = ("--image", "registry.example.org/me/sersearch:1")
COMMANDS = {
    "slurm": ("slurm", "paper", *RUN, "--cpus", 8, "--time", "1-00:00:00"),
    "slurm with all": (
        *("slurm", HOSTILE, "table-4", "--store", HOSTILE, "--run", HOSTILE, "--nodes", 4, "--cpus", 16, "--gpus", 4),
        *(
            "--gpu-type",
            "a100",
            "--memory-gb",
            128,
            "--partition",
            "gpu,spot",
            "--account",
            "lab",
            "--time",
            "24:00:00",
        ),
        *("--environment", HOSTILE),
    ),
    "slurm in a container": (
        *("slurm", "paper", "table-4", *RUN, "--cpus", 8, "--gpus", 1, "--time", "24:00:00"),
        *("--container", HOSTILE),
    ),
    "ssh": ("ssh", "paper", *RUN, "--head", "10.0.0.1", "--worker", "10.0.0.2"),
    "ssh with all": (
        *("ssh", HOSTILE, "--store", HOSTILE, "--run", HOSTILE, "--head", "10.0.0.1", "--worker", "10.0.0.2"),
        *("--worker", "10.0.0.3", "--cpus", 4, "--gpus", 0, "--environment", HOSTILE, "--port", 7000),
    ),
    "kuberay": ("kuberay", "paper", *RUN, *IMAGE, "--cpus", 8, "--memory-gb", 32),
    "kuberay with all": (
        *("kuberay", "/shared/mine.toml", *RUN, *IMAGE, "--cpus", 8, "--memory-gb", 32, "--gpus", 2),
        *("--label", "cloud.google.com/gke-accelerator=nvidia-l4", "--label", "cloud.google.com/gke-spot=true"),
        *("--claim", "data", "--min-workers", 2, "--max-workers", 9, "--retries", 3, "--name", "mine"),
    ),
    "aws": ("aws", "paper", *RUN, *IMAGE, "--region", "eu-central-1", "--file-system", "fs.example.org:/"),
    "aws with all": (
        *("aws", "paper", *RUN, *IMAGE, "--region", "eu-central-1", "--file-system", "fs.example.org:/", "--spot"),
        *("--head-type", "m6i.large", "--worker-type", "p4d.24xlarge", "--min-workers", 2, "--max-workers", 3),
    ),
    "gcp": (
        *("gcp", "paper", *RUN, *IMAGE, "--project", "mine", "--region", "europe-west4", "--zone", "europe-west4-a"),
        *("--file-system", "10.0.0.2:/share", "--machine-image", "projects/p/global/images/family/f", "--cpus", 8),
    ),
    "gcp with all": (
        *("gcp", "paper", *RUN, *IMAGE, "--project", "mine", "--region", "europe-west4", "--zone", "europe-west4-a"),
        *("--file-system", "10.0.0.2:/share", "--machine-image", "projects/p/global/images/family/f", "--cpus", 8),
        *("--gpus", 1, "--gpu-type", "nvidia-tesla-t4", "--worker-type", "n1-standard-8", "--spot"),
    ),
    "docker": ("docker", *IMAGE),
    "docker with all": (*("docker", *IMAGE, "--python", "3.11", "--index", "https://download.pytorch.org/whl/cpu"),),
}


def rendered(name: str) -> str:
    done = CliRunner().invoke(app, ["cluster", *map(str, COMMANDS[name])], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: object) -> str:
    """What a command that ends with exit code 2 says: one line."""
    done = CliRunner().invoke(app, ["cluster", *map(str, words)])
    assert isinstance(done.exception, InputError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


def of_kind(*kinds: str) -> list[str]:
    return [name for name in COMMANDS if name.split()[0] in kinds]


@pytest.mark.parametrize("name", of_kind("slurm", "ssh"))
def test_shellcheck_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(rendered(name))
    # Names that hold a dollar sign are not to be expanded.
    command = [str(BIN / "shellcheck"), "--exclude=SC2016", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# No script holds a null character, which printable() escapes.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
texts |= st.text("a '\"$`\\!*?[]{}()<>|&;#~=%\n\t", min_size=1, max_size=12)


@settings(max_examples=60)
@given(texts, texts)
@example(HOSTILE, HOSTILE)
def test_a_shell_reads_the_names_that_were_given(study: str, path: str) -> None:
    paths = {"store": path, "run": path, "environment": path}
    try:
        job = render(read_settings(Slurm, {"studies": (study, "b"), "cpus": 1, "time": "01:00:00", **paths}))
        script = render(read_settings(Ssh, {"study": study, "head": "10.0.0.1", "workers": ("10.0.0.2",), **paths}))
    except InputError:
        return
    for text, names in ((job, ("studies", "store")), (script, ("study", "store", "run"))):
        lines = [line for line in text.splitlines() if line.startswith(tuple(f"{name}=" for name in names))]
        assert len(lines) == len(names)
        shown = "; ".join(f'printf "%s\\0" "${name}"' for name in names)
        done = subprocess.run(["bash", "-euc", "\n".join([*lines, shown])], capture_output=True, check=True)
        expected = [study if name.startswith("stud") else path for name in names]
        assert done.stdout.decode().split("\0")[:-1] == expected


def test_the_script_is_for_the_head(tmp_path: Path) -> None:
    script = tmp_path / "cluster.sh"
    script.write_text(rendered("ssh").replace("10.0.0.1", "192.0.2.77"))
    done = subprocess.run(["bash", str(script), "up"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "this machine is not 192.0.2.77: run this file there\n")
    assert list(tmp_path.iterdir()) == [script]


def test_options_of_sbatch(tmp_path: Path) -> None:
    text = rendered("slurm with all")
    options = {line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert options >= {
        *("--nodes=4", "--cpus-per-task=16", "--gres=gpu:a100:4", "--mem=128G", "--partition=gpu,spot"),
        *("--account=lab", "--time=24:00:00", "--array=0-1", "--signal=B:TERM@300", "--requeue", "--open-mode=append"),
    }
    # sbatch stops reading options at the first command.
    assert text.index("set -euo") > text.rindex("#SBATCH")
    assert "--array" not in rendered("slurm")


def test_the_container_sees_what_it_needs() -> None:
    (line,) = [line for line in rendered("slurm in a container").splitlines() if line.startswith("inside=")]
    words = shlex.split(line.removeprefix("inside=(").removesuffix(")"))
    assert words == ["apptainer", "exec", "--nv", "--bind", "/shared/store", "--bind", "/shared/run", HOSTILE]


@pytest.fixture(scope="module")
def rayjob_schema() -> dict[str, Any]:
    """The schema of a RayJob in KubeRay's CustomResourceDefinition, without unknown keys, as `kubectl` checks it."""
    with gzip.open(Path(__file__).with_name("schemas") / "kuberay-rayjobs-crd.yaml.gz") as file:
        definition = yaml.load(file, yaml.CSafeLoader)
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return dict(strict(schema))


def strict(schema: Any) -> Any:
    """A schema that refuses unknown keys, and takes numbers where Kubernetes takes quantities."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: strict(part) for name, part in schema.items()}
    if changed.pop("x-kubernetes-int-or-string", False):
        changed.pop("type", None)
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        changed.setdefault("additionalProperties", False)
    return changed


@pytest.mark.parametrize("name", of_kind("kuberay"))
def test_kubernetes_takes_the_rayjob(name: str, rayjob_schema: dict[str, Any]) -> None:
    job = yaml.safe_load(rendered(name))
    jsonschema.Draft7Validator(rayjob_schema).validate(job)
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == ray.__version__
    assert job["spec"]["backoffLimit"] > 0
    (workers,) = spec["workerGroupSpecs"]
    assert 1 <= workers["minReplicas"] <= workers["maxReplicas"]
    for template in (spec["headGroupSpec"]["template"], workers["template"]):
        (volume,), (container,) = template["spec"]["volumes"], template["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        assert volume["name"] == mount["name"]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["sersearch", "search"]
    assert "--take-over" in words


def test_the_schema_refuses_what_is_misspelt(rayjob_schema: dict[str, Any]) -> None:
    job = yaml.safe_load(rendered("kuberay"))
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.Draft7Validator(rayjob_schema).validate(job)


@pytest.mark.parametrize("name", of_kind("aws", "gcp"))
def test_rays_launcher_takes_the_configuration(name: str) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    configuration = yaml.safe_load(rendered(name))
    jsonschema.validate(configuration, schema)
    types = configuration["available_node_types"]
    assert configuration["head_node_type"] in types
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["worker"]["max_workers"] <= configuration["max_workers"]
    assert "--env RAY_AUTH_MODE=token" in configuration["docker"]["run_options"]
    (start,) = [line for line in configuration["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in start
    (install,) = configuration["head_setup_commands"]
    assert {"aws": "boto3", "gcp": "google-api-python-client"}[name[:3]] in install.split()
    assert ("spot" in str(types["worker"]) or "preemptible" in str(types["worker"])) == ("with all" in name)


@pytest.mark.parametrize("name", of_kind("aws", "gcp"))
def test_the_commands_in_the_comments_are_sersearchs(name: str) -> None:
    lines = [line for line in rendered(name).splitlines() if line.startswith("#   ray exec")]
    wait, search, status = (shlex.split(line.removeprefix("#"))[-1] for line in lines)
    assert wait.startswith("until ray status")
    assert shlex.split(search)[:3] == ["sersearch", "search", "paper"]
    assert shlex.split(search)[3:] == ["--store", "/shared/store", "--run", "/shared/run", "--address", "auto"]
    assert shlex.split(status) == ["sersearch", "status", "/shared/run"]


@pytest.mark.parametrize("name", of_kind("docker"))
def test_hadolint_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(rendered(name))
    done = subprocess.run([str(BIN / "hadolint"), str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", of_kind("docker"))
def test_the_dockerfile_copies_what_a_checkout_has(name: str) -> None:
    root = Path(__file__).parents[2]
    copied = [word for line in rendered(name).splitlines() if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((root / word).exists() for word in copied)
    assert [line for line in rendered(name).splitlines() if line.startswith("FROM python:3.1")]


SLURM = COMMANDS["slurm"]
SSH = COMMANDS["ssh"]
KUBERAY = COMMANDS["kuberay"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((*SLURM, "--gpu-type", "a100"), "without --gpus"),
        ((*SLURM, "--partition", "a b"), "--partition a b: holds more than letters"),
        ((*SLURM[:-1], "a day"), "--time a day: write HH:MM:SS"),
        ((*SLURM[:-1], "00:05:00"), "leaves nothing of --time 00:05:00"),
        ((*SLURM, "--name", "My Job"), "--name My Job: write up to 40 small letters"),
        (("slurm", "a/x.toml", "b/x.toml", *SLURM[2:]), "the same name"),
        ((*SLURM, "--container", "a\nb"), "holds a control character"),
        (
            ("ssh", "paper", *RUN, "--head", "head.local", "--worker", "10.0.0.2"),
            "--head head.local: is no IPv4 address",
        ),
        ((*SSH, "--worker", "host3"), "--worker host3: is no IPv4 address"),
        ((*SSH, "--worker", "10.0.0.1"), "10.0.0.1 was given twice"),
        (("kuberay", "my study.toml", *KUBERAY[2:]), "STUDY my study.toml: write an absolute path"),
        (("kuberay", "paper", "--store", "/data/store", "--run", "/shared/run", *KUBERAY[6:]), "is outside /shared"),
        ((*KUBERAY, "--min-workers", 5), "--min-workers 5 is more than --max-workers 4"),
        ((*KUBERAY, "--label", "gpu"), "write KEY=VALUE"),
        ((*COMMANDS["docker"], "--python", "3.10"), "write 3.11 or newer"),
        ((*COMMANDS["docker"], "--python", "3"), "write 3.11 or newer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_one_clear_line(words: tuple[object, ...], part: str) -> None:
    assert part in refused(*words)


def test_unknown_settings_are_refused() -> None:
    given_by_command = {"studies": ("a",), "store": "s", "run": "r", "environment": "e", "cpus": 1, "time": "01:00:00"}
    with pytest.raises(InputError, match="--node 2: extra inputs"):
        read_settings(Slurm, {**given_by_command, "node": 2})


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "job.sh"
    words = (*SLURM, "--out", out)
    done = CliRunner().invoke(app, ["cluster", *map(str, words)], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert out.read_text() == rendered("slurm")
    assert "exists already" in refused(*words)
    assert "no such folder" in refused(*SLURM, "--out", tmp_path / "none" / "job.sh")


PAGES = sorted((Path(__file__).parents[2] / "cluster").glob("*.md"))
PAGE_COMMAND = re.compile(r"^ *(sersearch cluster (?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_the_pages_are_taken(page: Path, tmp_path: Path) -> None:
    commands = PAGE_COMMAND.findall(page.read_text(encoding="utf-8"))
    for command in (command for command in commands if " --out " in command):
        _, *words = shlex.split(command.replace("\\\n", " "))
        words[words.index("--out") + 1] = str(tmp_path / f"{len(command)}")
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert list(tmp_path.iterdir()) or page.stem == "README"


def test_every_template_asks_for_a_token() -> None:
    folder = Path(__file__).parents[2] / "cluster"
    for template in templates(folder):
        text = template.read_text()
        assert "RAY_AUTH_MODE=token" in text or "mode: token" in text, template
        assert "0.0.0.0" not in text, template


def templates(folder: Path) -> Iterator[Path]:
    """The templates that start Ray."""
    for template in folder.glob("*.jinja"):
        if "ray start" in template.read_text() or template.name.startswith("kuberay"):
            yield template

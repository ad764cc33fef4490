"""The page for one's own machines, typed word for word on two hosts of namespaces that share a folder."""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import REPOSITORY, Host, hosts
from tests.search.test_search import leaderboard, sersearch

pytestmark = pytest.mark.slow("it installs sersearch on two hosts, builds a store and searches on both")

PAGE = (REPOSITORY / "cluster" / "ssh.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Nothing can be downloaded on these hosts: a new environment borrows the dependencies of the environment of the tests.
PYTHON = """\
#!/bin/sh
set -e
{python} "$@"
if [ "$1 $2" = "-m venv" ]; then
    echo {packages} >"$(echo "$3"/lib/python3*/site-packages)"/borrowed.pth
    printf '#!/bin/sh\\nexec "%s/bin/python" -m ray.scripts.scripts "$@"\\n' "$(realpath "$3")" >"$3/bin/ray"
    chmod +x "$3/bin/ray"
fi
"""
OFFLINE = ("PIP_NO_INDEX=1", "PIP_NO_DEPS=1", "PIP_NO_BUILD_ISOLATION=0", "PIP_QUIET=1")

SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/key.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
"""
SSH = """\
IdentityFile /etc/ssh/key
UserKnownHostsFile /etc/ssh/known_hosts
"""


@pytest.fixture
def shared(tiny_corpus: Path, tiny_noise: Path, tmp_path: Path) -> Path:
    """The shared folder, with a checkout, a corpus and noise."""
    shared = tmp_path / "shared"
    shutil.copytree(tiny_corpus, shared / "my" / "corpus")
    shutil.copytree(tiny_noise, shared / "my" / "noise")
    checkout = shared / "sersearch"
    checkout.mkdir()
    for folder in ("sersearch", "search_spaces", "cluster", "docs"):
        shutil.copytree(REPOSITORY / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(REPOSITORY / file, checkout)
    return shared


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """The folder /etc/ssh of all hosts: root logs in to each from each."""
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("sshd is missing: apt-get install openssh-server")
    folder = tmp_path / "ssh"
    folder.mkdir()
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "sshd_config").write_text(SSHD)
    (folder / "ssh_config").write_text(SSH)
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"10.77.0.1 {host_key}10.77.0.2 {host_key}")
    return folder


@pytest.fixture
def two(shared: Path, ssh: Path, tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts that see the shared folder as /mnt/shared; the second one takes logins."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(PYTHON.format(python=sys.executable, packages=sysconfig.get_path("purelib")))
    python.chmod(0o755)
    with hosts(2, tmp_path) as two:
        for host in two:
            host.shell(f"mount -t tmpfs none /mnt && mkdir /mnt/shared && mount --bind {shared} /mnt/shared")
            host.shell(f"mount --bind {ssh} /etc/ssh && mkdir /run/sshd && mount -o remount,bind,ro {sys.prefix}")
        two[1].start("/usr/sbin/sshd", "-D", "-e")
        yield two


def test_from_nothing_to_a_leaderboard(two: list[Host], shared: Path, tmp_path: Path) -> None:
    head, other = two
    typed = "\n".join(BLOCK.findall(PAGE))
    assert typed.count("bash cluster.sh") == 3
    environment = ("env", "-u", "PYTHONPATH", "-u", "RAY_AUTH_MODE", *OFFLINE)
    path = f"PATH={tmp_path / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = head.run(*environment, path, "bash", "-euxo", "pipefail", "-c", typed, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    for host in two:
        assert f"{host.address}: Ray has started" in done.stdout
        assert f"{host.address}: Ray has stopped" in done.stdout
        # The first process of a host of namespaces does not reap those that have ended.
        assert all(state.startswith("Z") for state in host.run("ps", "-C", "raylet", "-o", "stat=").stdout.split())
    assert "all 3 trials are done" in done.stdout
    assert "Leaderboard, noisy condition" in done.stdout
    token = shared / "runs" / "sersearch.token"
    assert (token.stat().st_mode & 0o777, len(token.read_text())) == (0o600, 64)
    alone = tmp_path / "alone"
    assert sersearch("search", "smoke", "--store", shared / "stores" / "mine", "--run", alone).returncode == 0
    assert (shared / "runs" / "smoke" / "report" / "leaderboard.csv").read_bytes() == leaderboard(alone)
    assert other.run("ls", "/tmp").stdout.find("ray-root") >= 0, "the second machine had a Ray of the same cluster"

"""The wheel in an empty environment, in a folder without checkout: what `pip install sersearch` gives."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import sersearch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow("it builds the wheel, installs it and starts its program")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", out, ROOT], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program; its dependencies are borrowed from the environment of the tests."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--quiet", wheel], check=True)
    packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "sersearch"


def call(program: Path, folder: Path, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | variables
    command = [str(program), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_holds_all_that_is_shipped_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("search_spaces", "cluster"):
        files = {f"sersearch/shipped/{file.relative_to(ROOT)}" for file in (ROOT / folder).rglob("*") if file.is_file()}
        assert files
        assert files <= names
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "sersearch").rglob("*.py")}
    assert modules | {"sersearch/py.typed", "sersearch/report/web/page.html"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]


def test_it_is_the_wheel_that_runs(program: Path, tmp_path: Path) -> None:
    python = program.parent / "python"
    done = call(python, tmp_path, "-c", "import sersearch; print(sersearch.__file__)")
    assert str(program.parent.parent) in done.stdout
    assert str(Path(sersearch.__file__).parent) not in done.stdout
    assert call(program, tmp_path, "--version").stdout.startswith("sersearch 0.")
    assert call(python, tmp_path, "-m", "sersearch", "--version").stdout.startswith("sersearch 0.")


def test_studies_that_come_with_it_are_planned_from_any_folder(program: Path, tmp_path: Path) -> None:
    for name, trials in (("table-4", 71), ("smoke", 3), ("paper", 92)):
        done = call(program, tmp_path, "plan", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{trials} trials" in done.stdout
    wrong = call(program, tmp_path, "plan", "tabel-4")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean table-4?" in wrong.stderr


def test_a_new_study_and_one_that_names_the_papers_space(program: Path, tmp_path: Path) -> None:
    assert call(program, tmp_path, "new", "mine.toml").returncode == 0
    assert "14 trials" in call(program, tmp_path, "plan", "mine.toml").stdout
    again = call(program, tmp_path, "new", "mine.toml")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    (tmp_path / "own.toml").write_text('spaces = ["fst-cldnn-log-mels"]\n')
    assert "12 trials" in call(program, tmp_path, "plan", "own.toml").stdout


def test_it_renders_files_for_clusters(program: Path, tmp_path: Path) -> None:
    done = call(program, tmp_path, "cluster", "docker", "--image", "mine:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "docker build --tag mine:1" in done.stdout


def test_a_shell_completes_commands_and_options(program: Path, tmp_path: Path) -> None:
    for typed, completed in (("sersearch pl", "plan"), ("sersearch plan --wi", "--wide")):
        last = str(len(typed.split()) - 1)
        done = call(program, tmp_path, _SERSEARCH_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=last)
        assert done.stdout.split() == [completed]


def test_the_demo_runs_from_the_wheel(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")
    done = call(program, tmp_path, "demo")
    assert done.returncode == 0, done.stderr
    assert "Leaderboard" in done.stdout
    assert (tmp_path / "demo" / "run" / "report" / "report.html").is_file()

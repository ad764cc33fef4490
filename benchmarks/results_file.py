"""Results of a benchmark as JSON: its figures under a header that says on what and with what they were measured."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Packages whose version can change a time or a figure, the rivals' included; those that are not installed are left out.
PACKAGES = (
    "sersearch",
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "pyarrow",
    "ray",
    "optuna",
    "keras",
    "datasets",
    "webdataset",
    "lhotse",
)


def write_results(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures under a header to a JSON file, and make its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"header": header(), **figures}, indent=1) + "\n")


def header() -> dict[str, Any]:
    """Describe this machine and this moment.

    Returns:
        `processor` (its name), `cores` (that this process may use), `commit` (None outside a git checkout; it ends with
        "-dirty" if files differ from the commit), `date` (ISO 8601, UTC) and `versions` (of Python and of `PACKAGES`).
    """
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def processor() -> str:
    """Name the processor; Linux gives its name in /proc/cpuinfo only, and `platform` gives the architecture there."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Name the commit of this checkout, or None if there is no checkout or no git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Give the versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

"""The files that come with the package: the paper's studies and spaces, and the templates for clusters.

In a checkout they lie at the top, beside `sersearch/`; a wheel holds them in `sersearch/shipped/` (pyproject.toml).
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from sersearch.errors import InputError, unknown

_PACKAGE = Path(__file__).parent


def shipped_folder(name: str) -> Path:
    """The folder `search_spaces` or `cluster`, as it was shipped."""
    installed = _PACKAGE / "shipped" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def shipped_space(name: str) -> Path | None:
    """The file of a space that comes with the package; None where there is none of this name."""
    return _files(studies=False).get(name)


def shipped_spaces() -> tuple[str, ...]:
    """Names of the spaces that come with the package, sorted."""
    return tuple(_files(studies=False))


def shipped_studies() -> tuple[str, ...]:
    """Names of the studies that come with the package, sorted."""
    return tuple(_files(studies=True))


def find_study(given: Path) -> Path:
    """The file of a study: a path, or the name of a study that comes with the package.

    Args:
        given: a file, or a bare name such as `table-4`. A file of that name wins.

    Raises:
        InputError: there is no such file, and no study of that name.
    """
    if given.is_file():
        return given
    if given.is_dir():
        raise InputError(f"{given}: is a folder; name a study's file, or one of {', '.join(shipped_studies())}")
    studies = _files(studies=True)
    name = str(given)
    if name in studies:
        return studies[name]
    if given.suffix or given.parent != Path():
        raise InputError(
            f"{given}: no such file; name a study's file, or a study that comes with sersearch: {', '.join(studies)}"
        )
    raise InputError(f"{given}: no such file, and {unknown(name, studies, 'study name')}")


def _files(studies: bool) -> dict[str, Path]:
    """Shipped studies or spaces by name; what names `spaces` is a study."""
    files = sorted(shipped_folder("search_spaces").glob("*.toml"))
    return {file.stem: file for file in files if ("spaces" in tomllib.loads(file.read_text("utf-8"))) is studies}

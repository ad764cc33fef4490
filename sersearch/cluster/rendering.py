"""Render the templates for clusters, which lie in the folder `cluster` that comes with the package."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sersearch.cluster.settings import Settings
from sersearch.shipped import shipped_folder


def render(settings: Settings) -> str:
    """Render the file for a kind of cluster.

    A template writes each value through a filter: `sh` quotes it for a shell, `yaml` for YAML. Values that need no
    quotes, such as names of clusters and numbers, are written as they are.
    """
    environment = Environment(
        loader=FileSystemLoader(shipped_folder("cluster")),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"sh": _quote_for_shell, "yaml": _quote_for_yaml}
    return environment.get_template(f"{settings.template}.jinja").render(
        settings=settings, ray_version=version("ray"), search_command=search_command
    )


def search_command(settings: Settings, *more: str) -> str:
    """The command that starts or continues a search on a running cluster, quoted for a shell."""
    paths = {name: getattr(settings, name) for name in ("study", "store", "run")}
    command = ("sersearch", "search", paths["study"], "--store", paths["store"], "--run", paths["run"])
    return shlex.join([*command, "--address", "auto", *more])


def _quote_for_shell(value: object) -> str:
    """Quote a value as one word of a shell, or several values as several words."""
    return shlex.join(value) if isinstance(value, tuple) else shlex.quote(str(value))


def _quote_for_yaml(value: object) -> str:
    """Write a value as JSON, which YAML includes."""
    return json.dumps(value, ensure_ascii=False)

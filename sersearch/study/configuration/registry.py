"""The union of all configurations, discriminated by `model`: the paper's, SVMs, and those of a user's own file.

A system of one's own is a Python file that defines a subclass of `Configuration` and the class that trains it. A study
names it in `systems = ["tiny.py"]`; the record of a run names it too, so that workers and reports load it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from sersearch.errors import InputError, unknown
from sersearch.study.configuration.base import Configuration
from sersearch.study.configuration.network import NetworkConfiguration
from sersearch.study.configuration.svm import SVMConfiguration

_CLASSES: list[type[Configuration]] = [NetworkConfiguration, SVMConfiguration]


def parse_configuration(values: Mapping[str, Any]) -> Configuration:
    """The configuration of a record or a table of values.

    Raises:
        ValidationError: a value is missing, unknown, or not as it should be.
    """
    configuration: Configuration = _union().validate_python(dict(values))
    return configuration


@cache
def _union() -> TypeAdapter[Any]:
    union: Any = reduce(or_, _CLASSES)
    return TypeAdapter(Annotated[union, Field(discriminator="model")])


def known_models() -> dict[str, type[Configuration]]:
    """The class that configures each model, by the model's name."""
    return {model: kind for kind in _CLASSES for model in kind.models()}


def model_class(model: object) -> type[Configuration]:
    """The class that configures a model.

    Raises:
        ValueError: no such model; the message names the nearest one.
    """
    classes = known_models()
    if str(model) not in classes:
        raise ValueError(f"model: {model!r} was given: {unknown(str(model), classes, 'model')}")
    return classes[str(model)]


def load_systems(files: Iterable[str]) -> None:
    """Load the systems of a user's own files; files of the same content are loaded once per process.

    Raises:
        InputError: a file is missing, can't be imported, or defines no configuration.
    """
    for name in files:
        file = Path(name)
        if file.suffix != ".py" or not file.is_file():
            raise InputError(f"{file}: is no Python file; name one that defines a Configuration, as in systems = [...]")
        content = file.read_bytes()
        if content not in _LOADED:
            _load(file)
            _LOADED.add(content)


_LOADED: set[bytes] = set()


def _load(file: Path) -> None:
    name = f"sersearch_systems_{file.stem}"
    known = set(_CLASSES)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # `Configuration.system` names the class that trains by this module's name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file}: can't be imported ({type(error).__name__}: {error}); correct the file") from error
    defined = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Configuration)]
    own = [kind for kind in defined if kind.__module__ == name and kind not in known]
    if not own:
        raise InputError(f"{file}: defines no subclass of sersearch.study.configuration.Configuration; add one")
    taken = [model for kind in own for model in kind.models() if model in known_models()]
    if taken:
        raise InputError(f"{file}: the model {taken[0]} exists already; give yours another name")
    _CLASSES.extend(own)
    _union.cache_clear()

"""The examples in docstrings give what they show."""

import doctest
import importlib
import pkgutil
from types import FunctionType

import pytest

import sersearch
import sersearch.statistics

MODULES = [module.name for module in pkgutil.walk_packages(sersearch.__path__, "sersearch.")]
STATISTICS = [module.name for module in pkgutil.iter_modules(sersearch.statistics.__path__, "sersearch.statistics.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_are_right(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", STATISTICS)
def test_each_function_of_the_statistics_has_an_example(name: str) -> None:
    module = importlib.import_module(name)
    functions = [
        member
        for member in vars(module).values()
        if isinstance(member, FunctionType) and member.__module__ == name and not member.__name__.startswith("_")
    ]
    # Checks return nothing that an example could show.
    shown = [function for function in functions if not function.__name__.startswith("check_")]
    assert shown
    assert [function.__name__ for function in shown if ">>>" not in (function.__doc__ or "")] == []

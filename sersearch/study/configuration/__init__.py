"""Configurations: everything that decides how one system is built and trained, seed, fold and data aside.

A configuration is plain data with its arithmetic: shapes, parameters, cost, name. It imports no torch, so that a study
can be planned before anything heavy is imported. The class that trains it is named by `Configuration.system` and
follows `sersearch.training.system.System`.
"""

from sersearch.study.configuration.base import Configuration, Value
from sersearch.study.configuration.network import NetworkConfiguration
from sersearch.study.configuration.registry import known_models, load_systems, model_class, parse_configuration
from sersearch.study.configuration.shapes import Layer, Modules, Shapes
from sersearch.study.configuration.svm import SVMConfiguration

__all__ = [
    "Configuration",
    "Layer",
    "Modules",
    "NetworkConfiguration",
    "SVMConfiguration",
    "Shapes",
    "Value",
    "known_models",
    "load_systems",
    "model_class",
    "parse_configuration",
]

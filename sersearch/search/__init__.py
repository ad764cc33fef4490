"""Searching: Ray Tune decides where and when, Optuna suggests. This package alone imports either."""

from sersearch.search.tune import Watcher, search

__all__ = ["Watcher", "search"]

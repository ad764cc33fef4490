"""Searching: Ray Tune decides where and when, Optuna suggests. This package alone imports either."""

from sersearch.search.tune import Outcome, Watcher, search

__all__ = ["Outcome", "Watcher", "search"]

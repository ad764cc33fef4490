"""Search: Ray Tune decides where and when a trial is trained, Optuna suggests configurations.

Only this package imports either.
"""

from sersearch.search.tune import search
from sersearch.search.watcher import Watcher

__all__ = ["Watcher", "search"]

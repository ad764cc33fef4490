"""Architecture search for speech emotion recognition.

    import sersearch

    run = sersearch.open_run("runs/mine")
    run.leaderboard()

docs/python.md shows what there is. Nothing heavy is imported until it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sersearch.api import OpenedRun, open_model, open_run, run_trial

__all__ = ["OpenedRun", "open_model", "open_run", "run_trial"]


def __getattr__(name: str) -> object:
    """What `sersearch.api` offers, imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sersearch import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """Names for completion."""
    return sorted({*globals(), *__all__})

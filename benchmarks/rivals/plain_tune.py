"""A plain search with Ray Tune and its OptunaSearch, without training."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch


def search(
    grid: dict[str, list[Any]],
    table: Callable[[Mapping[str, Any]], float],
    trials: int,
    at_a_time: int,
    folder: Path,
    limit_s: float,
    ended: Callable[[], None],
) -> list[tuple[dict[str, Any], float]]:
    """Let Optuna's TPE suggest points of a grid, and look up the UA of each.

    Args:
        grid: the values of each parameter.
        table: gives the UA of a point, in place of training.
        trials: number of trials.
        at_a_time: number of trials that run at the same time.
        folder: where Ray keeps the results.
        limit_s: seconds after which the search ends.
        ended: called in the driver after each trial.

    Returns:
        Each point with its UA.
    """

    class Trainable(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._point = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            return {"ua": table(self._point), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "weights").write_bytes(b"nothing")

    class Ended(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ended()

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    results = tune.Tuner(
        tune.with_resources(Trainable, {"cpu": (os.cpu_count() or 1) / at_a_time}),
        param_space={name: tune.choice(values) for name, values in grid.items()},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(seed=0),
            metric="ua",
            mode="max",
            num_samples=trials,
            reuse_actors=True,
            time_budget_s=limit_s,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[Ended()]),
    ).fit()
    ray.shutdown()
    return [(result.config, result.metrics["ua"]) for result in results if result.metrics and "ua" in result.metrics]

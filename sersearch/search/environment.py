"""Settings of Ray Tune and Optuna that a search needs, set where it starts and not where the package is imported.

Ray Tune 2.60 offers these settings as environment variables only. It reads each of them in the driver's process, inside
`Tuner.fit`, so it is early enough to set them at the start of a search. Workers and clusters need none of them.

Two variables that look relevant are not set, because Ray 2.60 does what a search needs without them: a cluster that
`ray.init` starts sends no usage statistics (RAY_USAGE_STATS_ENABLED), and a worker without a GPU keeps its
CUDA_VISIBLE_DEVICES (RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO).
"""

import os

import optuna

RAY_TUNE_VARIABLES = {
    # Ray would write CSV, JSON and TensorBoard files for each trial. The ledger holds the results already.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ray would end all workers at once on Ctrl-C. The search lets running trials write checkpoints.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray's newer style prints a table and its scratch folder even with verbose=0. The older one prints nothing.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ray would queue only one trial of a custom searcher. A worker is reused if a trial is waiting when it becomes
    # free; otherwise it is ended, and starting another takes 2 s. `sersearch.search.scheduler` lets more wait on a
    # larger cluster.
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    # Ray would have a worker report each step at once, thousands per second on a large cluster. A report may wait for
    # a tenth of a second per running trial, at most half a minute, and then has all steps since the one before.
    "TUNE_RESULT_BUFFER_LENGTH": "1000",
    "TUNE_RESULT_BUFFER_MAX_TIME_S": "30",
    # Ray would write a snapshot of all trials since the start every ten seconds or more. No snapshot is ever restored.
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
}


def configure_ray_tune() -> None:
    """Set the environment variables that Ray Tune reads, except those that are set already."""
    for name, value in RAY_TUNE_VARIABLES.items():
        os.environ.setdefault(name, value)


def silence_optuna() -> None:
    """Let Optuna log errors only. It would log each trial to standard error, into the progress display."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

"""A program that shows the live view of a run with some trials in training until it is given a line of input."""

import sys
from pathlib import Path

from sersearch.run.ledger import Epoch
from sersearch.run.run import open_run
from sersearch.terminal.live import SearchProgress

run = open_run(Path(sys.argv[1]))
running = int(sys.argv[2])
results = run.ledger.results()
agenda = run.agenda(results)
with SearchProgress(agenda, results.values()) as progress:
    for trial in agenda.left[:running]:
        progress.started(trial)
    for trial in agenda.left[: running - 1]:
        if trial.configuration.step_limits[1] > 1:
            figures = Epoch(epoch=7, train_loss=1.1, validation_loss=1.234, ua_noisy=43.21, ua_clean=54.32, seconds=2.0)
            progress.epoch(trial.key, figures)
    sys.stdin.readline()

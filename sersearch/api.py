"""What `import sersearch` offers: runs as DataFrames and figures, exported models, and trials in a notebook.

Reading opens no test speaker, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from sersearch.errors import InputError, unknown
from sersearch.evaluation.leaderboard import Winner
from sersearch.evaluation.test_partition import read_predictions
from sersearch.report.facts import Facts
from sersearch.report.folder import read_report
from sersearch.report.text import arrow_table, fold_rows, trial_records
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run, check_parts, identify_store
from sersearch.run.run import open_run as _open_run
from sersearch.store.reader import open_store
from sersearch.study.agenda import Agenda
from sersearch.study.study import parse_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sersearch.deployment.prediction import Predicted

Library = Literal["pandas", "polars", "arrow"]


class OpenedRun:
    """A run, to look at. Each method reads the run again, so that a search that goes on is seen.

    Every table is a pandas DataFrame; `library` asks for a polars one, or for the Arrow table between.

    Attributes:
        run: the run itself, for what has no method here.
    """

    def __init__(self, run: Run) -> None:
        """Wrap a run; `open_run` opens one."""
        self.run = run

    def __repr__(self) -> str:
        """The folder and how far the search is."""
        board = self.facts().board
        return f"<sersearch run {self.run.path}: {board.done} of {board.total} trials are done>"

    def facts(self) -> Facts:
        """All that the report shows."""
        return read_report(self.run)

    def leaderboard(self, library: Library = "pandas") -> Any:
        """The rows of `leaderboard.csv`, one per winner; test figures are empty until `sersearch report` has tested."""
        facts = self.facts()
        return _frame((facts.values(row) for row in facts.rows), library)

    def trials(self, library: Library = "pandas") -> Any:
        """The rows of `trials.parquet`, one per trial with a result: configuration and validation figures."""
        return _frame(trial_records(self.facts()), library)

    def folds(self, library: Library = "pandas") -> Any:
        """The rows of `folds.csv`, one per fold and seed of each winner."""
        return _frame(fold_rows(self.facts()), library)

    def epochs(self, library: Library = "pandas") -> Any:
        """Losses and UAs of every epoch of every trial with a result."""
        rows = [
            {"key": key, **epoch.model_dump()}
            for key, result in self.run.ledger.results().items()
            for epoch in result.epochs
        ]
        return _frame(rows, library)

    def predictions(self, library: Library = "pandas") -> Any:
        """The test predictions of all winners that were tested: labels, predicted emotion, scores of each emotion."""
        facts = self.facts()
        winners = {(w.key, w.condition): w for w in (*facts.board.winners, *facts.board.baselines) if w.predictions}
        tables = [table for winner in winners.values() for table in _predictions(self.run, winner)]
        return _convert(pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({}), library)

    def figures(self) -> dict[str, Figure]:
        """The report's figures by name, as matplotlib's objects; a notebook shows the one that a cell ends with."""
        from sersearch.report.figures import draw

        return dict(draw(self.facts()))

    def export(self, key: str, folder: str | Path, *, onnx: bool = False) -> ExportedModel:
        """Write a trial's model to a folder, as `sersearch export` does, and open it."""
        from sersearch.deployment.export import export_model

        export_model(self.run, key, Path(folder), onnx)
        return open_model(folder)


def open_run(path: str | Path, store: str | Path | None = None) -> OpenedRun:
    """Open a run.

    Args:
        path: its folder.
        store: where the store is now, if it was moved.

    Raises:
        InputError: it is no run, or its record is damaged.

    Example:
        sersearch.open_run("runs/mine").leaderboard()
    """
    return OpenedRun(_open_run(Path(path), Path(store) if store else None))


class ExportedModel:
    """A model that `sersearch export` wrote."""

    def __init__(self, folder: Path) -> None:
        """Open a folder; see `open_model`."""
        from sersearch.deployment.classifier import read_model_record

        self.folder = folder
        self.record = read_model_record(folder)

    def __repr__(self) -> str:
        """The folder and what the model is."""
        return f"<sersearch model {self.folder}: {self.record.configuration.description}>"

    def predict(
        self, files: str | Path | Iterable[str | Path], library: Library = "pandas", *, workers: int | None = 1
    ) -> Any:
        """Predict audio files, as `sersearch predict` does.

        Args:
            files: files, or one folder of them, or one file.
            library: of the table.
            workers: processes; None for one per core.

        Returns:
            One row per file: path, emotion, a score of each emotion, and the problem of a file that can't be used.
        """
        from sersearch.deployment.prediction import predict_files
        from sersearch.speech.audio import audio_files

        if isinstance(files, str | Path):
            named = Path(files)
            paths = audio_files(named) if named.is_dir() else [named]
        else:
            paths = [Path(file) for file in files]
        return _frame(map(self._row, predict_files(self.folder, paths, workers)), library)

    def _row(self, predicted: Predicted) -> dict[str, Any]:
        emotions = self.record.emotions
        scores = predicted.scores or (None,) * len(emotions)
        named = {f"{self.record.score}_{emotion}": score for emotion, score in zip(emotions, scores, strict=True)}
        return {
            "path": str(predicted.path),
            "emotion": predicted.emotion or None,
            **named,
            "problem": predicted.problem or None,
        }


def open_model(folder: str | Path) -> ExportedModel:
    """Open an exported model.

    Raises:
        InputError: the folder holds none.
    """
    return ExportedModel(Path(folder))


def run_trial(
    store: str | Path,
    model: str,
    *,
    partition: Mapping[str, Any] | None = None,
    report: Callable[[Epoch], object] | None = None,
    **settings: Any,
) -> Result:
    """Train one trial in this process, without Ray and without a run; test speakers stay sealed.

    The same settings have the same key, and so the same bits, as in a study.

    Args:
        store: the store's folder.
        model: such as "T-CLDNN".
        partition: as the table [partition] of a study; 70:10:20 by speaker unless given. Of several folds, the first.
        report: called with each epoch's figures.
        **settings: of the configuration: kernels, features, and all that [features] and [training] may hold.

    Returns:
        The result: `result.ua("noisy")`, `result.epochs`, `result.confusion`.

    Raises:
        InputError: a setting or the store is wrong.

    Example:
        sersearch.run_trial("stores/mine", "T-CLDNN", w1=3, w2=2, epochs=3)
    """
    from sersearch.training.system import run_trial as train
    from sersearch.training.system import system_class

    opened = open_store(Path(store))
    study = parse_study(
        {
            "name": "notebook",
            "spaces": [{"name": "notebook", "model": model, **settings}],
            **({"partition": dict(partition)} if partition else {}),
        },
        "run_trial",
    )
    identity = identify_store(opened, study)
    check_parts(opened, study)
    agenda = Agenda(study, identity, {})
    configurations = {trial.configuration for trial in agenda.left}
    if len(configurations) != 1:
        reason = "can't be built" if not configurations else f"are {len(configurations)} configurations"
        raise InputError(f"run_trial trains one configuration, and these settings {reason}: give one value for each")
    trial = agenda.left[0].sealed
    return train(trial, system_class(trial.configuration).open_data(opened, trial), report)


def _predictions(run: Run, winner: Winner) -> Iterable[pa.Table]:
    """A winner's predictions, each with the trial that it is of."""
    tables = read_predictions(run, winner)
    for (result, fold), table in zip(winner.trials, tables, strict=True):
        named = {"key": result.trial.key, "condition": winner.condition, "seed": result.trial.seed, "fold": fold.name}
        for place, (name, value) in enumerate(named.items()):
            table = table.add_column(place, name, pa.array([value] * len(table)))
        yield table


def _frame(rows: Iterable[Mapping[str, Any]], library: Library) -> Any:
    return _convert(arrow_table(rows), library)


def _convert(table: pa.Table, library: Library) -> Any:
    match library:
        case "pandas":
            return table.to_pandas()
        case "arrow":
            return table
        case "polars":
            try:
                import polars
            except ImportError:
                raise InputError("library = polars: polars is not installed: run pip install polars") from None
            return polars.from_arrow(table)
    raise InputError(f"library = {library}: {unknown(str(library), ('pandas', 'polars', 'arrow'), 'library')}")

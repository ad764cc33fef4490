"""Commands from a winner to its use: export, predict."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sersearch.terminal.arguments import RunFolder, StoreOption
from sersearch.terminal.screen import say, say_on_stderr

if TYPE_CHECKING:
    from sersearch.deployment.classifier import ModelRecord
    from sersearch.deployment.prediction import Predicted


class RowFormat(StrEnum):
    """How rows are printed that appear one after the other."""

    csv = "csv"
    json = "json"


def export_trial(
    run: RunFolder,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The trial's key, or its first characters.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the model is written.")],
    store: StoreOption = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too, for other programs.")] = False,
) -> None:
    """Write a trained model to a folder: weights, configuration, and a card that says how it was tested.

    Example: [bold]sersearch export runs/smoke 190c615aedf03d54 models/smoke[/bold]
    """
    from sersearch.deployment.export import export_model
    from sersearch.run.run import open_run

    record = export_model(open_run(run, store), key, folder, onnx)
    if not record.provenance.test:
        say_on_stderr(f"note: {record.provenance.key} was not tested, so its card has validation figures alone")
    say(f"{folder}: {record.configuration.description}; see {folder / 'README.md'}, try `sersearch predict {folder}`")


def predict_audio(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="An exported model.")],
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO", help="Audio files, or folders of them.")],
    format: Annotated[RowFormat, typer.Option("--format", help="csv, or json: one object per line.")] = RowFormat.csv,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Predict the emotion of audio files, a row per file as soon as it is done.

    A file that can't be used is named with the reason, in its row and on standard error, and the others go on; the exit
    code is then 1.

    Example: [bold]sersearch predict models/smoke recordings/ > emotions.csv[/bold]
    """
    from sersearch.deployment.classifier import read_model_record
    from sersearch.deployment.prediction import predict_files

    record = read_model_record(model)
    files = _list_files(audio)
    for note in _notes(record, files):
        say_on_stderr(f"note: {note}")
    if format is RowFormat.csv:
        scores = [f"{record.score}_{emotion}" for emotion in record.emotions]
        say(_csv_line(["path", "emotion", *scores, "problem"]))
    failed = 0
    for predicted in predict_files(model, files, workers):
        line = _csv_row(record, predicted) if format is RowFormat.csv else _json_row(record, predicted)
        say(line, flush=True)
        if predicted.problem:
            failed += 1
            say_on_stderr(f"{predicted.path}: {predicted.problem}")
    if failed:
        say_on_stderr(f"{failed} of {len(files)} files could not be predicted")
        raise typer.Exit(1)


def _list_files(audio: Sequence[Path]) -> list[Path]:
    """The files that were named, and those in the folders that were named, each once."""
    from sersearch.speech.audio import describe_ignored, is_folder, list_audio, no_audio

    files: dict[Path, None] = {}
    for path in audio:
        if not is_folder(path):
            files[path] = None
            continue
        listing = list_audio(path)
        if not listing.files:
            raise no_audio(path, listing.ignored)
        if listing.ignored:
            say_on_stderr(f"note: {path}: not read: {describe_ignored(listing.ignored)}")
        files |= dict.fromkeys(listing.files)
    return list(files)


def _notes(record: ModelRecord, files: Sequence[Path]) -> Iterator[str]:
    from sersearch.deployment.prediction import files_by_folder

    if record.score == "decision":
        yield "the scores are decision values, which order the emotions and are no probabilities"
    if record.configuration.knows_speakers:
        folders = files_by_folder(files)
        yield (f"the model is normalised by speaker: {len(folders)} folders are taken as one speaker each")
        alone = [folder for folder, inside in folders.items() if len(inside) == 1]
        if alone:
            others = f" and {len(alone) - 1} others" if len(alone) > 1 else ""
            yield f"{alone[0]}{others}: one file alone, normalised by itself, is not what the model was tested on"


def _csv_row(record: ModelRecord, predicted: Predicted) -> str:
    scores = predicted.scores or (None,) * len(record.emotions)
    cells = ["" if score is None else _digits(score) for score in scores]
    return _csv_line([str(predicted.path), predicted.emotion, *cells, predicted.problem])


def _csv_line(cells: Sequence[str]) -> str:
    from sersearch.report.text import csv_cell

    line = io.StringIO()
    # Numbers are written as they are: a minus sign is no formula.
    safe = [cell if _is_number(cell) else csv_cell(cell) for cell in cells]
    csv.writer(line, lineterminator="").writerow(safe)
    return line.getvalue()


def _json_row(record: ModelRecord, predicted: Predicted) -> str:
    facts: dict[str, object] = {"path": str(predicted.path)}
    if predicted.problem:
        facts["problem"] = predicted.problem
    else:
        kind = "probabilities" if record.score == "probability" else "decision_values"
        scores = [None if score is None else float(_digits(score)) for score in predicted.scores]
        facts |= {"emotion": predicted.emotion, kind: dict(zip(record.emotions, scores, strict=True))}
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(facts, ensure_ascii=not is_unicode)


def _digits(score: float) -> str:
    """A score in as many digits as float32 needs to be read back to the same bits."""
    return f"{score:.9g}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

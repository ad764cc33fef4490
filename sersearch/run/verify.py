"""The check of a run, file by file: hashes, UA by the counts, keys by content and folder, the plan by the ledger.

What it can't find is in docs/record.md: somebody who changes a record and computes its hash again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from sersearch.errors import InputError
from sersearch.run.ledger import (
    ATTEMPT,
    CHECKPOINT,
    EPOCHS,
    FAILURE,
    FORGIVEN,
    SET_ASIDE,
    TRIAL,
    WEIGHTS,
    Begun,
    Epoch,
    Failure,
    Ledger,
    Result,
    result_name,
)
from sersearch.run.records import Kind, read_record, unseal_bytes
from sersearch.run.run import Run
from sersearch.run.suggestions import SLOTS, Slots
from sersearch.study.agenda import Agenda
from sersearch.study.trial import Trial

FAULTS = ("missing", "damaged", "changed")
"""The kinds of findings that are faults."""

UNFINISHED = "unfinished"
NEVER_BEGUN = "never begun"

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or that a reader of the run should know.

    Attributes:
        kind: "unfinished" (planned, no result yet), "missing" (a file that is gone), "damaged" (a file that is not what
            was written), "changed" (a result that is not the one that it was when the test speakers were opened),
            "extra" (a result that the study does not name), "repeated" (more than one attempt: a worker, node or
            search was lost), "set aside" (a damaged checkpoint that was not used), or "outdated" (suggestions whose
            grounds are no longer on record).
        key: the trial's.
        file: the object, or the trial's folder.
        text: what is wrong, and what to do.
    """

    kind: str
    key: str
    file: str
    text: str


def verify(run: Run, planned: Collection[str]) -> list[Finding]:
    """Check every trial of a run against the plan, reading every byte.

    An extra result is kept but not ranked, and repeated attempts are how a run outlives losses: neither is a fault.

    Args:
        run: an opened run.
        planned: keys of the study's trials.
    """
    ledger = run.ledger
    begun = list(ledger.keys())
    findings = [Finding(UNFINISHED, key, f"trials/{key}", NEVER_BEGUN) for key in planned if key not in begun]
    for key in begun:
        findings += _check_trial(ledger, key, key in planned)
    return findings


def verify_draws(run: Run, agenda: Agenda) -> Iterator[Finding]:
    """Check that the outcomes from which each suggestion was drawn are on record; its own record was checked when read.

    They are missing where a result was deleted or a failure forgiven: no fault, because a search that is resumed trains
    the trial and draws again whatever follows from another outcome.

    Args:
        run: an opened run.
        agenda: of the run.
    """
    yield from _check_record(run.ledger, "", SLOTS, Slots)
    suggestions = run.suggestions()
    for space in run.study.spaces:
        sources = agenda.source_names(space) if run.study.samples(space) else ()
        for fold, source in enumerate(sources):
            drawn = suggestions.drawn[source]
            known = max(0, len(drawn) - suggestions.windows.get(space.name, 0))
            for number, configuration in enumerate(drawn[:known]):
                if agenda.outcome(configuration, fold) is None:
                    key = agenda.trials_of(configuration, fold)[0].key
                    text = f"{source}: what follows suggestion {number} was drawn from its outcome, which is not there"
                    yield Finding("outdated", key, f"trials/{key}", f"{text}: `sersearch resume` draws again")
                    break


def _check_trial(ledger: Ledger, key: str, is_planned: bool) -> Iterator[Finding]:
    name = result_name(key)
    result = None
    try:
        result = ledger.result(key)
    except InputError as error:
        yield Finding("damaged", key, name, _without_place(ledger, name, error))
    else:
        if result is None and is_planned:
            yield Finding(UNFINISHED, key, name, ledger.failure(key) or "begun, not finished")
        elif result is not None and not is_planned:
            yield Finding("extra", key, name, "not in the study as it stands: kept, not ranked")
    if result is not None:
        yield from _check_result(ledger, key, result)
    yield from _check_record(ledger, key, f"trials/{key}/{TRIAL}", Trial, lambda trial: trial.key == key)
    for number in ledger.attempt_numbers(key):
        yield from _check_attempt(ledger, key, f"attempt-{number:03}", result)
    attempts = ledger.attempts(key)
    if attempts > 1:
        text = f"{attempts} attempts, one result" if result else f"{attempts} attempts"
        yield Finding("repeated", key, f"trials/{key}", text)


def _check_result(ledger: Ledger, key: str, result: Result) -> Iterator[Finding]:
    name = result_name(key)
    remedy = "restore it, or delete it to train the trial again"
    if fault := _counts_fault(result) or _ua_fault(result):
        yield Finding("damaged", key, name, f"{fault}: {remedy}")
    weights = f"trials/{key}/{result.weights}"
    try:
        ledger.weights(result)
    except InputError as error:
        kind = "damaged" if ledger.storage.exists(weights) else "missing"
        yield Finding(kind, key, weights, _without_place(ledger, weights, error))


def _counts_fault(result: Result) -> str:
    """Whether a result counts speakers who are not of its fold."""
    counted = {speaker for counts in result.confusion.values() for speaker in counts}
    strangers = sorted(counted - set(result.trial.fold.learnt))
    return f"it has counts of {strangers[0]}, who is no speaker of its fold" if strangers else ""


def _ua_fault(result: Result) -> str:
    """Whether the UA of the kept epoch is that of the counts."""
    best = result.best_epoch
    if best is None:
        return ""
    for condition in result.conditions:
        stated, counted = best.ua(condition), result.ua(condition)
        if not np.isclose(stated, counted, rtol=0, atol=_TOLERANCE):
            return f"it says {stated:.2f} % validation UA ({condition}), and its counts give {counted:.2f} %"
    return ""


def _check_attempt(ledger: Ledger, key: str, attempt: str, result: Result | None) -> Iterator[Finding]:
    folder = f"trials/{key}/{attempt}"
    yield from _check_record(ledger, key, f"{folder}/{ATTEMPT}", Begun)
    yield from _check_record(ledger, key, f"{folder}/{FAILURE}", Failure)
    yield from _check_record(ledger, key, f"{folder}/{FORGIVEN}", Failure)
    is_results = result is not None and result.weights == f"{attempt}/{WEIGHTS}"
    yield from _check_epochs(ledger, key, f"{folder}/{EPOCHS}", result if is_results else None)
    sealed = ledger.storage.get(f"{folder}/{CHECKPOINT}")
    if sealed is not None and unseal_bytes(sealed) is None:
        text = "not what was written: it is set aside when the trial is resumed, and the one before it is used"
        yield Finding("damaged", key, f"{folder}/{CHECKPOINT}", text)
    if ledger.storage.exists(f"{folder}/{SET_ASIDE}"):
        text = "a checkpoint that was damaged, and not used; delete it when you have seen it"
        yield Finding("set aside", key, f"{folder}/{SET_ASIDE}", text)


def _check_epochs(ledger: Ledger, key: str, name: str, result: Result | None) -> Iterator[Finding]:
    """Check the figures for people: lines of epochs, those of the result where the attempt made it."""
    content = ledger.storage.get(name)
    if content is None:
        return
    try:
        epochs = tuple(Epoch.model_validate_json(line) for line in content.splitlines())
        is_right = result is None or epochs == result.epochs
    except (ValidationError, RecursionError):
        is_right = False
    if not is_right:
        kept = "the result holds the same figures" if result else "the next epoch writes it again"
        yield Finding("damaged", key, name, f"not the epochs that were trained: delete it, {kept}")


def _check_record(
    ledger: Ledger, key: str, name: str, kind: type[Kind], is_right: Callable[[Kind], bool] = lambda _: True
) -> Iterator[Finding]:
    """Check a record that no figure depends on."""
    remedy = "delete it, no figure depends on it"
    if kind is Failure:
        remedy = "delete it, and a trial without a result is tried again"
    try:
        record = read_record(ledger.storage, name, kind, remedy)
    except InputError as error:
        yield Finding("damaged", key, name, _without_place(ledger, name, error))
        return
    if record is not None and not is_right(record):
        yield Finding("damaged", key, name, f"of another trial: {remedy}")


def _without_place(ledger: Ledger, name: str, error: InputError) -> str:
    """An error's words without the place, which the finding names."""
    return str(error).removeprefix(f"{ledger.storage.locate(name)} ").removeprefix("is ")

"""The check of what was computed with winners: openings, predictions, representations and findings, file by file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sersearch.errors import InputError
from sersearch.evaluation.exposure import DESIGNS, read_design
from sersearch.evaluation.leaderboard import record_name
from sersearch.evaluation.probe.findings import check_findings
from sersearch.evaluation.test_partition import (
    LEDGERS,
    OPENINGS,
    TESTS,
    Command,
    Computed,
    Opening,
    check_computed,
    read_ledger_state,
)
from sersearch.run.ledger import Result
from sersearch.run.records import read_record
from sersearch.run.run import Run
from sersearch.run.verify import Finding
from sersearch.study.conditions import CONDITIONS

PROBES = "probe/"


def verify_computed(run: Run, results: Mapping[str, Result]) -> list[Finding]:
    """Check everything that `report` and `probe` computed with test speakers, reading every byte.

    Args:
        run: an opened run.
        results: those that are not damaged.
    """
    return [
        *_check_openings(run, results),
        *_check_ledgers(run, results),
        *_check_designs(run),
        *_check_objects(run, results, TESTS, "report"),
        *_check_objects(run, results, PROBES, "probe"),
        *_check_findings(run),
    ]


def _check_openings(run: Run, results: Mapping[str, Result]) -> Iterator[Finding]:
    for file in run.storage.list(OPENINGS):
        name = f"{OPENINGS}{file}"
        try:
            opening = read_record(run.storage, name, Opening, "restore it")
        except InputError as error:
            yield _damaged(run, name, error)
            continue
        if opening is None:
            continue
        if file != f"{opening.key}-{opening.condition}-{opening.by}-{opening.figures[:8]}.json":
            yield Finding("damaged", opening.key, name, "the opening of another winner: restore it")
        elif opening.key in results and results[opening.key].figures_digest != opening.figures:
            text = f"its result is not the one that the test speakers were opened for on {opening.opened}"
            yield Finding("changed", opening.key, name, text)
        elif not run.storage.exists(f"{LEDGERS}{opening.ledger}.json"):
            again = f"`sersearch report {run.path}` writes it again if no result was changed since"
            text = f"names {LEDGERS}{opening.ledger}.json, which is missing: {again}"
            yield Finding("missing", opening.key, name, text)


def _check_ledgers(run: Run, results: Mapping[str, Result]) -> Iterator[Finding]:
    changed: dict[str, str] = {}
    for file in run.storage.list(LEDGERS):
        try:
            state = read_ledger_state(run, file)
        except InputError as error:
            yield _damaged(run, f"{LEDGERS}{file}", error)
            continue
        for key, figures in state.items():
            if key in results and results[key].figures_digest != figures:
                changed[key] = file
    for key, file in sorted(changed.items()):
        text = "not the result that there was when test speakers were opened: restore it, or search in a new run"
        yield Finding("changed", key, f"trials/{key}/result.json", f"{text} ({LEDGERS}{file})")


def _check_designs(run: Run) -> Iterator[Finding]:
    for file in run.storage.list(DESIGNS):
        try:
            read_design(run, file)
        except InputError as error:
            yield _damaged(run, f"{DESIGNS}{file}", error)


def _check_objects(run: Run, results: Mapping[str, Result], folder: str, by: Command) -> Iterator[Finding]:
    """Check large objects and their records; one without a record is what a lost process left."""
    for file in run.storage.list(folder):
        name = f"{folder}{file.removesuffix('.json')}.parquet"
        key, _, condition = file.removesuffix(".json").partition("-")
        if not file.endswith(".json") or condition not in CONDITIONS or key == "probe":
            continue
        try:
            if key in results:
                check_computed(run, name, results[key], next(c for c in CONDITIONS if c == condition), by)
            else:
                read_record(run.storage, record_name(name), Computed, "delete it")
        except InputError as error:
            yield _damaged(run, name, error, key)


def _check_findings(run: Run) -> Iterator[Finding]:
    for condition in CONDITIONS:
        try:
            check_findings(run, condition)
        except InputError as error:
            yield _damaged(run, f"{PROBES}probe-{condition}.json", error)


def _damaged(run: Run, name: str, error: InputError, key: str = "") -> Finding:
    """An error as a finding; its words name the place, but for the folder of the run."""
    kind = "missing" if " is missing" in str(error) else "damaged"
    return Finding(kind, key, name, str(error).replace(run.storage.locate(""), ""))

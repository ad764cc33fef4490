"""How far a run is: the facts for machines, and the lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from sersearch.evaluation.verify import verify_computed
from sersearch.planning.forecast import seconds_left
from sersearch.planning.tasks import tasks
from sersearch.run.ledger import Result, ledger_digest
from sersearch.run.run import Run
from sersearch.run.verify import FAULTS, verify
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.terminal.live import clock, spent


def status_facts(run: Run, agenda: Agenda, results: Mapping[str, Result]) -> dict[str, Any]:
    """How far a run is, from its folder alone: its agenda and the results that this was made of."""
    ledger = run.ledger
    done = [results[key] for key in agenda.trials if key in results]
    begun = {key for key in ledger.keys() if key in agenda.trials and key not in results}  # noqa: SIM118
    failed = {key: error for key in sorted(begun) if (error := ledger.failure(key))}
    took = [spent(result) for result in done]
    left = agenda.upper_bound() - len(done)
    return {
        "run": str(run.path),
        "study": run.study.name,
        "total": agenda.upper_bound(),
        "done": len(done),
        "begun": sorted(begun - set(failed)),
        "failed": failed,
        "left": left,
        "complete": agenda.complete,
        "best": {condition: _best(done, condition) for condition in CONDITIONS},
        "device_seconds_left": seconds_left(took, {}, tasks(agenda)),
    }


def _best(done: list[Result], condition: Condition) -> dict[str, Any] | None:
    done = [result for result in done if condition in result.conditions]
    if not done:
        return None
    best = max(done, key=lambda result: result.ua(condition))
    name = best.trial.configuration.description
    return {"key": best.trial.key, "validation_ua": best.ua(condition), "model": name}


def print_status(facts: dict[str, Any], console: Console) -> None:
    """Status for people."""
    console.print(
        f"{facts['run']}: study {facts['study']}, {facts['done']} of {facts['total']} trials done, "
        f"{len(facts['begun'])} begun, {len(facts['failed'])} failed, {facts['left']} left",
        highlight=False,
        soft_wrap=True,
    )
    for condition, best in facts["best"].items():
        if best:
            console.print(
                f"best {condition}: {best['validation_ua']:.2f} % validation UA, {best['model']}, {best['key']}",
                highlight=False,
                soft_wrap=True,
            )
    if facts["left"] and facts["device_seconds_left"] is not None:
        console.print(f"about {clock(facts['device_seconds_left'])} of device time left", highlight=False)
    for key, error in facts["failed"].items():
        console.print(f"failed: {key}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
    if "findings" in facts:
        for finding in facts["findings"]:
            line = "{kind}: {file}: {text}".format_map(finding)
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        console.print(
            f"verified: {facts['faults']} faults; {facts['done']} of {facts['total']} results, whose digest is "
            f"{facts['digest']}",
            highlight=False,
            soft_wrap=True,
        )


def verified_facts(run: Run, agenda: Agenda, results: Mapping[str, Result]) -> dict[str, Any]:
    """What a check of every file found; faults are what is missing, damaged or changed.

    Args:
        run: an opened run.
        agenda: of the run.
        results: those that are not damaged.
    """
    findings = [*verify(run, agenda.trials), *verify_computed(run, results)]
    return {
        "findings": [vars(finding) for finding in findings],
        "faults": sum(finding.kind in FAULTS for finding in findings),
        "digest": ledger_digest({key: result for key, result in results.items() if key in agenda.trials}),
    }

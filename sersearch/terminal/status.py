"""How far a run is: the facts for machines, and the lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sersearch.evaluation.verify import verify_computed
from sersearch.planning.forecast import seconds_left
from sersearch.planning.tasks import tasks
from sersearch.report.cells import Sheet
from sersearch.run.ledger import Result, ledger_digest
from sersearch.run.run import Run
from sersearch.run.verify import FAULTS, NEVER_BEGUN, UNFINISHED, verify, verify_draws
from sersearch.study.agenda import Agenda
from sersearch.study.conditions import CONDITIONS, Condition
from sersearch.terminal.live import clock, spent, trial_name
from sersearch.terminal.screen import Screen
from sersearch.terminal.tables import print_sheets


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
        "spaces": [_space(agenda, space.name, results) for space in run.study.spaces],
        "best": {condition: _best(done, condition) for condition in CONDITIONS},
        "hosts": _hosts(done),
        "device_seconds_left": seconds_left(took, {}, tasks(agenda)),
    }


def _hosts(done: list[Result]) -> dict[str, int]:
    """How many trials each machine has finished, by its name."""
    return dict(sorted(Counter(result.host for result in done).items()))


def _best(done: list[Result], condition: Condition) -> dict[str, Any] | None:
    done = [result for result in done if condition in result.conditions]
    if not done:
        return None
    best = max(done, key=lambda result: result.ua(condition))
    return {"key": best.trial.key, "validation_ua": best.ua(condition), "model": trial_name(best.trial)}


def _space(agenda: Agenda, name: str, results: Mapping[str, Result]) -> dict[str, Any]:
    """How far one space is; its best UA is the highest validation UA of a trial, in per cent."""
    trials = agenda.spaces.get(name, [])
    done = [results[trial.key] for trial in trials if trial.key in results]
    uas = {condition: [r.ua(condition) for r in done if condition in r.conditions] for condition in CONDITIONS}
    return {
        "name": name,
        "trials": len(trials),
        "done": len(done),
        "best": {condition: max(found, default=None) for condition, found in uas.items()},
    }


def print_status(facts: dict[str, Any], console: Screen) -> None:
    """Status for people: tables on a terminal, Markdown where it is piped."""
    console.say(
        f"{facts['run']}: study {facts['study']}, {facts['done']} of {facts['total']} trials done, "
        f"{len(facts['begun'])} begun, {len(facts['failed'])} failed, {facts['left']} left",
    )
    if facts["left"] and facts["device_seconds_left"] is not None:
        console.say(f"about {clock(facts['device_seconds_left'])} of device time left")
    tables = [_spaces_table(facts), *([_best_table(facts)] if any(facts["best"].values()) else [])]
    if len(facts["hosts"]) > 1:
        tables.append(_hosts_table(facts))
    print_sheets(tables, console, "see all of it with --format json")
    for key, error in facts["failed"].items():
        console.say(f"failed: {key}: {error}", "red")
    if "findings" in facts:
        _print_findings(facts, console)


def _spaces_table(facts: dict[str, Any]) -> Sheet:
    rows = [
        (
            space["name"],
            f"{space['trials']}",
            f"{space['done']}",
            *(
                "–" if space["best"][condition] is None else f"{space['best'][condition]:.2f}"
                for condition in CONDITIONS
            ),
        )
        for space in facts["spaces"]
    ]
    headings = (f"best {condition} UA (%)" for condition in CONDITIONS)
    return Sheet(
        "spaces", "Spaces (validation UA of single trials)", ("space", "trials", "done", *headings), tuple(rows)
    )


def _best_table(facts: dict[str, Any]) -> Sheet:
    rows = [
        (condition, f"{best['validation_ua']:.2f}", best["model"], best["key"])
        for condition, best in facts["best"].items()
        if best
    ]
    return Sheet("best", "Best so far", ("condition", "validation UA (%)", "model", "trial"), tuple(rows))


def _hosts_table(facts: dict[str, Any]) -> Sheet:
    rows = tuple((host or "–", f"{done}") for host, done in facts["hosts"].items())
    return Sheet("machines", "Machines", ("machine", "trials done"), rows)


def _print_findings(facts: dict[str, Any], console: Screen) -> None:
    """What a check found; trials that have not begun are counted, because a run that was stopped has many."""
    for finding in facts["findings"]:
        if finding["text"] != NEVER_BEGUN:
            console.say("{kind}: {file}: {text}".format_map(finding))
    resume = f"; resume with `sersearch resume {facts['run']}`" if facts["unfinished"] else ""
    console.say(
        f"verified: {facts['done']} of {facts['total']} trials are done, {facts['unfinished']} unfinished, "
        f"{facts['faults']} faults; the digest of the results is {facts['digest']}{resume}"
    )


def verified_facts(run: Run, agenda: Agenda, results: Mapping[str, Result]) -> dict[str, Any]:
    """What a check of every file found; faults are what is missing, damaged or changed, not what is unfinished.

    Args:
        run: an opened run.
        agenda: of the run.
        results: those that are not damaged.
    """
    findings = [*verify(run, agenda.trials), *verify_draws(run, agenda), *verify_computed(run, results)]
    yet_to_come = agenda.upper_bound() - len(agenda.trials)
    return {
        "findings": [vars(finding) for finding in findings],
        "faults": sum(finding.kind in FAULTS for finding in findings),
        "unfinished": sum(finding.kind == UNFINISHED for finding in findings) + yet_to_come,
        "digest": ledger_digest({key: result for key, result in results.items() if key in agenda.trials}),
    }

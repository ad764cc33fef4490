"""The check of a cluster for people: nodes that are alike share a row, so that a large cluster is a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sersearch.report.cells import Sheet
from sersearch.terminal.screen import Screen
from sersearch.terminal.tables import print_sheets

if TYPE_CHECKING:  # its package imports Ray, which takes a second
    from sersearch.search.nodes import Finding, Sight

MOST_NAMED = 4
"""How many nodes a row names."""

COLUMNS = ("nodes", "sersearch", "torch", "processor", "GPUs", "check")


def print_check(findings: Sequence[Finding], console: Screen) -> None:
    """Print what a check of nodes found."""
    print_sheets([check_sheet(findings)], console, "see them on a wider terminal")


def check_sheet(findings: Sequence[Finding]) -> Sheet:
    """What a check of nodes found, as a table: a row for each kind of node, those that can't train last."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for finding in sorted(findings, key=lambda finding: bool(finding.fault)):
        alike.setdefault(_facts(finding), []).append(finding.node.address)
    rows = tuple((_few(addresses), *facts) for facts, addresses in alike.items())
    return Sheet("nodes", "Nodes", COLUMNS, rows, _notes(findings))


def _facts(finding: Finding) -> tuple[str, ...]:
    sight, verdict = finding.sight, finding.fault or "good"
    if finding.gpu_fault and not finding.fault:
        verdict = f"good without GPUs: {finding.gpu_fault}"
    if sight is None:
        return ("–", "–", "–", "–", verdict)
    model = sight.processor.removeprefix("cpu (").removesuffix(")")
    return (sight.sersearch, sight.torch, model, _gpus(sight), verdict)


def _gpus(sight: Sight) -> str:
    """How many GPUs there are, their type, and the memory of the smallest."""
    if sight.gpus is None:
        return "–"
    if not sight.gpus:
        return "0"
    return f"{sight.gpus} x {sight.gpu}, {sight.gpu_memory / 1e9:.0f} GB"


def _notes(findings: Sequence[Finding]) -> tuple[str, ...]:
    good = {(f.sight.processor, f.sight.torch) for f in findings if f.sight and not f.fault}
    left_out = sum(bool(finding.fault) for finding in findings)
    notes = []
    if left_out:
        notes.append(f"Left out until they pass a check: {left_out} of {len(findings)} nodes.")
    without_gpus = sum(bool(finding.gpu_fault) and not finding.fault for finding in findings)
    if without_gpus:
        notes.append(f"Used without their GPUs until these pass a check: {without_gpus} of {len(findings)} nodes.")
    if len(good) > 1:
        notes.append("Nodes differ in processor or torch: a trial has the same bits on nodes of one kind only.")
    return tuple(notes)


def _few(addresses: Sequence[str]) -> str:
    more = len(addresses) - MOST_NAMED
    return ", ".join([*addresses[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])

"""What a store holds, and what a check of it found: the facts for machines, and the lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sersearch.speech.corpora import Corpus
from sersearch.store.reader import Store
from sersearch.store.vectors.manifest import complete_sets
from sersearch.store.verify import verify_store
from sersearch.terminal.screen import Screen


def store_facts(store: Store) -> dict[str, Any]:
    """What a store says that it holds; no row is read."""
    recipe, speakers = store.recipe, store.speakers
    return {
        "store": str(store.path),
        "corpus": recipe.corpus,
        "fingerprint": store.fingerprint,
        "emotions": list(recipe.emotions),
        "speakers": {info.speaker: info.utterances for info in speakers},
        "utterances": sum(info.utterances for info in speakers),
        "copies": sum(info.rows for info in speakers),
        "frames": sum(info.frames for info in speakers),
        "bytes": sum(info.bytes for info in speakers),
        "noises": recipe.noises,
        "snrs": recipe.snrs,
        "snr_range_db": list(recipe.snr_range),
        "bands": recipe.bands,
        "seed": recipe.seed,
        "vectors": complete_sets(store.path),
        "versions": store.manifest.versions,
    }


def checked_facts(store: Store, corpus: Corpus | None, noise_folder: Path | None) -> dict[str, Any]:
    """What a check of every file found, and of some rows that are made again if the corpus is given."""
    faults, made = verify_store(store), 0
    if corpus and not faults:
        from sersearch.store.remake import remake_rows  # it computes features, which needs torch

        made, faults = remake_rows(store, corpus, noise_folder)
    return {"faults": faults, "rows_made_again": made}


def print_store(facts: dict[str, Any], console: Screen) -> None:
    """Print a store for people."""
    noisy = f"{facts['noises']} noises x {facts['snrs']} SNRs of {facts['snr_range_db'][0]:g} to"
    noisy = f"{noisy} {facts['snr_range_db'][1]:g} dB" if facts["noises"] else "no noise"
    lines = [
        f"{facts['store']}: {facts['corpus']}, fingerprint {facts['fingerprint']}",
        f"{facts['copies']} copies of {facts['utterances']} utterances of {len(facts['speakers'])} speakers, "
        f"{facts['frames']} frames of {facts['bands']} bands, {facts['bytes'] / 1e6:.1f} MB; {noisy}",
        f"emotions: {', '.join(facts['emotions'])}",
        "utterances per speaker: " + ", ".join(f"{name} ({count})" for name, count in facts["speakers"].items()),
    ]
    if facts["vectors"]:
        lines.append(f"vectors: {', '.join(facts['vectors'])}")
    if "faults" in facts:
        lines += facts["faults"]
        made = f", {facts['rows_made_again']} rows made again" if facts["rows_made_again"] else ""
        lines.append(f"verified: {len(facts['faults'])} faults{made}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

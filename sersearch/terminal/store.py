"""What a store holds, and what a check of it found: the facts for machines, and the lines for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sersearch.speech.corpora import Corpus
from sersearch.store.histograms import histograms
from sersearch.store.reader import Store
from sersearch.store.vectors.manifest import complete_sets
from sersearch.store.verify import verify_store
from sersearch.terminal.screen import Screen

BAR, BAR_WIDTH = "#", 40


def store_facts(store: Store) -> dict[str, Any]:
    """What a store says that it holds; no row is read."""
    recipe, speakers = store.recipe, store.speakers
    return {
        "store": str(store.path),
        "corpus": recipe.corpus,
        "fingerprint": store.fingerprint,
        "emotions": list(recipe.emotions),
        "speakers": {info.speaker: info.utterances for info in speakers},
        "corpora": _corpora(store),
        "utterances": sum(info.utterances for info in speakers),
        "copies": sum(info.rows for info in speakers),
        "frames": sum(info.frames for info in speakers),
        "bytes": sum(info.bytes for info in speakers),
        "noises": recipe.noises,
        "snrs": recipe.snrs,
        "snr_range_db": list(recipe.snr_range),
        "reverberated": recipe.impulse_content is not None,
        "codecs": list(recipe.codecs),
        "bands": recipe.bands,
        "seed": recipe.seed,
        "vectors": complete_sets(store.path),
        "versions": store.manifest.versions,
    }


def _corpora(store: Store) -> dict[str, dict[str, int]]:
    """How many speakers and utterances each corpus has."""
    found: dict[str, dict[str, int]] = {}
    for info in sorted(store.speakers, key=lambda info: info.corpus):
        counts = found.setdefault(info.corpus, {"speakers": 0, "utterances": 0})
        counts["speakers"] += 1
        counts["utterances"] += info.utterances
    return found


def histogram_facts(store: Store) -> dict[str, Any]:
    """How many noisy copies there are of each SNR, and how many utterances of each duration."""
    by_snr, by_duration = histograms(store)
    return {"copies_by_snr_db": by_snr, "utterances_by_duration_s": by_duration}


def checked_facts(
    store: Store, corpus: Corpus | None, noise_folder: Path | None, impulse_folder: Path | None
) -> dict[str, Any]:
    """What a check of every file found, and of some rows that are made again if the corpus is given."""
    faults, made = verify_store(store), 0
    if corpus and not faults:
        from sersearch.store.remake import remake_rows  # it computes features, which needs torch

        made, faults = remake_rows(store, corpus, noise_folder, impulse_folder)
    return {"faults": faults, "rows_made_again": made}


def print_store(facts: dict[str, Any], console: Screen) -> None:
    """Print a store for people."""
    noisy = f"{facts['noises']} noises x {facts['snrs']} SNRs of {facts['snr_range_db'][0]:g} to"
    noisy = f"{noisy} {facts['snr_range_db'][1]:g} dB" if facts["noises"] else "no noise"
    noisy += ", reverberated" if facts["reverberated"] else ""
    noisy += f", each through one of {', '.join(facts['codecs'])}" if facts["codecs"] else ""
    lines = [
        f"{facts['store']}: {facts['corpus']}, fingerprint {facts['fingerprint']}",
        f"{facts['copies']} copies of {facts['utterances']} utterances of {len(facts['speakers'])} speakers, "
        f"{facts['frames']} frames of {facts['bands']} bands, {facts['bytes'] / 1e6:.1f} MB; {noisy}",
        f"emotions: {', '.join(facts['emotions'])}",
        "utterances per speaker: " + ", ".join(f"{name} ({count})" for name, count in facts["speakers"].items()),
    ]
    if len(facts["corpora"]) > 1:
        listed = [f"{name} ({of['utterances']} of {of['speakers']} speakers)" for name, of in facts["corpora"].items()]
        lines.append(f"utterances per corpus: {', '.join(listed)}")
    if facts["vectors"]:
        lines.append(f"vectors: {', '.join(facts['vectors'])}")
    lines += _histogram("duration (s)", "utterances", facts.get("utterances_by_duration_s", {}))
    lines += _histogram("SNR (dB)", "noisy copies", facts.get("copies_by_snr_db", {}))
    if "faults" in facts:
        lines += facts["faults"]
        made = f", {facts['rows_made_again']} rows made again" if facts["rows_made_again"] else ""
        lines.append(f"verified: {len(facts['faults'])} faults{made}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _histogram(heading: str, counted: str, counts: Mapping[str, int]) -> Iterator[str]:
    """A line per band, with a bar; nothing where nothing was counted."""
    if not counts:
        return
    most = max(counts.values())
    bands, digits = (max(len(text) for text in texts) for texts in (counts, map(str, counts.values())))
    yield f"{heading}: {counted}"
    for band, count in counts.items():
        yield f"  {band:>{bands}}  {count:>{digits}}  {BAR * math.ceil(BAR_WIDTH * count / most)}".rstrip()

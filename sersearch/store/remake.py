"""Making some rows of a store again from the audio, to see whether it gives the same bits here and now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from sersearch.errors import InputError
from sersearch.speech.corpora import Corpus, Utterance
from sersearch.store.reader import Store
from sersearch.store.rows import regenerate


def remake_rows(
    store: Store, corpus: Corpus, noise_folder: Path | None, impulse_folder: Path | None = None
) -> tuple[int, list[str]]:
    """Make one clean row of each speaker again, and one noisy row if there is a noise library; always the same ones.

    Args:
        store: an intact store.
        corpus: that the store was built from.
        noise_folder: folder of the noise library; None to make clean rows only.
        impulse_folder: folder of the impulse responses; may be None for a store without them.

    Returns:
        How many rows were made again, and one line "FILE: FAULT" for each that is not the same.
    """
    utterances = {utterance.id: utterance for utterance in corpus.utterances}
    generator = np.random.default_rng(0)
    made, faults = 0, []
    for info in store.speakers:
        table = store.table(info.speaker)
        for number in _chosen(table, noise_folder is not None, generator):
            made += 1
            if fault := _fault(store, table, number, utterances, (noise_folder, impulse_folder)):
                faults.append(f"{info.file}: row {number} {fault}")
    return made, faults


def _chosen(table: pa.Table, is_noisy: bool, generator: np.random.Generator) -> Iterator[int]:
    clean_U = np.array([noise is None for noise in table["noise"].to_pylist()])
    for rows in (np.flatnonzero(clean_U), np.flatnonzero(~clean_U) if is_noisy else np.array([], np.int64)):
        if rows.size:
            yield int(generator.choice(rows))


def _fault(
    store: Store,
    table: pa.Table,
    number: int,
    utterances: Mapping[str, Utterance],
    folders: tuple[Path | None, Path | None],
) -> str:
    (row,) = table.drop_columns(["log_mel"]).slice(number, 1).to_pylist()
    utterance = utterances.get(row["utterance"])
    if utterance is None:
        return f"({row['utterance']}) is of no utterance of the corpus that was given"
    try:
        segment_s = (utterance.start_s, utterance.end_s)
        noise_folder, impulse_folder = folders
        made_TM = regenerate(row, store.recipe, utterance.path, noise_folder, segment_s, impulse_folder)
    except (InputError, OSError) as error:
        return f"({row['utterance']}) can't be made again: {error}"
    stored_TM = table["log_mel"][number].values.to_numpy(zero_copy_only=False).reshape(-1, store.recipe.bands)
    if stored_TM.shape == made_TM.shape and np.array_equal(stored_TM, made_TM):
        return ""
    if stored_TM.shape != made_TM.shape:
        return f"({row['utterance']}) has {len(stored_TM)} frames, and the audio gives {len(made_TM)}"
    largest = float(np.abs(stored_TM.astype(np.float64) - made_TM).max())
    return f"({row['utterance']}) differs from what the audio gives here, by up to {largest:.3g}"

"""The rows of a store, one per copy of an utterance: writing all rows of a speaker, and computing one row again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.digests import sha256_of
from sersearch.durable import naming, sync
from sersearch.errors import InputError
from sersearch.speech.audio import Waveform
from sersearch.speech.augment import (
    NoisyCopy,
    draw_passages,
    excerpt,
    make_copy,
    noisy_copies,
    utterance_generator,
)
from sersearch.speech.corpora import NoiseLibrary, Utterance, decode_segment, decode_utterance
from sersearch.speech.corpora.impulses import ImpulseResponses, read_impulse
from sersearch.speech.corpora.noises import active_signal
from sersearch.speech.features import Moments, sum_moments
from sersearch.speech.kaldi import log_mel, moments_of, one_torch_thread
from sersearch.store.manifest import Recipe, SpeakerInfo, parquet_name
from sersearch.store.reader import Frames, pack_moments

Row = dict[str, Any]

_ROWS_PER_GROUP = 64


def row_schema(recipe: Recipe, has_extra: bool = False) -> pa.Schema:
    """Return the columns of a store; noise, snr_db, noise_offset_s, impulse_response and codec are null in clean rows.

    Args:
        recipe: recipe of the store.
        has_extra: whether there is a column `extra` as well: the further facts about the utterance as a JSON object.
    """
    value = pa.field("element", pa.float16() if recipe.dtype == "float16" else pa.float32(), nullable=False)
    columns = [
        ("utterance", pa.string()),
        ("corpus", pa.string()),
        ("speaker", pa.string()),
        ("gender", pa.string()),
        ("emotion", pa.string()),
        ("condition", pa.string()),
        ("noise", pa.string()),
        ("snr_db", pa.float64()),
        ("noise_offset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("frames", pa.int32()),
        ("log_mel", pa.large_list(value)),
    ]
    # Stores without rooms and codecs have the columns that they had before there were any.
    if recipe.impulse_content:
        columns.insert(-3, ("impulse_response", pa.string()))
    if recipe.codecs:
        columns.insert(-3, ("codec", pa.string()))
    if has_extra:
        columns.insert(-1, ("extra", pa.string()))
    optional = {"gender", "noise", "snr_db", "noise_offset_s", "impulse_response", "codec"}
    fields = [pa.field(name, kind, nullable=name in optional) for name, kind in columns]
    return pa.schema(fields, metadata={"sersearch": recipe.fingerprint})


def regenerate(
    row: Mapping[str, Any],
    recipe: Recipe,
    audio: Path,
    noise_folder: Path | None = None,
    segment_s: tuple[float | None, float | None] = (None, None),
    impulse_folder: Path | None = None,
) -> Frames:
    """Compute the log-Mels of a row again from the audio, bit for bit.

    Args:
        row: row of the store, as `Store.table(speaker).to_pylist()` returns it; its log-Mels are not used.
        recipe: recipe of the store.
        audio: audio file of the utterance.
        noise_folder: folder of the noise library; may be None for a clean row.
        segment_s: start and end of the utterance in the file, in seconds; None for those of the file.
        impulse_folder: folder of the impulse responses; may be None for a row without one.

    Returns:
        Log-Mels [T, M].

    Raises:
        InputError: a file can't be decoded, or the row needs a folder that is None.
    """
    waveform = regenerate_waveform(row, recipe, audio, noise_folder, segment_s, impulse_folder)
    with one_torch_thread():
        return log_mel(waveform, recipe.sampling_rate, recipe.bands).astype(recipe.dtype)


def regenerate_waveform(
    row: Mapping[str, Any],
    recipe: Recipe,
    audio: Path,
    noise_folder: Path | None = None,
    segment_s: tuple[float | None, float | None] = (None, None),
    impulse_folder: Path | None = None,
) -> Waveform:
    """Make the sound of a row again: samples [N], float32, full scale 1.0. See `regenerate`."""
    speech = decode_segment(audio, *segment_s, recipe.sampling_rate)
    if row["noise"] is None:
        return speech
    if noise_folder is None:
        raise InputError(
            f"the noisy copy of {row['utterance']} needs the noise library, and none was given; give its folder"
        )
    offset = round(row["noise_offset_s"] * recipe.sampling_rate)
    noise = excerpt(active_signal(noise_folder / row["noise"]), offset, speech.size)
    response = None
    if name := row.get("impulse_response"):
        if impulse_folder is None:
            raise InputError(
                f"the noisy copy of {row['utterance']} needs the impulse responses, and none were given; give their "
                "folder"
            )
        response = read_impulse(impulse_folder / name)
    return make_copy(speech, noise, row["snr_db"], response, row.get("codec"))


class SpeakerWriter:
    """Writes the rows of one speaker to a partial file; the caller renames it."""

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        library: NoiseLibrary | None,
        has_extra: bool = False,
        shares: Mapping[str, NoiseLibrary] | None = None,
        responses: ImpulseResponses | None = None,
    ) -> None:
        """Create a writer.

        Args:
            out: folder of the store.
            recipe: recipe of the store.
            library: noise library; None to write clean rows only.
            has_extra: whether any utterance of the store has further facts; all its files have the same schema.
            shares: the noises of each speaker, where they have noises of their own.
            responses: impulse responses by which noisy copies are reverberated; None for none.
        """
        self.out = out
        self.recipe = recipe
        self.library = library
        self.shares = shares or {}
        self.responses = responses
        self.schema = row_schema(recipe, has_extra)

    def __call__(self, utterances: tuple[Utterance, ...]) -> tuple[Path, SpeakerInfo]:
        """Write all rows of one speaker.

        Args:
            utterances: all utterances of the speaker.

        Returns:
            The partial file, and what the manifest says about it.
        """
        first = utterances[0]
        file = parquet_name(first.speaker)
        part = self.out / f".{file}.{uuid4().hex}.part"
        with naming(self.out / file, part), one_torch_thread():
            rows, frames = self._write(part, utterances)
            sync(part)
        info = SpeakerInfo(
            speaker=first.speaker,
            corpus=first.corpus,
            gender=first.gender,
            utterances=len(utterances),
            rows=rows,
            frames=frames,
            file=file,
            bytes=part.stat().st_size,
            sha256=sha256_of(part),
        )
        return part, info

    def _write(self, part: Path, utterances: Sequence[Utterance]) -> tuple[int, int]:
        """Write all rows in groups; return the number of rows and the number of frames."""
        schema = self.schema
        rows = (row for utterance in utterances for row in self._rows(utterance))
        count = 0
        moments: list[Moments] = []
        # Stored float by float, log-Mels hardly compress. Stored byte by byte, the bytes of the exponents do.
        encoding = {
            "use_dictionary": [name for name in schema.names if name != "log_mel"],
            "use_byte_stream_split": ["log_mel.list.element"],
        }
        with pq.ParquetWriter(part, schema, compression="zstd", **encoding) as writer:
            while group := list(islice(rows, _ROWS_PER_GROUP)):
                writer.write_batch(_batch(group, schema))
                count += len(group)
                moments.extend(moments_of(row["log_mel"]) for row in group)
            total = sum_moments(moments)
            writer.add_key_value_metadata(pack_moments(total))
        return count, total.count

    def _rows(self, utterance: Utterance) -> Iterator[Row]:
        """Compute the clean row of an utterance, then its noisy rows."""
        speech = decode_utterance(utterance, self.recipe.sampling_rate)
        yield self._row(utterance, speech, None)
        library = self.shares.get(utterance.speaker, self.library)
        if library:
            recipe = self.recipe
            generator = utterance_generator(recipe.seed, utterance.id)
            passages = draw_passages(recipe.seed, utterance.id, tuple(self.responses or ()), recipe.codecs)
            for copy in noisy_copies(
                speech, library, recipe.noises, recipe.snrs, recipe.snr_range, generator, passages, self.responses
            ):
                yield self._row(utterance, copy.waveform, copy)

    def _row(self, utterance: Utterance, waveform: Waveform, noisy: NoisyCopy | None) -> Row:
        frames = log_mel(waveform, self.recipe.sampling_rate, self.recipe.bands).astype(self.recipe.dtype)
        return {
            "utterance": utterance.id,
            "corpus": utterance.corpus,
            "speaker": utterance.speaker,
            "gender": utterance.gender,
            "emotion": utterance.emotion,
            "condition": "noisy" if noisy else "clean",
            "noise": noisy.noise if noisy else None,
            "snr_db": noisy.snr_db if noisy else None,
            "noise_offset_s": noisy.noise_offset / self.recipe.sampling_rate if noisy else None,
            "impulse_response": noisy.impulse_response if noisy else None,
            "codec": noisy.codec if noisy else None,
            "extra": json.dumps(dict(utterance.extra), ensure_ascii=False, sort_keys=True),
            "duration_s": waveform.size / self.recipe.sampling_rate,
            "frames": len(frames),
            "log_mel": frames,
        }


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Turn rows into columns; the log-Mels never become Python numbers, which would be slow."""
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in schema if field.name != "log_mel"]
    ends = np.cumsum([0] + [row["log_mel"].size for row in rows])
    values = np.concatenate([row["log_mel"].ravel() for row in rows])
    kind = schema.field("log_mel").type
    return pa.record_batch([*arrays, pa.LargeListArray.from_arrays(ends, values, type=kind)], schema=schema)

"""The feature store: log-Mels of every utterance and its noisy copies, one Parquet file a speaker.

Who writes: one build at a time, which holds a lock. Each speaker's file is written beside, fsynced and
renamed, and only then named in `store.json`, which is itself replaced in one step. So a reader finds either a
complete store or one that says what is missing, and a build that was interrupted, killed included, goes on
with that. Nothing in a complete store changes, but for `arrow/`: copies of the Parquet files that can be mapped
into memory, made at the first use of a speaker, which are safe to delete.
"""

from sersearch.store.build import build_store
from sersearch.store.manifest import Manifest, Recipe, SpeakerInfo
from sersearch.store.reader import Frames, Store, open_store
from sersearch.store.rows import Row, regenerate, row_schema

__all__ = [
    "Frames",
    "Manifest",
    "Recipe",
    "Row",
    "SpeakerInfo",
    "Store",
    "build_store",
    "open_store",
    "regenerate",
    "row_schema",
]

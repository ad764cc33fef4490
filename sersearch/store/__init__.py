"""The feature store: log-Mels of every utterance and its noisy copies, in one Parquet file per speaker.

One build at a time writes, and holds a lock while it does. Each speaker's file is written beside its place, fsynced and
renamed, and only then named in `store.json`, which is itself replaced in one step. A reader therefore finds either a
complete store or one that says what is missing, and a build that was interrupted, even by a kill, resumes with that.

Nothing in a complete store changes, except for two folders: `vectors/` holds the vector sets that were added later, and
`arrow/` holds copies of the Parquet files that can be mapped into memory. These copies are made when a speaker is read
for the first time, and are safe to delete.
"""

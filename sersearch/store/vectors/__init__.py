"""Vector sets of a store: one fixed-length vector per utterance, as openSMILE functionals or a table of the user's own.

    STORE/vectors/NAME/SPEAKER.parquet     columns utterance, speaker, gender, emotion, and vector: D float32 numbers
    STORE/vectors/NAME/vectors.json        the manifest; it exists once the set is complete

Only the process that holds the store's lock writes. Each speaker's file is written beside its place, fsynced and
renamed, and its bytes don't depend on the number of workers. An extraction that was interrupted, even by a kill,
resumes with the speakers that are missing. Numbers that are not finite are stored as NaN.

Reading a vector set needs neither openSMILE nor torch.
"""

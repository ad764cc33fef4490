"""Trials of no particular store, for tests that need a key and not the data behind it."""

from sersearch.study.configuration import Configuration
from sersearch.study.fold import Fold
from sersearch.study.trial import StoreIdentity, Trial

FOLD = Fold(train=("s0", "s1", "s2"), validation=("s3", "s4"), test=("s5",))


def make_trial(configuration: Configuration, seed: int = 0, data: str = "d", fold: Fold = FOLD) -> Trial:
    return Trial(configuration=configuration, seed=seed, fold=fold, data=data)


IDENTITY = StoreIdentity(fingerprint="d", speakers=tuple("abcdefghij"))

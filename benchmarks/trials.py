"""Trials of no particular store."""

from sersearch.study.configuration import Configuration
from sersearch.study.fold import Fold
from sersearch.study.trial import Trial

FOLD = Fold(train=("generated",), validation=("also generated",))


def make_trial(configuration: Configuration, seed: int, data: str, fold: Fold = FOLD) -> Trial:
    """A trial of a configuration, whose randomness comes from all that is given."""
    return Trial(configuration=configuration, seed=seed, fold=fold, data=data)

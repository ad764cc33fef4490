"""What a store holds at a glance: its copies by SNR, and its utterances by duration."""

from collections import Counter

import numpy as np

from sersearch.speech.augment import SNR_BAND_DB
from sersearch.store.reader import Store

Histogram = dict[str, int]
"""How many there are in each band, by the band's name; the lowest band first, and none in between left out."""

LONGEST_BAND_S = 10
"""From this duration on, utterances are in one band."""


def histograms(store: Store) -> tuple[Histogram, Histogram]:
    """Count a store's noisy copies by SNR in bands of 5 dB, and its utterances by duration in bands of 1 s.

    The frames are not read, and of the other columns those of one speaker at a time.

    Raises:
        InputError: the file of a speaker is damaged.
    """
    by_snr: Counter[int] = Counter()
    by_duration: Counter[int] = Counter()
    for info in store.speakers:
        snr_db_U, duration_s_U = store.snrs_and_durations_of(info.speaker)
        noisy_U = ~np.isnan(snr_db_U)
        by_snr.update(np.floor(snr_db_U[noisy_U] / SNR_BAND_DB).astype(int).tolist())
        bands_U = np.minimum(np.floor(duration_s_U[~noisy_U]), LONGEST_BAND_S)
        by_duration.update(bands_U.astype(int).tolist())
    return (
        {f"{SNR_BAND_DB * band} to {SNR_BAND_DB * (band + 1)}": by_snr[band] for band in _range(by_snr)},
        {_seconds(band): by_duration[band] for band in _range(by_duration)},
    )


def _range(counts: Counter[int]) -> range:
    """All bands from the lowest to the highest one."""
    return range(min(counts), max(counts) + 1) if counts else range(0)


def _seconds(band: int) -> str:
    return f"{band} or more" if band == LONGEST_BAND_S else f"{band} to {band + 1}"

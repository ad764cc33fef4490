"""Reading the sound of an utterance: a whole file, or a segment of one."""

import threading
from dataclasses import replace
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, WINDOW_MS, Sound, Waveform, decode, read_sound
from sersearch.speech.corpora.corpus import Utterance

# Ends of segments are often rounded up, so that the last one may end a little after the file.
_TOLERANCE_S = 0.05

# The recording of the last segment that a thread has read.
_last_read = threading.local()


def decode_utterance(utterance: Utterance, sampling_rate: int = SAMPLING_RATE) -> Waveform:
    """Decode the sound of an utterance.

    Args:
        utterance: utterance of a corpus.
        sampling_rate: sampling rate of the returned waveform in Hz.

    Returns:
        Samples [N], float32, full scale 1.0.

    Raises:
        InputError: the file can't be used (see `decode`), or the segment can't (see `decode_segment`).
    """
    return read_utterance(utterance, sampling_rate).waveform


def read_utterance(utterance: Utterance, sampling_rate: int = SAMPLING_RATE) -> Sound:
    """Decode the sound of an utterance as `decode_utterance` does, with the rate and the channels of its file."""
    if utterance.start_s is None and utterance.end_s is None:
        return read_sound(utterance.path, sampling_rate)
    sound = _read_once(utterance.path, sampling_rate)
    segment = _cut(sound.waveform, utterance.path, utterance.start_s, utterance.end_s, sampling_rate)
    return replace(sound, waveform=segment)


def _read_once(path: Path, sampling_rate: int) -> Sound:
    """Read a file that utterances are segments of; hundreds of them in turn may be segments of one."""
    version = (path, sampling_rate, path.stat().st_mtime_ns if path.exists() else 0)
    if getattr(_last_read, "version", None) != version:
        _last_read.sound = read_sound(path, sampling_rate)
        _last_read.version = version
    sound: Sound = _last_read.sound
    return sound


def decode_segment(
    path: Path, start_s: float | None, end_s: float | None, sampling_rate: int = SAMPLING_RATE
) -> Waveform:
    """Decode a file and cut a segment out of it.

    Args:
        path: audio file.
        start_s: start of the segment in seconds; None for the beginning of the file.
        end_s: end of the segment in seconds; None for the end of the file.
        sampling_rate: sampling rate of the returned waveform in Hz.

    Returns:
        Samples [N], float32, full scale 1.0.

    Raises:
        InputError: the file can't be used (see `decode`), or the segment ends after the file, is shorter than one
            window of 25 ms, or is constant.
    """
    return _cut(decode(path, sampling_rate), path, start_s, end_s, sampling_rate)


def _cut(waveform: Waveform, path: Path, start_s: float | None, end_s: float | None, sampling_rate: int) -> Waveform:
    if start_s is None and end_s is None:
        return waveform
    duration_s = waveform.size / sampling_rate
    start = round((start_s or 0.0) * sampling_rate)
    stop = waveform.size if end_s is None else round(end_s * sampling_rate)
    where = f"{path}: the segment from {start / sampling_rate:g} to {stop / sampling_rate:g} s"
    if stop > waveform.size + _TOLERANCE_S * sampling_rate:
        raise InputError(f"{where} ends after the file, which lasts {duration_s:g} s; correct its end")
    # A copy, because a view would keep the whole recording in memory.
    segment: Waveform = waveform[start:stop].copy()
    if segment.size < sampling_rate * WINDOW_MS / 1000:
        raise InputError(
            f"{where} is shorter than one window of {WINDOW_MS:g} ms in a file of {duration_s:g} s; "
            "correct or remove it"
        )
    if segment.min() == segment.max():
        raise InputError(f"{where} is silence or a constant; correct or remove it")
    return segment

"""From audio files to mono waveforms: decoding, resampling, and removing silence."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from sersearch.errors import InputError

Waveform = npt.NDArray[np.float32]
"""Mono samples [N], full scale 1.0."""

SAMPLING_RATE = 16_000
WINDOW_MS = 25.0

# Silence is looked for in frames of this length.
_FRAME_MS = 10

_SUFFIXES = {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav"}
# More samples than any recording has: libsndfile reports about 2**63 if the header gives no length.
_LONGEST = 2**40
# A line of libsndfile's log: the header announces more bytes than the file has. Programs that write to a pipe, and so
# don't know the size in advance, announce sizes near 2**31 or 2**32; these say nothing about the real size.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 2**31 - 2**16


def audio_files(folder: Path) -> list[Path]:
    """List the audio files at any depth below `folder`, sorted by their path; hidden files are ignored.

    Raises:
        InputError: `folder` is not a folder, or holds no audio.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give a folder that holds audio files")
    relative_paths: list[Path] = []
    for path in folder.rglob("*"):
        relative_path = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in relative_path.parts)
        if path.suffix.lower() in _SUFFIXES and not is_hidden and path.is_file():
            relative_paths.append(relative_path)
    files = [folder / path for path in sorted(relative_paths, key=Path.as_posix)]
    if not files:
        raise InputError(f"{folder}: holds no audio; give a folder with files such as .flac, .wav, .ogg or .mp3")
    return files


def decode(path: Path, sampling_rate: int = SAMPLING_RATE) -> Waveform:
    """Decode one audio file of any rate and number of channels.

    The channels are averaged. Resampling is by soxr with its quality VHQ.

    Args:
        path: file in any format that libsndfile reads.
        sampling_rate: sampling rate of the returned waveform in Hz.

    Returns:
        Samples [N], float32, full scale 1.0. Resampling may overshoot full scale a little; nothing is clipped.

    Raises:
        InputError: the file can't be read, is cut short, empty, shorter than one window of 25 ms or entirely digital
            silence, or it holds NaN or infinite samples.
    """
    samples, rate = _read(path)
    if not samples.size:
        raise InputError(f"{path}: holds no samples (empty, or cut short); copy it again or remove it")
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds NaN or infinite samples; export it again or remove it")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate != sampling_rate:
        mono = soxr.resample(mono, rate, sampling_rate, quality="VHQ")
    if mono.size < sampling_rate * WINDOW_MS / 1000:
        duration_ms = 1000 * mono.size / sampling_rate
        raise InputError(f"{path}: lasts {duration_ms:.1f} ms, shorter than one window of {WINDOW_MS:g} ms; remove it")
    if not mono.any():
        raise InputError(f"{path}: is entirely digital silence; remove it")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _read(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Read all samples [N, channels] and the sampling rate in Hz; refuse a file that is cut short."""
    try:
        with soundfile.SoundFile(path) as file:
            announced = file.frames
            log = file.extra_info
            rate = file.samplerate
            if announced > _LONGEST:
                raise InputError(f"{path}: has no length in its header (was it written to a pipe?); encode it again")
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
        reason = reason.removeprefix("Error : ").strip().rstrip(".")
        raise InputError(f"{path}: can't be decoded ({reason}); copy it again or remove it") from None
    chunk = _SHORT_CHUNK.search(log)
    header_announces_more = chunk is not None and int(chunk[2]) < int(chunk[1]) < _UNKNOWN_SIZE
    if header_announces_more or len(samples) < announced:
        raise InputError(f"{path}: is cut short (its header announces more samples); copy it again or remove it")
    return samples, rate


def drop_silence(
    waveform: Waveform, sampling_rate: int = SAMPLING_RATE, floor_db: float = -60.0, shortest_ms: int = 100
) -> Waveform:
    """Remove the silent stretches of a recording and join the rest.

    A stretch is silent if it lasts `shortest_ms` or longer and the power of each of its frames of 10 ms is zero, or at
    least `-floor_db` dB below the power of the recording's loudest frame. Clips of short events are often padded with
    silence, and no signal-to-noise ratio is defined for an excerpt of silence.

    Args:
        waveform: samples [N].
        sampling_rate: sampling rate in Hz.
        floor_db: highest power of a silent frame in dB, relative to the loudest frame.
        shortest_ms: duration of the shortest stretch that is removed, in ms.

    Returns:
        Samples [n], n <= N, float32.
    """
    frame_samples = sampling_rate * _FRAME_MS // 1000
    starts_T = np.arange(0, waveform.size, frame_samples)
    samples_T = np.diff(np.append(starts_T, waveform.size))  # the last frame may be shorter
    power_T = np.add.reduceat(np.square(waveform, dtype=np.float64), starts_T) / samples_T
    silent_T = power_T <= power_T.max() * 10 ** (floor_db / 10)
    # Each silent stretch begins and ends with a change, so changes come in pairs.
    changes = np.flatnonzero(np.diff(silent_T, prepend=False, append=False))
    keep_T = np.ones(len(starts_T), dtype=bool)
    for start, stop in changes.reshape(-1, 2):
        if (stop - start) * _FRAME_MS >= shortest_ms:
            keep_T[start:stop] = False
    active: Waveform = waveform[np.repeat(keep_T, samples_T)]
    return active

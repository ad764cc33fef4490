"""Audio files in, mono waveforms out: decoding, resampling, and which stretches of a recording are silent."""

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

_SUFFIXES = {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav"}
_LONGEST = 2**40
# libsndfile's log of a header that promises more bytes than the file has. Sizes near 2**31 and 2**32 are what
# programs write that don't know the size yet (a pipe): they promise nothing.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 2**31 - 2**16


def audio_files(folder: Path) -> list[Path]:
    """List the audio files at any depth below `folder`, sorted by their path; hidden files are ignored.

    Raises:
        InputError: `folder` is not a folder, or holds no audio.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give a folder that holds audio files")
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    visible = (path for path in below if not any(part.startswith(".") for part in path.parts))
    files = [folder / path for path in sorted(visible, key=Path.as_posix) if (folder / path).is_file()]
    if not files:
        raise InputError(f"{folder}: holds no audio; give a folder with files such as .flac, .wav, .ogg or .mp3")
    return files


def decode(path: Path, sampling_rate: int = SAMPLING_RATE) -> Waveform:
    """Decode one audio file of any rate and number of channels.

    The channels are averaged; soxr resamples at its quality VHQ.

    Args:
        path: the file, in any format that libsndfile reads.
        sampling_rate: of the waveform that is given back, in Hz.

    Returns:
        Samples [N], float32, full scale 1.0 (resampling may overshoot it a little; nothing is clipped).

    Raises:
        InputError: the file is unreadable, cut short, empty, shorter than one 25 ms window, digital silence
            throughout, or holds NaN or infinite samples.
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
        lasts_ms = 1000 * mono.size / sampling_rate
        raise InputError(f"{path}: lasts {lasts_ms:.1f} ms, one window needs {WINDOW_MS:g} ms; remove it")
    if not mono.any():
        raise InputError(f"{path}: is digital silence throughout; remove it")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _read(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Read all samples [N, channels] and the sampling rate, and notice a file that is cut short."""
    try:
        with soundfile.SoundFile(path) as file:
            promised, log, rate = file.frames, file.extra_info, file.samplerate
            if promised > _LONGEST:
                raise InputError(f"{path}: doesn't say how long it is (written to a pipe?); encode it again")
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error)
        reason = reason.removeprefix("Error : ").strip().rstrip(".")
        raise InputError(f"{path}: can't be decoded ({reason}); copy it again or remove it") from None
    chunk = _SHORT_CHUNK.search(log)
    torn = chunk is not None and int(chunk[2]) < int(chunk[1]) < _UNKNOWN_SIZE
    if torn or len(samples) < promised:
        raise InputError(f"{path}: is cut short (its header promises more); copy it again or remove it")
    return samples, rate


def drop_silence(
    waveform: Waveform, sampling_rate: int = SAMPLING_RATE, floor_db: float = -60.0, shortest_ms: int = 100
) -> Waveform:
    """Leave out the silent stretches of a recording and join what is left.

    A stretch is silent if it lasts `shortest_ms` or more and each of its 10 ms frames is digitally silent or
    lies `floor_db` or more below the recording's loudest frame. Clips of short events are often padded with
    silence; an excerpt of it can't be mixed at any signal-to-noise ratio.

    Args:
        waveform: samples [N].
        sampling_rate: in Hz.
        floor_db: of a silent frame's power, relative to the loudest frame.
        shortest_ms: duration of the shortest stretch that is left out.

    Returns:
        Samples [n], n <= N, float32.
    """
    length = sampling_rate // 100
    starts = np.arange(0, waveform.size, length)
    counts = np.diff(np.append(starts, waveform.size))
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / counts
    silent = power <= power.max() * 10 ** (floor_db / 10)
    edges = np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2)
    keep = np.ones(len(starts), dtype=bool)
    for start, stop in edges[np.diff(edges, axis=1)[:, 0] * 10 >= shortest_ms]:
        keep[start:stop] = False
    active: Waveform = waveform[np.repeat(keep, counts)]
    return active

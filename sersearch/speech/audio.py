"""From audio files to mono waveforms: finding the files of a folder, decoding, resampling, and removing silence."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from sersearch.errors import InputError
from sersearch.speech.decoders import CONTAINER_SUFFIXES, NEEDS_PYAV, SOUND_SUFFIXES, Samples, has_pyav, read_samples

Waveform = npt.NDArray[np.float32]
"""Mono samples [N], full scale 1.0."""

SAMPLING_RATE = 16_000
WINDOW_MS = 25.0

# Silence is looked for in frames of this length.
_FRAME_MS = 10
# Lossy codecs overshoot full scale (1.0) by a few dB. Samples that were stored as integers but marked as float reach
# 32,768, and even quiet speech then lies far above this limit.
_HIGHEST_PEAK = 10.0
# Sampling rates outside of this range come from damaged headers only, and would fill the memory when resampled.
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1_000, 1_000_000
# Channels whose mean has less than this share of their power are each other's negative.
_CANCELLED_POWER = 1e-6


@dataclass(frozen=True)
class AudioFolder:
    """The files of a folder at any depth, of which each is either in `files` or counted in `ignored`.

    Attributes:
        files: audio files that can be read, sorted by their path.
        ignored: number of files that are not read, by their kind: "hidden", or the suffix and, where it is known, the
            reason.
    """

    files: tuple[Path, ...]
    ignored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sound:
    """The sound of an audio file.

    Attributes:
        waveform: mono samples [N] at the sampling rate that was asked for.
        file_rate: sampling rate of the file in Hz.
        file_channels: number of channels of the file.
    """

    waveform: Waveform
    file_rate: int
    file_channels: int


def list_audio(folder: Path, besides: Collection[Path] = ()) -> AudioFolder:
    """List the audio files at any depth below `folder`, and count the files that are not read by their kind.

    Args:
        folder: the folder.
        besides: files that are known already, and neither listed nor counted.

    Linked folders are followed. A folder that is reached in several ways, or through a cycle of links, is read once, by
    its path without links if there is one.

    Raises:
        InputError: `folder` is not a folder, or a folder in it can't be listed.
    """
    if not is_folder(folder):
        raise InputError(f"{folder}: is not a folder; give a folder that holds audio files")
    # A file may be named by a path with links or "..", so files are compared by where they really are.
    real_paths = {path.resolve() for path in besides if path.exists()}
    files: list[Path] = []
    ignored: Counter[str] = Counter()
    for path in _walk(folder):
        if besides and (path in besides or path.resolve() in real_paths):
            continue
        relative_path = path.relative_to(folder)
        kind = _kind_not_read(path, relative_path)
        if kind is None:
            files.append(relative_path)
        else:
            ignored[kind] += 1
    in_order = tuple(folder / path for path in sorted(files, key=Path.as_posix))
    return AudioFolder(in_order, dict(sorted(ignored.items())))


def audio_files(folder: Path) -> list[Path]:
    """List the audio files at any depth below `folder`, sorted by their path.

    Raises:
        InputError: `folder` is not a folder, or holds no audio that can be read.
    """
    listing = list_audio(folder)
    if not listing.files:
        raise no_audio(folder, listing.ignored)
    return list(listing.files)


def no_audio(folder: Path, ignored: Mapping[str, int]) -> InputError:
    """Return the error for a folder without audio, which tells what the folder holds instead."""
    there = f" (there are {describe_ignored(ignored)})" if ignored else ""
    return InputError(
        f"{folder}: holds no audio that can be read{there}; give a folder with files such as .flac, .wav, .ogg or .mp3"
    )


def describe_ignored(ignored: Mapping[str, int]) -> str:
    """Describe the files that are not read.

    Example:
        >>> describe_ignored({".txt": 2, "hidden": 1})
        '2 x .txt, 1 x hidden'
    """
    return ", ".join(f"{count} x {kind}" for kind, count in ignored.items())


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; a path that the file system can't hold, such as a name too long, is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def decode(path: Path, sampling_rate: int = SAMPLING_RATE) -> Waveform:
    """Decode one audio file of any rate and number of channels.

    The channels are averaged. Resampling is by soxr with its quality VHQ.

    Args:
        path: file in any format that libsndfile reads, or a container that PyAV reads if it is installed.
        sampling_rate: sampling rate of the returned waveform in Hz.

    Returns:
        Samples [N], float32, full scale 1.0. Resampling may overshoot full scale a little; nothing is clipped.

    Raises:
        InputError: the file can't be decoded, is cut short, empty, shorter than one window of 25 ms, holds nothing but
            silence or a constant, NaN or infinite samples, samples far above full scale, or channels that cancel each
            other.
    """
    return read_sound(path, sampling_rate).waveform


def read_sound(path: Path, sampling_rate: int = SAMPLING_RATE) -> Sound:
    """Decode one audio file as `decode` does, and keep the rate and the number of channels of the file.

    Args:
        path: audio file.
        sampling_rate: sampling rate of the waveform in Hz.

    Raises:
        InputError: as in `decode`.
    """
    samples, file_rate = read_samples(path)
    try:
        _check_rate(file_rate)
        _check_duration(len(samples), file_rate)
        mono = _average_channels(samples)
        if file_rate != sampling_rate:
            mono = soxr.resample(mono, file_rate, sampling_rate, quality="VHQ")
        _check_duration(mono.size, sampling_rate)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Sound(np.ascontiguousarray(mono, dtype=np.float32), file_rate, samples.shape[1])


def power_without_dc(waveform: npt.NDArray[np.float32]) -> float:
    """Compute the mean power of a waveform after its mean was removed, in float64.

    A constant offset (DC) is no sound: microphones' electronics add it, and no one hears it.

    Args:
        waveform: samples [N], at least one.
    """
    return float(np.var(waveform, dtype=np.float64))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below `folder` that is not a folder; each folder is entered once, real ones before links."""
    # A link to a folder above is a cycle, so what lies beside `folder` is not reached through it.
    visited = {_identity(above) for above in folder.resolve().parents}
    to_visit = [folder]
    while to_visit:
        links: list[Path] = []
        for start in to_visit:
            for parent, folder_names, file_names in os.walk(start, onerror=_raise_unlisted):
                identity = _identity(Path(parent))
                if identity in visited:
                    folder_names.clear()
                    continue
                visited.add(identity)
                # os.walk lists links to folders among the folders but does not enter them.
                links.extend(Path(parent, name) for name in folder_names if Path(parent, name).is_symlink())
                yield from (Path(parent, name) for name in file_names)
        to_visit = sorted(links)


def _identity(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, however it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _raise_unlisted(error: OSError) -> None:
    raise InputError(f"{error.filename}: can't be listed ({error.strerror}); change its permissions or remove it")


def _kind_not_read(path: Path, relative_path: Path) -> str | None:
    """Return the kind of a file that is not read; None for a file that is."""
    suffix = path.suffix.lower()
    if any(part.startswith(".") for part in relative_path.parts):
        return "hidden"
    # Opening a pipe would wait for ever. A broken link is kept, so that it is refused with its reason.
    if not path.is_file() and not path.is_symlink():
        return "not a regular file"
    if suffix in SOUND_SUFFIXES:
        return None
    if suffix in CONTAINER_SUFFIXES:
        return None if has_pyav() else f"{suffix} ({NEEDS_PYAV})"
    return suffix or "without a suffix"


def _check_rate(rate: int) -> None:
    if not _LOWEST_RATE_HZ <= rate <= _HIGHEST_RATE_HZ:
        raise InputError(
            f"has a sampling rate of {rate} Hz, which is outside of {_LOWEST_RATE_HZ} to {_HIGHEST_RATE_HZ} Hz; export "
            "it again or remove it"
        )


def _check_duration(samples: int, rate: int) -> None:
    if not samples:
        raise InputError("holds no samples (empty, or cut short); copy it again or remove it")
    if samples < rate * WINDOW_MS / 1000:
        raise InputError(
            f"lasts {1000 * samples / rate:.1f} ms, shorter than one window of {WINDOW_MS:g} ms; remove it"
        )


def _average_channels(samples: Samples) -> Waveform:
    """Average the channels; refuse samples that hold no sound.

    Args:
        samples: samples [N, channels], N at least 1.

    Returns:
        Mono samples [N].

    Raises:
        InputError: the samples are no sound; the message is the end of a sentence that begins with the file's path.
    """
    if not np.isfinite(samples).all():
        raise InputError("holds NaN or infinite samples; export it again or remove it")
    peak = float(np.abs(samples).max())
    if peak == 0:
        raise InputError("is entirely digital silence; remove it")
    if peak > _HIGHEST_PEAK:
        raise InputError(
            f"has a peak of {peak:.6g}, far above full scale, which is 1 in float files (were 16-bit integers stored "
            "as float? then divide by 32768); export it again"
        )
    if not np.ptp(samples, axis=0).any():
        raise InputError("holds no sound but a constant (DC, or 8-bit silence); remove it")
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: Waveform = samples.mean(axis=1, dtype=np.float32)
    loudest_power = max(power_without_dc(channel) for channel in samples.T)
    if power_without_dc(mono) <= _CANCELLED_POWER * loudest_power:
        raise InputError("has channels that cancel each other (antiphase); export one channel")
    return mono


def drop_silence(
    waveform: Waveform, sampling_rate: int = SAMPLING_RATE, floor_db: float = -60.0, shortest_ms: int = 100
) -> Waveform:
    """Remove the silent stretches of a recording and join the rest.

    A stretch is silent if it lasts `shortest_ms` or longer and the power of each of its frames of 10 ms is zero, or at
    least `-floor_db` dB below the power of the recording's loudest frame. The power of a frame is measured without the
    frame's mean, so a constant is silence. Clips of short events are often padded with silence, and no signal-to-noise
    ratio is defined for an excerpt of silence.

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
    mean_T = np.add.reduceat(waveform, starts_T, dtype=np.float64) / samples_T
    without_dc = waveform - np.repeat(mean_T, samples_T)
    power_T = np.add.reduceat(np.square(without_dc), starts_T) / samples_T
    silent_T = power_T <= power_T.max() * 10 ** (floor_db / 10)
    # Each silent stretch begins and ends with a change, so changes come in pairs.
    changes = np.flatnonzero(np.diff(silent_T, prepend=False, append=False))
    keep_T = np.ones(len(starts_T), dtype=bool)
    for start, stop in changes.reshape(-1, 2):
        if (stop - start) * _FRAME_MS >= shortest_ms:
            keep_T[start:stop] = False
    active: Waveform = waveform[np.repeat(keep_T, samples_T)]
    return active

"""Decoders: from an audio file to all the samples that it holds, by libsndfile, or by PyAV for video containers.

The number of samples in a header is a claim or, for MP3, an estimate. Files are therefore read forward to the end of
their stream, and what was read is compared with what the file announces.
"""

import io
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sersearch.errors import InputError
from sersearch.speech.streams import CUT_SHORT, flac_ends_with_frame, mp3_frames, ogg_fault

Samples = NDArray[np.float32]
"""Samples of all channels [N, channels], full scale 1.0."""

SOUND_SUFFIXES = {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav"}
"""Suffixes of the files that libsndfile reads."""

CONTAINER_SUFFIXES = {
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".flv", ".m4a", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ts", ".webm", ".wma", ".wmv"),
}
"""Suffixes of the files that need PyAV."""

NEEDS_PYAV = "needs PyAV: install it with pip install 'sersearch[video]'"

_BLOCK_SAMPLES = 2**18
# libsndfile reports 2**63 - 1 samples if the header gives no length, and RFC 9639 allows no more than 2**36 in FLAC.
_UNKNOWN_LENGTH = 2**40
# A line of libsndfile's log, for WAV and CAF, AIFF, Wave64 or AU: the header announces more bytes than the file has.
# Programs that write to a pipe, and so can't write the size in advance, announce sizes near 2**31 or 2**32; these say
# nothing about the real size.
_SHORT_CHUNK = re.compile(r"^\s*(?:data|SSND|riff|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 2**31 - 2**16
# A line of libsndfile's log: the number of samples in a WAV file whose codec works in blocks. The last block is padded.
_FACT = re.compile(r"^fact : 4\s+frames\s*: (\d+)", re.MULTILINE)
_PADDED_SUBTYPES = {"GSM610", "IMA_ADPCM", "MS_ADPCM"}
# An MP3 encoder adds about 1,105 samples before and up to two frames after the sound; a decoder takes them off again.
_MP3_PADDING_FRAMES = 4
# Sound in a container may begin or end a little before or after what the container announces.
_CONTAINER_TOLERANCE_S = 0.1
_LFS_POINTER = b"version https://git-lfs.github.com"


class _ForwardSoundFile(soundfile.SoundFile):
    """A sound file that is read forward only.

    soundfile seeks after each read of a file that can seek, which is not exact for every codec, and never reads beyond
    the number of frames in the header.
    """

    def seekable(self) -> bool:
        """Keep soundfile from seeking."""
        return False


class _EndlessFile(io.RawIOBase):
    """A file that claims to be very long.

    libsndfile estimates the length of an MP3 stream without a Xing header from the size of the file and the bit rate of
    the first frame, and stops there. From this size it estimates more than there is, and reads to the end.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._is_at_end = False

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._is_at_end = whence == os.SEEK_END
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return 2**40 if self._is_at_end else self._file.tell()


def has_pyav() -> bool:
    """Tell whether PyAV is installed."""
    return find_spec("av") is not None


def read_samples(path: Path) -> tuple[Samples, int]:
    """Read all samples of an audio file, or of the first audio stream of a video container.

    Args:
        path: file in a format that libsndfile reads, or PyAV if it is installed.

    Returns:
        Samples [N, channels], and the sampling rate in Hz.

    Raises:
        InputError: the file can't be decoded, or is cut short.
    """
    try:
        if path.suffix.lower() in CONTAINER_SUFFIXES:
            return _read_container(path)
        # Unbuffered, so that the descriptor that libsndfile reads from stands where the file does.
        with path.open("rb", buffering=0) as file:
            return _read_sound(path, file)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is; split it into shorter files") from None
    except Exception as error:  # Decoders raise errors of many kinds, and each concerns this one file only.
        raise InputError(f"{path}: can't be decoded ({_reason(error)}); copy it again or remove it") from None


def _read_sound(path: Path, file: io.FileIO) -> tuple[Samples, int]:
    magic = file.read(len(_LFS_POINTER))
    if magic == _LFS_POINTER:
        raise InputError(f"{path}: is a Git LFS pointer and not the sound itself; run `git lfs pull`")
    file.seek(0)
    if magic.startswith(b"OggS"):
        if fault := ogg_fault(file.read()):
            raise InputError(f"{path}: {fault}; copy it again or remove it")
        file.seek(0)
    elif magic.startswith(b"ID3") or magic[:1] == b"\xff":
        return _read_mp3(path, file)
    with _ForwardSoundFile(file.fileno(), closefd=False) as sound:
        samples = _read_to_end(sound)
        _check_length(path, sound, len(samples))
        return _without_padding(path, sound, samples), sound.samplerate


def _read_mp3(path: Path, file: io.FileIO) -> tuple[Samples, int]:
    frames = mp3_frames(file.read())
    file.seek(0)
    has_length = frames is None or frames.has_length
    with _ForwardSoundFile(file.fileno() if has_length else _EndlessFile(file), closefd=False) as sound:
        samples = _read_to_end(sound)
        if has_length:
            _check_length(path, sound, len(samples))
        rate = sound.samplerate
    if frames is not None:
        if frames.is_cut:
            raise _cut_short(path, "its last MP3 frame is incomplete")
        unread = frames.samples - len(samples)
        if unread > _MP3_PADDING_FRAMES * frames.samples_per_frame:
            raise InputError(
                f"{path}: its header announces {len(samples)} samples, but the stream holds {frames.samples} (were MP3 "
                "files joined?); encode it again"
            )
    return samples, rate


def _read_to_end(sound: soundfile.SoundFile) -> Samples:
    """Read blocks until the decoder gives no more; the length in the header is not used."""
    blocks: list[Samples] = []
    block_frames = max(1, _BLOCK_SAMPLES // sound.channels)
    while True:
        block = sound.read(block_frames, dtype="float32", always_2d=True)
        blocks.append(block)
        if len(block) == 0:
            return np.concatenate(blocks)


def _check_length(path: Path, sound: soundfile.SoundFile, samples: int) -> None:
    """Compare what was read with what the file announces.

    Raises:
        InputError: the file announces more.
    """
    chunk = _SHORT_CHUNK.search(sound.extra_info)
    if chunk is not None and int(chunk[2]) < int(chunk[1]) < _UNKNOWN_SIZE:
        raise _cut_short(path, f"its header announces {chunk[1]} bytes, and {chunk[2]} are there")
    if sound.frames < _UNKNOWN_LENGTH:
        if samples < sound.frames:
            raise _cut_short(path, f"its header announces {sound.frames} samples, and {samples} are there")
    elif sound.format == "FLAC" and not flac_ends_with_frame(path.read_bytes()):
        raise _cut_short(path, "it does not end with a whole FLAC frame")


def _without_padding(path: Path, sound: soundfile.SoundFile, samples: Samples) -> Samples:
    """Remove the samples that fill the last block of a codec that works in blocks."""
    fact = _FACT.search(sound.extra_info)
    if sound.subtype not in _PADDED_SUBTYPES or fact is None or int(fact[1]) == 0:
        return samples
    announced = int(fact[1])
    if len(samples) < announced < _UNKNOWN_SIZE:
        raise _cut_short(path, f"its header announces {announced} samples, and {len(samples)} are there")
    return samples[:announced]


def _read_container(path: Path) -> tuple[Samples, int]:
    """Read the first audio stream of a container by PyAV."""
    if not has_pyav():
        raise InputError(f"{path}: {NEEDS_PYAV}")
    import av  # an optional dependency

    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise InputError(f"{path}: holds no audio stream; remove it")
        stream = container.streams.audio[0]
        blocks = list(_container_blocks(container, stream))
        rate = int(stream.rate or 0)
        announced_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), dtype=np.float32)
    if rate and len(samples) / rate < announced_s - _CONTAINER_TOLERANCE_S:
        raise _cut_short(path, f"it announces {announced_s:.2f} s of sound, and {len(samples) / rate:.2f} s are there")
    return samples, rate


def _container_blocks(container: Any, stream: Any) -> Iterator[Samples]:
    """Decode a stream; yield its samples [n, channels] frame by frame."""
    import av

    to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    for frame in container.decode(stream):
        for block in to_float.resample(frame):
            yield np.ascontiguousarray(block.to_ndarray().T, dtype=np.float32)
    for block in to_float.resample(None):
        yield np.ascontiguousarray(block.to_ndarray().T, dtype=np.float32)


def _cut_short(path: Path, evidence: str) -> InputError:
    return InputError(f"{path}: {CUT_SHORT} ({evidence}); copy it again or remove it")


def _reason(error: Exception) -> str:
    """Return what a decoder says, on one line."""
    text = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error) or type(error).__name__
    return " ".join(text.removeprefix("Error : ").split()).rstrip(".")

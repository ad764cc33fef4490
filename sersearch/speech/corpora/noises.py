"""Reading a noise library: any folder of audio, where the name of a clip is its path in the folder."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachetools import LRUCache

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, Waveform, audio_files, decode, drop_silence
from sersearch.speech.corpora.corpus import Refusal

SHORTEST_ACTIVE_MS = 100
_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class NoiseClip:
    """A usable clip of a noise library.

    Attributes:
        name: path of the clip, relative to the folder of the library.
        file_sha256: SHA-256 of the file.
        active_samples: number of samples at 16 kHz that are not silent.
    """

    name: str
    file_sha256: str
    active_samples: int


class NoiseLibrary(Mapping[str, Waveform]):
    """Maps a clip's name to its active signal: the clip without its silent stretches.

    A clip is decoded at its first use. The clips that were used last stay in memory, up to 512 MiB.
    """

    def __init__(self, folder: Path, clips: tuple[NoiseClip, ...], refused: tuple[Refusal, ...] = ()) -> None:
        """Create the library of the usable clips in a folder.

        Args:
            folder: folder of the library.
            clips: usable clips, sorted by name.
            refused: files of the folder that can't be used.
        """
        self.folder = folder
        self.clips = clips
        self.refused = refused
        self._names = {clip.name for clip in clips}
        self._signals: LRUCache[str, Waveform] = LRUCache(_CACHE_BYTES, getsizeof=lambda signal: signal.nbytes)

    def __getitem__(self, name: str) -> Waveform:
        """Return the active signal [N] of one clip.

        Raises:
            KeyError: the library has no such clip.
            InputError: the clip's file changed and can't be used any more.
        """
        if name not in self._names:
            raise KeyError(name)
        if name in self._signals:
            return self._signals[name]
        signal = active_signal(self.folder / name)
        if signal.nbytes <= _CACHE_BYTES:
            self._signals[name] = signal
        return signal

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the clips, sorted."""
        return (clip.name for clip in self.clips)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __reduce__(
        self,
    ) -> tuple[type["NoiseLibrary"], tuple[Path, tuple[NoiseClip, ...], tuple[Refusal, ...]]]:
        """Pickle the library without its decoded clips, to send it to another process."""
        return NoiseLibrary, (self.folder, self.clips, self.refused)


def read_noises(folder: Path, workers: int | None = None) -> NoiseLibrary:
    """Read a noise library, and decode every clip once to check that it can be used.

    Args:
        folder: any folder of audio.
        workers: number of threads; None for a few more than there are cores.

    Returns:
        The library; `refused` holds the clips that can't be decoded, or that are silent except for less than 100 ms.

    Raises:
        InputError: the folder holds no audio.
    """
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(partial(_clip, folder), audio_files(folder)))
    clips = tuple(result for result in results if isinstance(result, NoiseClip))
    refused = tuple(result for result in results if isinstance(result, Refusal))
    return NoiseLibrary(folder, clips, refused)


def active_signal(path: Path) -> Waveform:
    """Decode a clip of noise and remove its silent stretches.

    Returns:
        Samples [N] at 16 kHz.

    Raises:
        InputError: the clip can't be decoded, or less than 100 ms of it is not silent.
    """
    active = drop_silence(decode(path))
    if active.size * 1000 < SHORTEST_ACTIVE_MS * SAMPLING_RATE:
        active_ms = 1000 * active.size / SAMPLING_RATE
        raise InputError(
            f"{path}: only {active_ms:.0f} ms of it is not silent, and {SHORTEST_ACTIVE_MS} ms are needed; remove it"
        )
    return active


def _clip(folder: Path, path: Path) -> NoiseClip | Refusal:
    try:
        samples = active_signal(path).size
    except InputError as error:
        return Refusal(path, str(error).removeprefix(f"{path}: "))
    return NoiseClip(path.relative_to(folder).as_posix(), sha256_of(path), samples)

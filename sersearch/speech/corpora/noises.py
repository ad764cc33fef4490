"""Reading a noise library: any folder of audio, where the name of a clip is its path in the folder."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachetools import LRUCache

from sersearch.digests import sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import (
    SAMPLING_RATE,
    AudioFolder,
    Waveform,
    decode,
    describe_ignored,
    drop_silence,
    list_audio,
    no_audio,
)
from sersearch.speech.corpora.corpus import Refusal
from sersearch.speech.corpora.known_noises import known_noises

SHORTEST_ACTIVE_MS = 100
_CACHE_BYTES = 512 * 2**20
_NAMED_REFUSALS = 5


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

    def __init__(
        self,
        folder: Path,
        clips: tuple[NoiseClip, ...],
        refused: tuple[Refusal, ...] = (),
        ignored: Mapping[str, int] | None = None,
    ) -> None:
        """Create the library of the usable clips in a folder.

        Args:
            folder: folder of the library.
            clips: usable clips, sorted by name.
            refused: files of the folder that can't be used.
            ignored: number of files of the folder that are not read, by their kind; None if every file is read.
        """
        self.folder = folder
        self.clips = clips
        self.refused = refused
        self.ignored = dict(ignored or {})
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

    def take(self, names: Collection[str]) -> "NoiseLibrary":
        """Return the library of some of the clips."""
        return NoiseLibrary(self.folder, tuple(clip for clip in self.clips if clip.name in names))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the clips, sorted."""
        return (clip.name for clip in self.clips)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __reduce__(
        self,
    ) -> tuple[type["NoiseLibrary"], tuple[Path, tuple[NoiseClip, ...], tuple[Refusal, ...], dict[str, int]]]:
        """Pickle the library without its decoded clips, to send it to another process."""
        return NoiseLibrary, (self.folder, self.clips, self.refused, self.ignored)


def read_noises(
    folder: Path,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    library: str | None = None,
) -> NoiseLibrary:
    """Read a noise library, and decode every clip once to check that it can be used.

    Args:
        folder: any folder of audio.
        workers: number of threads; None for a few more than there are cores.
        progress: called with (files decoded, files in total) after each file.
        library: name of a library of the catalogue (`known_noises`), of which only the noises are read; None for any
            folder, of which all audio is.

    Returns:
        The library; `refused` holds the clips that can't be decoded, that hold nothing but a constant, or that are
        silent except for less than 100 ms. `ignored` counts the files that are not read by their kind. Every file of
        the folder is a clip, or refused, or ignored.

    Raises:
        InputError: the folder holds no audio, or none of its clips can be used; the message gives the reasons.
    """
    listing = list_audio(folder)
    if not listing.files:
        raise no_audio(folder, listing.ignored)
    if library:
        listing = _select(listing, folder, library)
    with ThreadPoolExecutor(workers) as pool:
        results = []
        for result in pool.map(partial(_clip, folder), listing.files):
            results.append(result)
            if progress:
                progress(len(results), len(listing.files))
    clips = tuple(result for result in results if isinstance(result, NoiseClip))
    refused = tuple(result for result in results if isinstance(result, Refusal))
    if not clips:
        not_read = f"; not read: {describe_ignored(listing.ignored)}" if listing.ignored else ""
        raise InputError(
            f"{folder}: none of its {len(refused)} clips can be used as noise: {summarise_refusals(refused, folder)}"
            f"{not_read}; give another folder"
        )
    return NoiseLibrary(folder, clips, refused, listing.ignored)


def _select(listing: AudioFolder, folder: Path, library: str) -> AudioFolder:
    """Leave out what is no noise of a known library, and count it as not read."""
    known = known_noises()[library]
    # The folder's own name may be a part of the pattern.
    root = folder.resolve().name
    noises = tuple(path for path in listing.files if known.kind(f"{root}/{path.relative_to(folder).as_posix()}"))
    if not noises:
        raise InputError(
            f"{folder}: none of its {len(listing.files)} audio files is a noise of {known.title}; give the folder that "
            f"holds files such as {known.example}"
        )
    left_out = len(listing.files) - len(noises)
    unused = {f"audio that {library} leaves out": left_out} if left_out else {}
    return AudioFolder(noises, {**listing.ignored, **unused})


def summarise_refusals(refused: Sequence[Refusal], folder: Path) -> str:
    """Name the first refused files of a folder with their reasons, and count the others.

    Args:
        refused: refused files, at least one.
        folder: folder that holds the files.

    Returns:
        One line, such as "rain.wav: is entirely digital silence; wind.wav: is cut short; and 3 more".
    """
    parts: list[str] = []
    for refusal in refused[:_NAMED_REFUSALS]:
        reason = refusal.reason.removesuffix("; remove it")
        parts.append(f"{refusal.path.relative_to(folder).as_posix()}: {reason}")
    if len(refused) > _NAMED_REFUSALS:
        parts.append(f"and {len(refused) - _NAMED_REFUSALS} more")
    return "; ".join(parts)


def active_signal(path: Path) -> Waveform:
    """Decode a clip of noise and remove its silent stretches.

    Returns:
        Samples [N] at 16 kHz.

    Raises:
        InputError: the clip can't be decoded, or less than 100 ms of it is not silent.
    """
    active = drop_silence(decode(path))
    if not active.size:
        raise InputError(f"{path}: holds no sound but a constant in each stretch; remove it")
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
    name = path.relative_to(folder).as_posix()
    if not _is_utf8(name):
        return Refusal(path, "has a name that is not UTF-8; rename it")
    return NoiseClip(name, sha256_of(path), samples)


def _is_utf8(name: str) -> bool:
    """Tell whether a name can be written to a store; bytes that are not UTF-8 come from a file system as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

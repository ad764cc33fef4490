"""Reading impulse responses: any folder of audio, where the name of a response is its path in the folder."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from sersearch.digests import digest, sha256_of
from sersearch.errors import InputError
from sersearch.speech.audio import Waveform, list_audio, no_audio, read_sound

_CACHED = 256


class ImpulseResponses(Mapping[str, Waveform]):
    """Maps the name of an impulse response to its samples [N] at 16 kHz.

    A response is decoded when it is used; those that were used last stay in memory.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], content: str, ignored: Mapping[str, int]) -> None:
        """Create the library.

        Args:
            folder: folder of the responses.
            names: paths of the responses in the folder, sorted.
            content: hash of their names and files.
            ignored: number of files of the folder that are not read, by their kind.
        """
        self.folder = folder
        self.names = names
        self.content = content
        self.ignored = ignored

    def __getitem__(self, name: str) -> Waveform:
        """Return one response.

        Raises:
            KeyError: there is no such response.
            InputError: its file changed and can't be used any more.
        """
        if name not in self.names:
            raise KeyError(name)
        return read_impulse(self.folder / name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(self.names)

    def __len__(self) -> int:
        """Count the responses."""
        return len(self.names)


def read_impulses(folder: Path) -> ImpulseResponses:
    """Read a folder of impulse responses, and decode each once to check that it can be used.

    Raises:
        InputError: the folder holds no audio, or a file can't be used.
    """
    listing = list_audio(folder)
    if not listing.files:
        raise no_audio(folder, listing.ignored)
    names = tuple(path.relative_to(folder).as_posix() for path in listing.files)
    for path in listing.files:
        read_impulse(path)
    facts = [[name, sha256_of(path)] for name, path in zip(names, listing.files, strict=True)]
    return ImpulseResponses(folder, names, digest(facts), listing.ignored)


@lru_cache(maxsize=_CACHED)
def read_impulse(path: Path) -> Waveform:
    """Decode one impulse response: samples [N] at 16 kHz.

    Raises:
        InputError: the file can't be decoded, or has several channels.
    """
    sound = read_sound(path)
    if sound.file_channels > 1:
        raise InputError(
            f"{path}: has {sound.file_channels} channels, and their mean is no impulse response of a room; export one"
        )
    return sound.waveform

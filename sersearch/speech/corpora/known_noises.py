"""Noise libraries whose layout is known: one TOML file in `noise_catalogue` describes each, as `known` does corpora."""

from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel, ConfigDict

from sersearch.speech.corpora.catalogues import match_end, read_catalogue


class KnownNoises(BaseModel):
    """A noise library as it is distributed.

    Attributes:
        title: full name.
        reference: the publication that describes it.
        source: where it can be had.
        licence: under which it can be used.
        example: a path, to show how it is laid out.
        pattern: regular expression for the end of a path, without suffix; its groups are the kind of noise, and the
            part of the library if it has several.
        kept: the parts that are noise unless others are asked for; empty for a library without parts.
        variants: other selections of parts; "NAME-VARIANT" names one.
        kinds: kind of each code in the pattern's group; a code that is not in it is the kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    reference: str
    source: str
    licence: str
    example: str
    pattern: str
    kept: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]] = {}
    kinds: dict[str, str] = {}

    def kind(self, name: str) -> str | None:
        """The kind of a clip, given its path; None for a file that is none of the library's noises.

        Example:
            >>> known_noises()["esc-50"].kind("audio/1-100032-A-0.wav")
            'dog'
        """
        match = match_end(self.pattern, name.rpartition(".")[0])
        if match is None:
            return None
        fields = match.groupdict()
        if self.kept and fields["part"] not in self.kept:
            return None
        return self.kinds.get(fields["kind"], fields["kind"])


@cache
def known_noises() -> Mapping[str, KnownNoises]:
    """All noise libraries of the catalogue and their variants, by name."""
    libraries: dict[str, KnownNoises] = {}
    for name, library in read_catalogue("noise_catalogue", KnownNoises).items():
        libraries[name] = library
        for variant, parts in library.variants.items():
            changed = {"kept": parts, "variants": {}}
            libraries[f"{name}-{variant}"] = library.model_copy(update=changed)
    return libraries

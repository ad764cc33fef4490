"""Codecs that speech passes through: each is a round trip through a format that libsndfile writes and reads."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr

from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, Waveform

_HIGHEST_PEAK = 0.99


@dataclass(frozen=True)
class Format:
    """How a codec is written by libsndfile.

    Attributes:
        container: libsndfile's name of the format of the file.
        subtype: libsndfile's name of the codec.
        rate: sampling rate in Hz.
        kbps: lowest and highest bit rate in kbit/s, where there is a choice; between them, the compression level that
            libsndfile takes falls in a straight line from 1 to 0.
        kbps_of_level_1: bit rate of the compression level 1.
    """

    container: str
    subtype: str
    rate: int = SAMPLING_RATE
    kbps: tuple[int, int] | None = None
    kbps_of_level_1: int = 0

    def options(self, kbps: int | None) -> dict[str, Any]:
        """The options of `soundfile.write` for a bit rate."""
        if kbps is None or self.kbps is None:
            return {}
        highest = self.kbps[1]
        level = (highest - kbps) / (highest - self.kbps_of_level_1)
        # libsndfile knows no bit rate mode for Opus, which is the only other one.
        mode = {"bitrate_mode": "CONSTANT"} if self.container == "MP3" else {}
        return {"compression_level": level, **mode}


CODECS = {
    "a-law": Format("WAV", "ALAW", 8_000),
    "gsm": Format("WAV", "GSM610", 8_000),
    # Below 40 kbit/s LAME's tag does not fit into a frame, and the decoder does not know the encoder's delay.
    "mp3": Format("MP3", "MPEG_LAYER_III", kbps=(40, 160), kbps_of_level_1=8),
    "mu-law": Format("WAV", "ULAW", 8_000),
    "opus": Format("OGG", "OPUS", kbps=(6, 256), kbps_of_level_1=6),
    "vorbis": Format("OGG", "VORBIS"),
}
"""The codecs by name: a-law, mu-law and GSM 6.10 as on a telephone, Ogg Vorbis at libsndfile's default quality."""


def parse_codec(text: str) -> tuple[Format, int | None]:
    """Read the name of a codec with its bit rate, such as "gsm" or "opus@16".

    Raises:
        InputError: there is no such codec, it has no such bit rate, or libsndfile lacks it.
    """
    name, separator, rate = text.partition("@")
    if name not in CODECS:
        raise InputError(f"codec {text}: there is no such codec; choose from {', '.join(map(_form, CODECS))}")
    form = CODECS[name]
    if not soundfile.check_format(form.container, form.subtype):
        version = soundfile.__libsndfile_version__
        raise InputError(f"codec {text}: libsndfile {version} can't write it; update soundfile, or choose another")
    if form.kbps is None:
        if separator:
            raise InputError(f"codec {text}: {name} has no choice of bit rates; write {name}")
        return form, None
    low, high = form.kbps
    if not rate.isdecimal() or not low <= int(rate) <= high:
        raise InputError(f"codec {text}: write {name}@KBPS with a bit rate from {low} to {high}, as in {name}@{low}")
    return form, int(rate)


def _form(name: str) -> str:
    return f"{name}@KBPS" if CODECS[name].kbps else name


def pass_through(waveform: Waveform, codec: str) -> Waveform:
    """Encode and decode a waveform.

    A waveform that exceeds full scale is scaled down before and up again after, because codecs clip.

    Args:
        waveform: samples [N] at 16 kHz.
        codec: its name, as in `parse_codec`.

    Returns:
        Samples [N], float32, in time with the given ones.
    """
    form, kbps = parse_codec(codec)
    scale = max(1.0, float(np.abs(waveform).max()) / _HIGHEST_PEAK)
    sent = _resample(waveform / np.float32(scale), SAMPLING_RATE, form.rate)
    file = io.BytesIO()
    soundfile.write(file, sent, form.rate, format=form.container, subtype=form.subtype, **form.options(kbps))
    file.seek(0)
    received, _ = soundfile.read(file, dtype="float32")
    decoded = _resample(received, form.rate, SAMPLING_RATE) * np.float32(scale)
    # Codecs work in blocks, the last of which is filled up.
    fitted = np.zeros_like(waveform)
    samples = min(waveform.size, decoded.size)
    fitted[:samples] = decoded[:samples]
    return fitted


def _resample(waveform: Waveform, rate: int, to_rate: int) -> Waveform:
    if rate == to_rate:
        return waveform
    resampled: Waveform = soxr.resample(waveform, rate, to_rate, quality="VHQ")
    return resampled

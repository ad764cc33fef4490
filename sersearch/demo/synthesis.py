"""Generated emotional speech and noise, so that the demo needs no download and no licence.

The speech is synthesised by espeak-ng, which is free software under the GPL. This package neither ships espeak-ng nor
loads it into the same process: it comes with the wheel `espeakng-loader` of the extra `sersearch[demo]`, and a separate
process calls its C interface (espeak-ng/speak_lib.h). The emotions are caricatures made of rate, pitch, pitch range and
loudness. They show how the program works and say nothing about people.
"""

import csv
import ctypes
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from sersearch.errors import InputError

Waveform = npt.NDArray[np.float64]

SAMPLING_RATE_HZ = 16_000

SENTENCES = (
    "The kettle is still on the table.",
    "They will be here in seven minutes.",
    "I left the blue coat in the car.",
    "Somebody opened the window again.",
    "The letter was lying by the door.",
    "We are going to the station now.",
    "There is a dog in the garden.",
    "He told me about it on Monday.",
)

# espeak-ng's voice variants without echo, whisper or an overdriven voice. Speakers are female and male in turn.
VARIANTS = {
    "female": ("f1", "f2", "f3", "f4", "f5", "Annie", "linda", "belinda", "steph", "aunty"),
    "male": ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Denis", "Andy"),
}
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")


class Prosody(NamedTuple):
    """A way of speaking.

    Attributes:
        rate_wpm: speaking rate in words per minute.
        pitch: mean pitch on espeak-ng's scale of 0 to 99.
        pitch_range: pitch range on espeak-ng's scale of 0 to 99.
        level_db: root mean square level in dB, relative to full scale.
    """

    rate_wpm: float
    pitch: float
    pitch_range: float
    level_db: float


# EMOTIONS is added to a speaker's mean prosody, and SPREAD is the standard deviation of single utterances. They are
# chosen so that the task is neither trivial nor hopeless: a linear classifier on statistics of log-Mels has an
# unweighted average recall of 60 to 77 % on new speakers, depending on the seed.
EMOTIONS = {
    "anger": Prosody(rate_wpm=20, pitch=0, pitch_range=15, level_db=7),
    "disgust": Prosody(rate_wpm=-15, pitch=-18, pitch_range=0, level_db=-1),
    "fear": Prosody(rate_wpm=30, pitch=18, pitch_range=-20, level_db=-4),
    "happiness": Prosody(rate_wpm=10, pitch=16, pitch_range=20, level_db=4),
    "sadness": Prosody(rate_wpm=-30, pitch=-10, pitch_range=-25, level_db=-7),
    "surprise": Prosody(rate_wpm=0, pitch=34, pitch_range=35, level_db=1),
}
SPREAD = Prosody(rate_wpm=12, pitch=5, pitch_range=10, level_db=1.2)

# Mean and standard deviation of the speakers' mean prosody. Speakers also differ in voice variant and accent. A level
# of -26 dB leaves room for the loudest anger.
SPEAKER_MEAN = Prosody(rate_wpm=175, pitch=45, pitch_range=50, level_db=-26)
SPEAKER_SPREAD = Prosody(rate_wpm=10, pitch=6, pitch_range=6, level_db=1)

README = """SYNTHETIC. No human being speaks here, and nothing was recorded.

{content}

Made by sersearch.demo.synthesis with seed {seed}: the same seed gives the same samples. It shows how the programs
work and says nothing about emotion in human speech: don't report results on it.
"""

CORPUS_CONTENT = """Speech of espeak-ng, a rule-based synthesiser: its voice variants and English accents are
the speakers. {speakers} speakers x {emotions} emotions x {utterances} utterances, 16 kHz, 16 bit, mono FLAC.
The emotions differ in rate, pitch, pitch range and loudness, drawn for every utterance from overlapping
distributions; a speaker says the same sentences in every emotion. manifest.csv lists the files."""

NOISE_CONTENT = """{clips} noises of {duration_s:g} s, 16 kHz, 16 bit, mono FLAC, each named after its kind:
{kinds}.
The babble is speech of espeak-ng, a rule-based synthesiser; all others are computed from random numbers."""


def synthesise_corpus(
    folder: Path,
    speakers: int = 12,
    utterances: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a corpus of generated emotional speech: FLAC files, `manifest.csv`, and a README.txt that says "synthetic".

    Each speaker says `utterances` sentences in each of the paper's six emotions (Sec. 5.1). The files are 16 kHz,
    16 bit, mono. The manifest is written last, so a corpus with a manifest is complete. The utterances of a speaker
    depend only on the seed and on the speaker's number, so a larger corpus begins with the speakers of a smaller one.

    Args:
        folder: folder of the corpus; it is created if necessary.
        speakers: number of speakers, female and male in turn.
        utterances: number of utterances per speaker and emotion.
        seed: seed of all draws; the same seed gives the same samples.
        progress: called with (utterances written, utterances in total) after each utterance.

    Raises:
        InputError: espeakng-loader is not installed, a count is below 1, or the seed is below 0.
    """
    _check(seed, speakers=speakers, utterances=utterances)
    content = CORPUS_CONTENT.format(speakers=speakers, emotions=len(EMOTIONS), utterances=utterances)
    _write_readme(folder, content, seed)
    (folder / "manifest.csv").unlink(missing_ok=True)
    total = speakers * len(EMOTIONS) * utterances
    rows: list[tuple[str, str, str, str, str]] = []
    for index in range(speakers):
        speaker = f"s{index + 1:02d}"
        (folder / speaker).mkdir(exist_ok=True)
        for (emotion, number), waveform in _speaker_utterances(index, utterances, seed).items():
            utterance = f"{speaker}-{emotion}-{number}"
            _write(folder / speaker / f"{utterance}.flac", waveform)
            rows.append((f"{speaker}/{utterance}.flac", speaker, emotion, _gender(index), utterance))
            if progress:
                progress(len(rows), total)
    _write_manifest(folder, rows)


def _write_manifest(folder: Path, rows: Sequence[tuple[str, str, str, str, str]]) -> None:
    unfinished = folder / "manifest.csv.part"
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "speaker", "emotion", "gender", "utterance"), *rows])
    unfinished.replace(folder / "manifest.csv")


def synthesise_noises(folder: Path, clips: int = 12, duration_s: float = 4.0, seed: int = 0) -> None:
    """Write generated noises, `KIND-NUMBER.flac`, and a README.txt that calls them synthetic.

    The kinds take turns: white, pink and brown noise, mains hum, babble of generated speech, rain, chirps, engine. The
    files are 16 kHz, 16 bit, mono. Their level is -20 dB relative to full scale, or lower if the peaks would clip.

    Args:
        folder: folder of the noises; it is created if necessary.
        clips: number of clips.
        duration_s: duration of each clip in seconds.
        seed: seed of all draws; the same seed gives the same samples.

    Raises:
        InputError: espeakng-loader is not installed, `clips` < 1, `duration_s` < 0.1 or infinite, or `seed` < 0.
    """
    _check(seed, clips=clips)
    if not 0.1 <= duration_s < np.inf:
        raise InputError(f"duration_s = {duration_s}: the duration of a noise must be 0.1 s or more, and finite")
    _write_readme(folder, NOISE_CONTENT.format(clips=clips, duration_s=duration_s, kinds=", ".join(NOISES)), seed)
    samples = round(duration_s * SAMPLING_RATE_HZ)
    kinds = list(NOISES)
    for clip in range(clips):
        lap, place = divmod(clip, len(kinds))
        kind = kinds[place]
        generate = NOISES[kind]
        noise = generate(samples, np.random.default_rng([seed, 1, clip]))
        _write(folder / f"{kind}-{lap + 1}.flac", _at_level(noise, -20.0))


def _check(seed: int, **counts: int) -> None:
    if seed < 0:
        raise InputError(f"seed = {seed}: a seed can't be negative; give 0 or more")
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} = {count}: at least one is needed; give 1 or more")
    if find_spec("espeakng_loader") is None:
        raise InputError(
            "espeakng-loader is not installed, and generated speech needs it; run pip install 'sersearch[demo]'"
        )


def _write_readme(folder: Path, content: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(README.format(content=content, seed=seed), encoding="utf-8")


def _write(path: Path, waveform: Waveform) -> None:
    soundfile.write(path, waveform, SAMPLING_RATE_HZ, subtype="PCM_16")


def _at_level(waveform: Waveform, level_db: float) -> Waveform:
    """Scale to a root mean square of `level_db` relative to full scale, or to less if peaks would exceed 0.99."""
    gain = 10 ** (level_db / 20) / float(np.sqrt(np.mean(waveform**2)))
    largest_gain = 0.99 / float(np.abs(waveform).max())
    return waveform * min(gain, largest_gain)


class Line(NamedTuple):
    """A sentence, and how espeak-ng says it.

    Attributes:
        text: the sentence.
        voice: espeak-ng's name of the voice.
        rate_wpm: speaking rate in words per minute.
        pitch: mean pitch, 0 to 99.
        pitch_range: pitch range, 0 to 99.
    """

    text: str
    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def _gender(speaker: int) -> str:
    return ("female", "male")[speaker % 2]


def _voice(speaker: int) -> str:
    variants = VARIANTS[_gender(speaker)]
    lap, place = divmod(speaker // 2, len(variants))
    return f"{ACCENTS[(place + lap) % len(ACCENTS)]}+{variants[place]}"


def _draw(mean: Prosody, spread: Prosody, rng: np.random.Generator) -> Prosody:
    return Prosody(*rng.normal(mean, spread))


def _line(text: str, voice: str, prosody: Prosody) -> Line:
    """Limit a prosody to the ranges that espeak-ng accepts."""
    return Line(
        text=text,
        voice=voice,
        rate_wpm=int(np.clip(prosody.rate_wpm, 100, 300)),
        pitch=int(np.clip(prosody.pitch, 0, 99)),
        pitch_range=int(np.clip(prosody.pitch_range, 0, 99)),
    )


def _speaker_utterances(speaker: int, utterances: int, seed: int) -> dict[tuple[str, int], Waveform]:
    """Synthesise all utterances of one speaker, who says the same sentences in every emotion.

    Returns:
        Waveforms by (emotion, number of the utterance, from 1).
    """
    rng = np.random.default_rng([seed, 0, speaker])
    speaker_mean = _draw(SPEAKER_MEAN, SPEAKER_SPREAD, rng)
    lines: list[Line] = []
    levels_db: list[float] = []
    keys = [(emotion, number) for emotion in EMOTIONS for number in range(1, utterances + 1)]
    for emotion, number in keys:
        mean = Prosody(*np.add(speaker_mean, EMOTIONS[emotion]))
        prosody = _draw(mean, SPREAD, rng)
        sentence = SENTENCES[(speaker + number) % len(SENTENCES)]
        lines.append(_line(sentence, _voice(speaker), prosody))
        levels_db.append(prosody.level_db)
    spoken = _speak(lines, int(rng.integers(2**31)))
    waveforms = map(_at_level, spoken, levels_db)
    return dict(zip(keys, waveforms, strict=True))


def _speak(lines: Sequence[Line], seed: int) -> list[Waveform]:
    """Synthesise each line at 16 kHz in a new process.

    espeak-ng carries phases and random numbers over from one sentence to the next, even through espeak_Terminate, so
    only a new process gives the same samples again.
    """
    command = [sys.executable, "-P", "-m", "sersearch.demo.synthesis"]
    process = subprocess.run(command, input=json.dumps([seed, lines]).encode(), capture_output=True)
    if process.returncode:
        raise RuntimeError(f"espeak-ng failed: {process.stderr.decode(errors='replace').strip()}")
    header, pcm = process.stdout.split(b"\n", 1)
    sampling_rate_hz, *sizes = json.loads(header)
    samples = np.frombuffer(pcm, dtype=np.int16) / 32768
    waveforms = np.split(samples, np.cumsum(sizes)[:-1])
    return [soxr.resample(waveform, sampling_rate_hz, SAMPLING_RATE_HZ) for waveform in waveforms]


def _main() -> None:
    """Synthesise the lines on standard input; write their sampling rate and sizes, then their 16-bit samples."""
    seed, lines = json.load(sys.stdin)
    sampling_rate_hz, pcm = _espeak([Line(*line) for line in lines], seed)
    header = json.dumps([sampling_rate_hz, *(len(line) // 2 for line in pcm)])
    sys.stdout.buffer.write(header.encode() + b"\n" + b"".join(pcm))


def _espeak(lines: Sequence[Line], seed: int) -> tuple[int, list[bytes]]:
    """Call espeak-ng's C interface; return the sampling rate in Hz, and the 16-bit samples of each line."""
    loader = importlib.import_module("espeakng_loader")
    library = ctypes.CDLL(loader.get_library_path())
    synchronous, dont_exit, characters, utf8 = 2, 0x8000, 1, 1
    sampling_rate_hz = library.espeak_Initialize(synchronous, 0, loader.get_data_path().encode(), dont_exit)
    if sampling_rate_hz <= 0:
        raise RuntimeError(f"espeak_Initialize returned {sampling_rate_hz}")
    pieces: list[bytes] = []

    def collect(samples: int | None, count: int, events: int | None) -> int:
        if samples:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(collect)
    library.espeak_SetSynthCallback(callback)
    # Without a seed, espeak-ng seeds its random numbers with the time of day.
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    spoken: list[bytes] = []
    for line in lines:
        _set_voice(library, line)
        text = line.text.encode()
        status = library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, characters, 0, utf8, None, None)
        if status:
            raise RuntimeError(f"espeak_Synth returned {status} for {line}")
        spoken.append(b"".join(pieces))
        pieces.clear()
    return sampling_rate_hz, spoken


def _set_voice(library: ctypes.CDLL, line: Line) -> None:
    status = library.espeak_SetVoiceByName(line.voice.encode())
    if status:
        raise RuntimeError(f"espeak_SetVoiceByName returned {status} for {line.voice}")
    # At espeak-ng's default volume of 100, the louder voice variants clip.
    rate, volume, pitch, pitch_range = 1, 2, 3, 4
    settings = {rate: line.rate_wpm, volume: 50, pitch: line.pitch, pitch_range: line.pitch_range}
    for parameter, value in settings.items():
        library.espeak_SetParameter(parameter, value, 0)


def _coloured(samples: int, rng: np.random.Generator, slope: float) -> Waveform:
    """Generate noise whose power falls as 1 / frequency ** slope, from 20 Hz up."""
    frequencies_hz = np.fft.rfftfreq(samples, 1 / SAMPLING_RATE_HZ)
    spectrum = np.fft.rfft(rng.normal(size=samples)) / np.maximum(frequencies_hz, 20.0) ** (slope / 2)
    spectrum[0] = 0.0
    waveform: Waveform = np.fft.irfft(spectrum, samples)
    return waveform


def _hum(samples: int, rng: np.random.Generator) -> Waveform:
    """Generate mains hum: 50 or 60 Hz and 31 harmonics, over faint white noise."""
    harmonics = np.arange(1, 33)[:, None]
    amplitudes = rng.uniform(0.2, 1.0, size=harmonics.shape) / harmonics
    phases = rng.uniform(0, 2 * np.pi, size=harmonics.shape)
    time_s = np.arange(samples) / SAMPLING_RATE_HZ
    tones = amplitudes * np.sin(2 * np.pi * rng.choice([50.0, 60.0]) * harmonics * time_s + phases)
    waveform: Waveform = tones.sum(axis=0) + 0.02 * rng.normal(size=samples)
    return waveform


def _babble(samples: int, rng: np.random.Generator) -> Waveform:
    """Generate babble: six voices at once, which say all sentences in different orders and prosodies."""
    lines = [
        _line(str(text), _voice(int(speaker)), _draw(SPEAKER_MEAN, SPEAKER_SPREAD, rng))
        for speaker in rng.choice(20, size=6, replace=False)
        for text in rng.permutation(SENTENCES)
    ]
    spoken = _speak(lines, int(rng.integers(2**31)))
    babble = np.zeros(samples)
    for at in range(0, len(spoken), len(SENTENCES)):
        voice = np.concatenate(spoken[at : at + len(SENTENCES)])
        babble += _at_level(np.resize(voice, samples), -30.0)
    return babble


def _rain(samples: int, rng: np.random.Generator) -> Waveform:
    """Generate rain: drops at random moments, each a short decaying burst of noise, over faint white noise."""
    drops = np.where(rng.random(samples) < 60 / SAMPLING_RATE_HZ, rng.exponential(size=samples), 0.0)
    burst = rng.normal(size=480) * np.exp(-np.arange(480) / 60)
    return np.convolve(drops, burst)[:samples] + 0.05 * rng.normal(size=samples)


def _chirps(samples: int, rng: np.random.Generator) -> Waveform:
    """Generate bird-like chirps: five sweeps per second between 2 and 6 kHz, over faint white noise."""
    waveform = 0.01 * rng.normal(size=samples)
    for start in range(0, samples, SAMPLING_RATE_HZ // 5):
        size = min(int(rng.integers(800, 3200)), samples - start)
        frequencies_hz = np.linspace(rng.uniform(2000, 6000), rng.uniform(2000, 6000), size)
        sweep = np.sin(2 * np.pi * np.cumsum(frequencies_hz) / SAMPLING_RATE_HZ)
        waveform[start : start + size] += rng.uniform(0.3, 1.0) * np.hanning(size) * sweep
    return waveform


def _engine(samples: int, rng: np.random.Generator) -> Waveform:
    """Generate an engine: brown noise and a buzz that beat at a slowly varying firing rate of 20 to 40 Hz."""
    time_s = np.arange(samples) / SAMPLING_RATE_HZ
    wander = 1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * time_s + rng.uniform(0, 2 * np.pi))
    cycles = np.cumsum(rng.uniform(20, 40) * wander) / SAMPLING_RATE_HZ
    rumble = _coloured(samples, rng, 1.5)
    sawtooth = 2 * (cycles % 1) - 1
    waveform: Waveform = (1 + np.cos(2 * np.pi * cycles)) * (rumble / rumble.std() + sawtooth)
    return waveform


NOISES: dict[str, Callable[[int, np.random.Generator], Waveform]] = {
    "white": partial(_coloured, slope=0.0),
    "pink": partial(_coloured, slope=1.0),
    "brown": partial(_coloured, slope=2.0),
    "hum": _hum,
    "babble": _babble,
    "rain": _rain,
    "chirps": _chirps,
    "engine": _engine,
}


if __name__ == "__main__":
    _main()

"""Odd files of real corpora, each with what is right (SERSEARCH_CASES), and their kinds made anew."""

import os
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.audio import SAMPLING_RATE, decode, list_audio, power_without_dc, read_sound
from sersearch.speech.augment import mix
from sersearch.speech.corpora import read_noises

WHOLE_S = 3.130187
HISS = 0.1 * np.random.default_rng(0).standard_normal(SAMPLING_RATE).astype(np.float32)


@pytest.mark.parametrize("name", ["no-xing.mp3", "gsm.wav", "streamed.wav"])
def test_a_file_whose_length_is_not_known_is_read_whole(cases_dir: Path, name: str) -> None:
    # A codec's padding is at most two of its blocks: 2 x 1,152 samples at 44.1 kHz, 2 x 320 at 8 kHz.
    assert decode(cases_dir / name).size / SAMPLING_RATE == pytest.approx(WHOLE_S, abs=0.08)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut.ogg", "is cut short"),
        ("cut.opus", "is cut short"),
        ("int16-scale-float.wav", "far above full scale"),
        ("constant-noise.wav", "holds no sound but a constant"),
        ("silence-8bit-0x7f.wav", "holds no sound but a constant"),
    ],
)
def test_a_file_that_would_be_read_wrongly_is_refused_by_name(cases_dir: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        decode(cases_dir / name)
    assert str(caught.value).startswith(f"{cases_dir / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("noise", ["dc-noise.wav", "noise-without-dc.wav"])
@pytest.mark.parametrize("speech", ["dc-speech.wav", "streamed.wav"])
@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 15.0])
def test_an_snr_is_met_without_dc(cases_dir: Path, speech: str, noise: str, snr_db: float) -> None:
    clean, added = decode(cases_dir / speech), decode(cases_dir / noise)
    noisy = mix(clean, np.resize(added, clean.size), snr_db)
    measured_db = 10 * np.log10(power_without_dc(clean) / np.var(noisy.astype(np.float64) - clean))
    assert measured_db == pytest.approx(snr_db, abs=0.01)
    assert np.mean(noisy, dtype=np.float64) == pytest.approx(np.mean(clean, dtype=np.float64), abs=1e-6)


def test_a_noise_library_of_constants_says_why_none_is_used(cases_dir: Path, tmp_path: Path) -> None:
    for name in ("constant-noise.wav", "silence-8bit-0x7f.wav"):
        (tmp_path / name).write_bytes((cases_dir / name).read_bytes())
    with pytest.raises(InputError, match="holds no sound but a constant"):
        read_noises(tmp_path)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3", ".flac", ".wav", ".aiff", ".caf", ".w64", ".au"])
@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_cut_file_is_refused_in_every_format(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"cut{suffix}"
    kind = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS")}.get(suffix, (None, None))
    soundfile.write(path, np.tile(HISS, 3), SAMPLING_RATE, format=kind[0], subtype=kind[1])
    whole = path.read_bytes()
    assert decode(path).size == pytest.approx(3 * SAMPLING_RATE, abs=2_400)
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match=r"cut short|can't be decoded|announces"):
        decode(path)


def test_a_header_that_claims_too_much_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "claims.flac"
    soundfile.write(path, HISS, SAMPLING_RATE)
    content = bytearray(path.read_bytes())
    # STREAMINFO's number of samples: the low 4 bits of byte 21, and bytes 22 to 25.
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"claims\.flac: "):
        decode(path)


def is_sound_or_refused(path: Path) -> bool:
    try:
        return bool(np.isfinite(decode(path)).all())
    except InputError as error:
        return str(error).startswith(f"{path}: ") and "\n" not in str(error)


@given(st.data())
def test_damaged_bytes_are_sound_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    format_, subtype = data.draw(
        st.sampled_from([("WAV", "PCM_16"), ("WAV", "GSM610"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)])
    )
    buffer = BytesIO()
    soundfile.write(buffer, HISS[:8_000], 8_000, format=format_, subtype=subtype)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / f"fuzzed.{format_.lower()}"
    path.write_bytes(content)
    assert is_sound_or_refused(path)


def test_linked_folders_are_followed_once_and_all_files_are_accounted_for(tmp_path: Path) -> None:
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    for folder, name in [(corpus / "s1", "a.wav"), (elsewhere / "s2", "b.wav"), (elsewhere / "s2" / "deep", "c.wav")]:
        folder.mkdir(parents=True)
        soundfile.write(folder / name, HISS, SAMPLING_RATE)
    (corpus / "s2").symlink_to(elsewhere / "s2")
    (corpus / "again").symlink_to(elsewhere / "s2")
    (elsewhere / "s2" / "cycle").symlink_to(corpus)
    (corpus / "notes.txt").write_text("said")
    (corpus / ".hidden.wav").write_bytes(b"")
    os.mkfifo(corpus / "pipe.wav")
    listing = list_audio(corpus)
    assert sorted(path.name for path in listing.files) == ["a.wav", "b.wav", "c.wav"]
    assert listing.ignored == {".txt": 1, "hidden": 1, "not a regular file": 1}


def test_antiphase_stereo_is_not_called_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "antiphase.wav", np.stack([HISS, -HISS], axis=1), SAMPLING_RATE)
    with pytest.raises(InputError, match="channels that cancel each other"):
        decode(tmp_path / "antiphase.wav")


def test_eight_bit_sound_keeps_its_rate_and_channels(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "eight.wav"), "wb") as file:
        file.setparams((1, 1, 8_000, 0, "NONE", ""))
        file.writeframes((128 + 100 * HISS[:8_000] / np.abs(HISS).max()).astype(np.uint8).tobytes())
    sound = read_sound(tmp_path / "eight.wav")
    assert (sound.file_rate, sound.file_channels, sound.waveform.size) == (8_000, 1, SAMPLING_RATE)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".m4a", "aac"), (".mp4", "aac"), (".avi", "mp2"), (".mkv", "pcm_s16le")]
)
def test_sound_in_a_container_is_read_by_pyav(tmp_path: Path, suffix: str, codec: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.round(32_000 * np.tile(HISS, 3)).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert decode(path).size == pytest.approx(SAMPLING_RATE, abs=1_500)
    assert list_audio(tmp_path).files == (path,)

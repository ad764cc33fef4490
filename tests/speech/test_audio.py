from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.audio import Waveform, audio_files, decode, drop_silence

RATE = 16_000
HISS = 0.1 * np.random.default_rng(0).standard_normal(RATE)


def cut(suffix: str, keep: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / f"cut{suffix}"
        soundfile.write(path, HISS, RATE)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        return path

    return write


def written(samples: np.ndarray, suffix: str = ".flac", subtype: str | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        soundfile.write(folder / f"clip{suffix}", samples, RATE, subtype=subtype)
        return folder / f"clip{suffix}"

    return write


def raw(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "clip.wav").write_bytes(content)
        return folder / "clip.wav"

    return write


def flac_from_a_pipe(folder: Path, samples: np.ndarray = HISS) -> Path:
    path = written(samples)(folder)
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO: total samples unknown
    path.write_bytes(content)
    return path


UNUSABLE = {
    "flac cut in half": (cut(".flac", 0.5), "can't be decoded|cut short"),
    "flac without its last bytes": (cut(".flac", 0.999), "can't be decoded|cut short"),
    "wav cut in half": (cut(".wav", 0.5), "cut short"),
    "wav without its last byte": (cut(".wav", 1 - 1e-6), "cut short"),
    "aiff cut in half": (cut(".aiff", 0.5), "cut short"),
    "ogg cut in half": (cut(".ogg", 0.5), "can't be decoded|cut short"),
    "no bytes": (raw(b""), "can't be decoded"),
    "not audio": (raw(b"<html>not found</html>" * 100), "can't be decoded"),
    "no samples": (written(np.zeros(0), ".wav"), "no samples"),
    "one sample": (written(np.ones(1) * 0.5), "lasts 0.1 ms, shorter than one window of 25 ms"),
    "a sample too few": (written(HISS[:399]), "shorter than one window of 25 ms"),
    "NaN": (written(np.where(np.arange(RATE) == 7, np.nan, HISS), ".wav", "FLOAT"), "NaN or infinite"),
    "infinite": (written(np.where(np.arange(RATE) == 7, np.inf, HISS), ".wav", "FLOAT"), "NaN or infinite"),
    "silent": (written(np.zeros(RATE)), "digital silence"),
}


@pytest.mark.parametrize(("write", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_file_is_refused_on_one_line_that_names_it(
    tmp_path: Path, write: Callable[[Path], Path], reason: str
) -> None:
    path = write(tmp_path)
    with pytest.raises(InputError, match=reason) as refusal:
        decode(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be decoded"):
        decode(tmp_path / "nothing.wav")


def test_wav_from_a_pipe_is_not_taken_for_cut_short(tmp_path: Path) -> None:
    path = written(HISS, ".wav")(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])
    assert decode(path).size == RATE


def test_one_window_is_enough(tmp_path: Path) -> None:
    assert decode(written(HISS[:400])(tmp_path)).size == 400


def test_stereo_at_48_khz_is_averaged_and_resampled(tmp_path: Path) -> None:
    t = np.arange(48_000) / 48_000
    left, right = 0.5 * np.sin(2 * np.pi * 1000 * t), 0.2 * np.sin(2 * np.pi * 1000 * t)
    path = tmp_path / "Ünï 'quoted' name.wav"
    soundfile.write(path, np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    waveform = decode(path)
    expected = 0.35 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert waveform.shape == (RATE,)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform[800:-800], expected[800:-800], atol=1e-5)


def test_real_speech_is_decoded_as_stored(ravdess: Path) -> None:
    path = audio_files(ravdess)[0]
    integers, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(decode(path), (integers / 2**15).astype(np.float32))


def test_audio_files_are_sorted_and_hidden_ones_ignored(tmp_path: Path) -> None:
    names = ["b/2.WAV", "a b/'1'.flac", "b/.hidden.wav", ".trash/3.wav", "notes.txt", "z.ogg", "b/10.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in audio_files(tmp_path)]
    assert found == ["a b/'1'.flac", "b/10.wav", "b/2.WAV", "z.ogg"]


def test_a_folder_below_a_hidden_one_is_searched(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "corpus"
    folder.mkdir(parents=True)
    (folder / "1.wav").touch()
    assert audio_files(folder) == [folder / "1.wav"]


def test_no_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no audio"):
        audio_files(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        audio_files(tmp_path / "nothing")


def literally_without_silence(waveform: Waveform) -> list[float]:
    """The rule frame by frame: runs of ten or more frames that lie 60 dB below the loudest one go."""
    frames = [waveform[start : start + 160].astype(float) for start in range(0, len(waveform), 160)]
    loudest = max(np.mean(frame**2) for frame in frames)
    left: list[float] = []
    run: list[float] = []
    for frame in [*frames, None]:
        if frame is not None and np.mean(frame**2) <= loudest * 1e-6:
            run += list(frame)
            continue
        if len(run) <= 9 * 160:
            left += run
        run = []
        left += [] if frame is None else list(frame)
    return left


@given(st.lists(st.tuples(st.integers(1, 25), st.sampled_from([0.0, 0.0005, 0.002, 0.5])), min_size=1, max_size=8))
def test_drop_silence_follows_the_rule(stretches: list[tuple[int, float]]) -> None:
    # Each frame alternates in sign, so that its mean is zero and its power without the mean is the oracle's.
    levels = np.concatenate([[0.9] * 160, *(np.full(frames * 160, level) for frames, level in stretches)])
    waveform = (levels * np.tile([1, -1], len(levels) // 2)).astype(np.float32)
    np.testing.assert_array_equal(drop_silence(waveform), literally_without_silence(waveform))


def test_drop_silence_keeps_pauses_shorter_than_100_ms() -> None:
    tone = np.tile([0.5, -0.5], 800).astype(np.float32)
    short, long = np.zeros(1440, dtype=np.float32), np.zeros(1600, dtype=np.float32)
    assert drop_silence(np.concatenate([tone, short, tone])).size == 1600 + 1440 + 1600
    assert drop_silence(np.concatenate([tone, long, tone])).size == 1600 + 1600


def test_a_flac_from_a_pipe_is_read_whole(tmp_path: Path) -> None:
    path = flac_from_a_pipe(tmp_path)
    assert decode(path).size == RATE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut short|can't be decoded"):
        decode(path)


@pytest.mark.parametrize("cut_bytes", range(1, 9))
def test_a_flac_from_a_pipe_that_is_cut_in_silence_is_refused(tmp_path: Path, cut_bytes: int) -> None:
    # Frames of silence have 11 bytes or so; libsndfile drops one of which only a few bytes are left, without an error.
    path = flac_from_a_pipe(tmp_path, np.concatenate([HISS, np.zeros(RATE)]))
    assert decode(path).size == 2 * RATE
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    with pytest.raises(InputError, match=r"cut short|can't be decoded"):
        decode(path)

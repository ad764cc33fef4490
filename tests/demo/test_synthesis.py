import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchaudio.compliance import kaldi

from sersearch.demo.synthesis import NOISES, synthesise_corpus, synthesise_noises
from sersearch.errors import InputError

pytestmark = pytest.mark.slow("it synthesises speech in other programs")

pytest.importorskip("espeakng_loader", reason="generated speech needs the extra sersearch[demo]")

PAPER_EMOTIONS = {"anger", "disgust", "fear", "happiness", "sadness", "surprise"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "a 'quoted' folder"
    synthesise_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noises")
    synthesise_noises(folder, clips=9, duration_s=1.5)
    return folder


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def statistics(path: Path) -> npt.NDArray[np.float32]:
    waveform, _ = soundfile.read(path, dtype="float32")
    frames = kaldi.fbank(32768 * torch.from_numpy(waveform)[None], num_mel_bins=40, use_energy=True, dither=0.0)
    moments: npt.NDArray[np.float32] = torch.cat([frames.mean(0), frames.std(0)]).numpy()
    return moments


def test_corpus_holds_every_emotion_of_every_speaker(corpus: Path) -> None:
    rows = manifest(corpus)
    cells = [(row["speaker"], row["emotion"]) for row in rows]
    assert len(rows) == 12 * 6 * 4
    assert {row["emotion"] for row in rows} == PAPER_EMOTIONS
    assert {cells.count(cell) for cell in cells} == {4}
    assert len(set(cells)) == 12 * 6
    assert len({row["utterance"] for row in rows}) == len(rows)
    assert {row["path"] for row in rows} == {
        str(path.relative_to(corpus).as_posix()) for path in corpus.rglob("*.flac")
    }


def test_half_the_speakers_are_female_and_each_has_one_gender(corpus: Path) -> None:
    genders = {(row["speaker"], row["gender"]) for row in manifest(corpus)}
    assert len(genders) == 12
    assert [gender for _, gender in genders].count("female") == 6
    assert [gender for _, gender in genders].count("male") == 6


def test_utterances_are_audible_mono_16_khz_unclipped_and_short(corpus: Path) -> None:
    for row in manifest(corpus):
        path = corpus / row["path"]
        info = soundfile.info(path)
        waveform, _ = soundfile.read(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16_000, 1, "PCM_16", "FLAC")
        assert 0.7 < info.duration < 4.0, row
        assert np.sqrt(np.mean(waveform**2)) > 10 ** (-50 / 20), row
        assert np.abs(waveform).max() < 1.0, row


def test_female_voices_are_higher(corpus: Path) -> None:
    pitch_hz: dict[str, list[float]] = {"female": [], "male": []}
    for row in manifest(corpus):
        if row["emotion"] == "anger":
            pitch_hz[row["gender"]].append(median_pitch_hz(corpus / row["path"]))
    assert np.median(pitch_hz["female"]) > 1.4 * np.median(pitch_hz["male"])


def median_pitch_hz(path: Path) -> float:
    """Take the highest autocorrelation peak between 60 and 400 Hz of every loud 64 ms."""
    waveform, _ = soundfile.read(path)
    pitches_hz = []
    for start in range(0, len(waveform) - 1024, 512):
        window = waveform[start : start + 1024]
        if np.mean(window**2) > np.mean(waveform**2):
            correlation = np.correlate(window, window, "full")[1023:]
            pitches_hz.append(16_000 / (40 + np.argmax(correlation[40:266])))
    return float(np.median(pitches_hz))


def test_emotions_of_unknown_speakers_are_neither_trivial_nor_chance(corpus: Path) -> None:
    rows = manifest(corpus)
    emotions = [row["emotion"] for row in rows]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    predicted = cross_val_predict(
        classifier,
        np.stack([statistics(corpus / row["path"]) for row in rows]),
        emotions,
        groups=[row["speaker"] for row in rows],
        cv=LeaveOneGroupOut(),
    )
    assert 0.55 < balanced_accuracy_score(emotions, predicted) < 0.80


def test_the_text_says_nothing_about_the_emotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, set[str]] = {}
    monkeypatch.setattr("sersearch.demo.synthesis.EMOTIONS", dict.fromkeys(PAPER_EMOTIONS, (0.0, 0.0, 0.0, 0.0)))
    monkeypatch.setattr("sersearch.demo.synthesis.SPREAD", (0.0, 0.0, 0.0, 0.0))
    synthesise_corpus(tmp_path, speakers=1, utterances=2)
    for row in manifest(tmp_path):
        # With all prosody gone, only the sentence decides the length to within flutter.
        frames = soundfile.info(tmp_path / row["path"]).frames
        said.setdefault(row["emotion"], set()).add(f"{frames / 16_000:.1f}")
    assert len({frozenset(lengths) for lengths in said.values()}) == 1


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for folder, seed in (("one", 3), ("two", 3), ("other", 4)):
        synthesise_corpus(tmp_path / folder, speakers=2, utterances=1, seed=seed)
        synthesise_noises(tmp_path / folder / "noise", clips=8, duration_s=0.5, seed=seed)
    one, two, other = (contents(tmp_path / folder) for folder in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    audio = [name for name in one if name.endswith(".flac")]
    assert len(audio) == 2 * 6 + 8
    assert all(one[name] != other[name] for name in audio)


def test_more_speakers_leave_the_first_ones_as_they_are(tmp_path: Path, corpus: Path) -> None:
    # Among these is a voice that draws random numbers, which espeak-ng would seed with the time of day.
    synthesise_corpus(tmp_path, speakers=4)
    few = {name: content for name, content in contents(tmp_path).items() if name.endswith(".flac")}
    assert few.items() <= contents(corpus).items()


def test_speakers_beyond_the_voice_variants_still_differ(tmp_path: Path) -> None:
    synthesise_corpus(tmp_path, speakers=22, utterances=1)
    audio = [content for name, content in contents(tmp_path).items() if name.endswith(".flac")]
    assert len(audio) == 22 * 6
    assert len(set(audio)) == len(audio)


def test_progress_counts_every_utterance(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    synthesise_corpus(tmp_path, speakers=2, utterances=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]


def test_noises_are_named_audible_and_as_long_as_asked(noises: Path) -> None:
    assert {path.stem for path in noises.glob("*.flac")} == {f"{kind}-1" for kind in NOISES} | {"white-2"}
    for path in noises.glob("*.flac"):
        waveform, sampling_rate_hz = soundfile.read(path)
        assert (len(waveform), sampling_rate_hz) == (24_000, 16_000)
        assert -40 < 20 * np.log10(np.sqrt(np.mean(waveform**2))) < -19
        assert np.abs(waveform).max() < 1.0


@pytest.mark.parametrize(("kind", "slope_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_coloured_noise_falls_by_its_decibels_an_octave(noises: Path, kind: str, slope_db: float) -> None:
    waveform, _ = soundfile.read(noises / f"{kind}-1.flac")
    power = np.abs(np.fft.rfft(waveform)) ** 2
    frequencies_hz = np.fft.rfftfreq(len(waveform), 1 / 16_000)
    edges_hz = 125 * 2.0 ** np.arange(6)
    octaves_db = [10 * np.log10(power[(frequencies_hz >= low) & (frequencies_hz < 2 * low)].mean()) for low in edges_hz]
    assert np.polyfit(np.arange(6), octaves_db, 1)[0] == pytest.approx(slope_db, abs=0.6)


@pytest.mark.parametrize("folder", ["corpus", "noises"])
def test_folders_say_that_they_are_synthetic(folder: str, request: pytest.FixtureRequest) -> None:
    readme = request.getfixturevalue(folder) / "README.txt"
    assert readme.read_text(encoding="utf-8").startswith("SYNTHETIC")


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    synthesise_corpus(tmp_path, speakers=1, utterances=1)
    assert capfd.readouterr() == ("", "")


def test_missing_extra_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    for synthesise in (synthesise_corpus, synthesise_noises):
        with pytest.raises(InputError, match=r"pip install 'sersearch\[demo\]'"):
            synthesise(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("speakers", [0, -1])
def test_counts_below_one_are_refused(tmp_path: Path, speakers: int) -> None:
    with pytest.raises(InputError, match=f"speakers = {speakers}"):
        synthesise_corpus(tmp_path / "out", speakers=speakers)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed = -1"):
        synthesise_noises(tmp_path / "out", seed=-1)


def test_an_interrupted_corpus_has_no_manifest(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    synthesise_corpus(tmp_path, speakers=1, utterances=1)
    with pytest.raises(KeyboardInterrupt):
        synthesise_corpus(tmp_path, speakers=1, utterances=1, seed=1, progress=interrupt)
    assert not (tmp_path / "manifest.csv").exists()
    assert len(list(tmp_path.rglob("*.flac"))) == 6


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_durations_are_refused(tmp_path: Path, duration_s: float) -> None:
    with pytest.raises(InputError, match="duration_s = "):
        synthesise_noises(tmp_path / "out", duration_s=duration_s)

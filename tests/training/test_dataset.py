import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.speech.corpora import examine, read_corpus
from sersearch.speech.features import deltas, frame_count, mfcc
from sersearch.speech.kaldi import moments_of
from sersearch.store.build import build_store
from sersearch.store.reader import Store, open_store
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.fold import Fold, Shares, make_partition
from sersearch.training.dataset import (
    ResidentView,
    Utterances,
    View,
    by_length,
    open_dataset,
    open_utterances,
    shuffled,
)

PARTITION = Fold(train=("s0", "s1", "s2"), validation=("s3",), test=("s4", "s5"))


def test_copies_are_the_stores_rows(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    rows = [row for speaker in PARTITION.train for row in tiny_store.table(speaker).to_pylist()]
    assert len(data.train) == len(rows)
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(data.train.copy(index).ravel(), np.array(row["log_mel"], np.float32))
        assert data.emotions[data.train.emotion[index]] == row["emotion"]
        assert data.train.noisy[index] == (row["condition"] == "noisy")


def test_the_test_partition_is_never_touched(tiny_store: Store, tmp_path: Path) -> None:
    shutil.copytree(tiny_store.path, tmp_path / "store", ignore=shutil.ignore_patterns("arrow"))
    sealed = open_store(tmp_path / "store")
    for info in sealed.speakers:
        if info.speaker in PARTITION.test:
            (sealed.path / info.file).write_bytes(bytes(info.bytes))
    data = open_dataset(sealed, PARTITION)
    assert set(data.train.speakers) | set(data.validation.speakers) == {"s0", "s1", "s2", "s3"}
    assert not any(path.name.startswith(PARTITION.test) for path in (sealed.path / "arrow").iterdir())


@pytest.mark.parametrize("features", ["log-mels", "mfccs"])
def test_training_frames_are_standardised(tiny_store: Store, features: str) -> None:
    data = open_dataset(tiny_store, PARTITION)
    configuration = NetworkConfiguration.model_validate({"model": "LDNN", "features": features})
    view = View(data.train, configuration, data.moments)
    frames = np.concatenate([view.frames(index) for index in range(len(data.train))])
    assert frames.shape[1] == configuration.rows
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, rtol=1e-3)


def test_features_are_those_of_the_literal_way(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    configuration = NetworkConfiguration(model="LDNN", features="mfccs", cepstra=7, deltas=2, normalisation="none")
    found = View(data.validation, configuration, data.moments).frames(4)
    np.testing.assert_allclose(found, deltas(mfcc(data.validation.copy(4), 7), 2), rtol=1e-4, atol=1e-3)
    per_utterance = configuration.model_copy(update={"normalisation": "utterance", "deltas": 0})
    found = View(data.validation, per_utterance, data.moments).frames(4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-3)


@pytest.mark.parametrize("features", ["log-mels", "mfccs"])
def test_a_speaker_is_normalised_by_the_speakers_own_clean_utterances(tiny_store: Store, features: str) -> None:
    data = open_dataset(tiny_store, PARTITION)
    configuration = NetworkConfiguration.model_validate(
        {"model": "LDNN", "features": features, "normalisation": "speaker"}
    )
    view = View(data.train, configuration, data.moments)
    for number, speaker in enumerate(data.train.speakers):
        copies = np.flatnonzero(data.train.speaker == number).tolist()
        clean = [index for index in copies if not data.train.noisy[index]]
        frames = np.concatenate([view.frames(index) for index in clean])
        np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(frames.std(0), 1, rtol=1e-3)
        # Neither the moments of the training part nor other speakers or copies change anything.
        alone = open_dataset(tiny_store, Fold(train=(speaker,), validation=("s3",)))
        chosen = alone.train.select(np.flatnonzero(alone.train.noisy))
        others = View(chosen, configuration, data.moments)
        noisy = [index for index in copies if data.train.noisy[index]]
        for ours, theirs in zip(noisy, range(len(chosen)), strict=True):
            np.testing.assert_array_equal(view.frames(ours), others.frames(theirs))


@pytest.fixture(scope="module")
def padded_store(tmp_path_factory: pytest.TempPathFactory, tiny_noise: Path) -> Store:
    """Two speakers' tones between silence of known lengths, with a noisy copy each."""
    folder = tmp_path_factory.mktemp("padded")
    lines = ["path,speaker,emotion,utterance"]
    generator = np.random.default_rng(0)
    for speaker in ("a", "b"):
        for number, (before_s, after_s) in enumerate(((0.5, 0.2), (0.0, 0.7), (0.3, 0.0))):
            t = np.arange(8000) / 16_000
            tone = 0.2 * np.sin(2 * np.pi * 300 * t)
            hiss = [1e-5 * generator.standard_normal(int(16_000 * s)) for s in (before_s, after_s)]
            name = f"{speaker}{number}.wav"
            soundfile.write(folder / name, np.concatenate([hiss[0], tone, hiss[1]]), 16_000)
            lines.append(f"{name},{speaker},{('anger', 'joy', 'sadness')[number]},{speaker}{number}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return build_store(folder / "store", read_corpus("padded", folder), tiny_noise, noises=1, snrs=1, workers=1)


def test_silence_is_left_out_at_the_same_frames_of_all_copies(padded_store: Store) -> None:
    whole, trimmed = (open_utterances(padded_store, ("a", "b"), trim) for trim in (False, True))
    started = trimmed.offset - whole.offset
    assert (started[::2] == started[1::2]).all(), "a noisy copy begins where its clean one does"
    assert (trimmed.length[::2] == trimmed.length[1::2]).all()
    # A frame covers 25 ms, so the first and the last that touch the tone lie two frames beyond it at most.
    for start, length, before_s in zip(started[::2], trimmed.length[::2], [0.5, 0.0, 0.3] * 2, strict=True):
        assert abs(start - 100 * before_s) <= 3
        assert abs(length - 50) <= 5
    for index in range(len(whole)):
        cut = whole.copy(index)[started[index] : started[index] + trimmed.length[index]]
        np.testing.assert_array_equal(trimmed.copy(index), cut)


@pytest.mark.parametrize("normalisation", ["corpus", "speaker"])
def test_moments_are_those_of_the_frames_that_are_left(padded_store: Store, normalisation: str) -> None:
    data = open_dataset(padded_store, Fold(train=("a",), validation=("b",)), trim=True)
    configuration = NetworkConfiguration.model_validate({"model": "LDNN", "normalisation": normalisation, "trim": True})
    view = View(data.train, configuration, data.moments)
    chosen = list(range(len(data.train)))
    if normalisation == "speaker":
        chosen = np.flatnonzero(~data.train.noisy).tolist()
    frames = np.concatenate([view.frames(index) for index in chosen])
    assert len(frames) < sum(map(len, data.train.frames))
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, rtol=1e-3)


def test_a_minibatch_is_padded_at_the_end(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    view = View(data.train, NetworkConfiguration(model="LDNN"), data.moments)
    batch = view.minibatch([5, 0, 9])
    assert batch.x_BTF.shape == (3, int(batch.lengths_B.max()), 40)
    for row, index in enumerate((5, 0, 9)):
        length = int(batch.lengths_B[row])
        assert torch.equal(batch.x_BTF[row, :length], torch.from_numpy(view.frames(index)))
        assert not batch.x_BTF[row, length:].any()


def utterances_of(lengths: list[int], speakers: int, dtype: str, seed: int) -> Utterances:
    """Bands of unlike levels and deviations, as log-Mels are."""
    generator = np.random.default_rng(seed)
    speaker = np.unique(generator.integers(0, speakers, len(lengths)), return_inverse=True)[1]
    speaker.sort()
    speakers = int(speaker.max()) + 1
    length = np.array(lengths)
    offset = np.concatenate([np.cumsum(part) - part for s in range(speakers) for part in (length[speaker == s],)])
    counts = [int(length[speaker == s].sum()) for s in range(speakers)]
    level, spread = generator.uniform(-5, 18, 12), generator.uniform(0.5, 4, 12)
    frames = tuple((level + spread * generator.standard_normal((n, 12))).astype(dtype) for n in counts)
    emotion, noisy = np.arange(len(lengths)) % 3, np.zeros(len(lengths), np.bool_)
    clean = tuple(np.stack([offset, length], 1)[speaker == s] for s in range(speakers))
    return Utterances(frames, speaker, offset, length, emotion, noisy, tuple(map(str, range(speakers))), clean)


@pytest.mark.parametrize("features", ["log-mels", "mfccs"])
@pytest.mark.parametrize("normalisation", ["corpus", "speaker", "utterance", "none"])
@pytest.mark.parametrize("order", [0, 1, 2])
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    speakers=st.integers(1, 3),
    dtype=st.sampled_from(("float32", "float16")),
    size=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=15)
def test_minibatches_made_on_the_device_are_those_of_the_host(
    features: str, normalisation: str, order: int, lengths: list[int], speakers: int, dtype: str, size: int, seed: int
) -> None:
    utterances = utterances_of(lengths, speakers, dtype, seed)
    chosen = {"features": features, "normalisation": normalisation, "deltas": order, "bands": 12, "cepstra": 5}
    configuration = NetworkConfiguration.model_validate({"model": "LDNN"} | chosen)
    # Of more frames than these few, whose covariance may be singular.
    moments = moments_of(utterances_of([200], 1, "float32", seed).frames[0])
    own = [moments_of(utterances_of([200], 1, "float32", seed + 1 + s).frames[0]) for s in range(speakers)]
    utterances.__dict__["clean_moments"] = tuple(own[: len(utterances.frames)])
    host = View(utterances, configuration, moments)
    resident = ResidentView(utterances, configuration, moments, "cpu")
    batches = shuffled(utterances.length, size, np.random.default_rng(seed))
    for ours, theirs in zip(resident.minibatches(batches), host.minibatches(batches), strict=True):
        assert ours.x_BTF.dtype == torch.float32
        torch.testing.assert_close(ours.x_BTF, theirs.x_BTF, rtol=1e-5, atol=2e-5 * float(theirs.x_BTF.abs().max() + 1))
        assert torch.equal(ours.lengths_B, theirs.lengths_B)
        assert torch.equal(ours.emotion_B, theirs.emotion_B)
        for row, length in zip(ours.x_BTF, ours.lengths_B, strict=True):
            assert not row[length:].any()


def test_frames_move_once_as_stored_and_serve_all_features(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    moved = data.train.on("cpu")
    assert moved.frames_NM.shape == (sum(map(len, data.train.frames)), 40)
    assert moved.frames_NM.dtype == torch.float32
    for each in ({"features": "mfccs"}, {"features": "log-mels", "deltas": 1}):
        view = ResidentView(
            data.train, NetworkConfiguration.model_validate({"model": "LDNN"} | each), data.moments, "cpu"
        )
        assert view._resident is moved
    assert utterances_of([3, 4], 1, "float16", 0).on("cpu").frames_NM.dtype == torch.float16


def test_bands_that_the_store_lacks(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    with pytest.raises(InputError, match=r"bands = 23 .* the store holds 40"):
        View(data.train, NetworkConfiguration(model="LDNN", bands=23), data.moments)


def test_partitions_that_do_not_fit_the_store(tiny_store: Store) -> None:
    with pytest.raises(InputError, match="speaker zz of the fold is not in the store"):
        open_dataset(tiny_store, Fold(train=("zz",), validation=("s3",), test=("s4",)))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=700), st.integers(1, 12), st.integers(0, 9))
def test_every_utterance_once_in_minibatches_of_the_size(lengths: list[int], size: int, seed: int) -> None:
    batches = shuffled(np.array(lengths), size, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert sum(len(batch) < size for batch in batches) <= 1
    evaluated = list(by_length(np.array(lengths), size))
    assert sorted(index for batch in evaluated for index in batch) == list(range(len(lengths)))


def test_the_order_changes_with_the_generator_and_only_with_it() -> None:
    lengths = np.random.default_rng(0).integers(100, 500, 900)
    orders = [np.concatenate(shuffled(lengths, 10, np.random.default_rng(seed))).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_padding_wastes_little_on_ravdess(ravdess: Path) -> None:
    survey = examine(read_corpus("ravdess", ravdess))
    speakers = make_partition(survey.speakers, Shares()).train
    lengths = np.array(
        [frame_count(round(r.duration_s * 16_000)) for r in survey.recordings if r.utterance.speaker in speakers]
    )
    batches = shuffled(lengths, 10, np.random.default_rng(0))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / padded < 0.05

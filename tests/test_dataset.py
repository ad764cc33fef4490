import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sersearch.architecture import Configuration
from sersearch.corpora import examine, read_corpus
from sersearch.dataset import View, by_length, open_dataset, shuffled
from sersearch.errors import InputError
from sersearch.features import deltas, frame_count, mfcc
from sersearch.partition import Partition, Shares, make_partition
from sersearch.store import Store, open_store

PARTITION = Partition(train=("s0", "s1", "s2"), validation=("s3",), test=("s4", "s5"))


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
    configuration = Configuration.model_validate({"model": "LDNN", "features": features})
    view = View(data.train, configuration, data.moments)
    frames = np.concatenate([view.frames(index) for index in range(len(data.train))])
    assert frames.shape[1] == configuration.rows
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1, rtol=1e-3)


def test_features_are_those_of_the_literal_way(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    configuration = Configuration(model="LDNN", features="mfccs", cepstra=7, deltas=2, normalisation="none")
    found = View(data.validation, configuration, data.moments).frames(4)
    np.testing.assert_allclose(found, deltas(mfcc(data.validation.copy(4), 7), 2), rtol=1e-4, atol=1e-3)
    per_utterance = configuration.model_copy(update={"normalisation": "utterance", "deltas": 0})
    found = View(data.validation, per_utterance, data.moments).frames(4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-3)


def test_a_minibatch_is_padded_at_the_end(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    view = View(data.train, Configuration(model="LDNN"), data.moments)
    batch = view.minibatch([5, 0, 9])
    assert batch.x_BTF.shape == (3, int(batch.lengths_B.max()), 40)
    for row, index in enumerate((5, 0, 9)):
        length = int(batch.lengths_B[row])
        assert torch.equal(batch.x_BTF[row, :length], torch.from_numpy(view.frames(index)))
        assert not batch.x_BTF[row, length:].any()


def test_bands_that_the_store_lacks(tiny_store: Store) -> None:
    data = open_dataset(tiny_store, PARTITION)
    with pytest.raises(InputError, match=r"bands = 23 .* the store holds 40"):
        View(data.train, Configuration(model="LDNN", bands=23), data.moments)


def test_partitions_that_do_not_fit_the_store(tiny_store: Store) -> None:
    with pytest.raises(InputError, match="speaker zz of the partition is not in the store"):
        open_dataset(tiny_store, Partition(train=("zz",), validation=("s3",), test=("s4",)))


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

"""What each module of a winner makes of an utterance, and the table that keeps it (Section 7.5).

One Parquet file a winner: training, validation and test under the clean condition, and the noisy copies of the test
partition, for it alone is asked what noise costs.

Shapes: B utterances of a minibatch, T frames, P padded frames, V numbers a frame, J columns of a window, U utterances
(copies), D numbers of a representation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from sersearch.durable import replacing
from sersearch.evaluation.leaderboard import record_opening, trained_model
from sersearch.models.cldnn import CLDNN
from sersearch.models.kernels.convolution import edge_pad
from sersearch.models.kernels.loops import one_thread
from sersearch.run.ledger import Result
from sersearch.run.run import Run
from sersearch.study.fold import Part
from sersearch.study.study import Condition
from sersearch.training.dataset import Dataset, Utterances, View, open_utterances

Module = Literal["raw", "cnn", "blstm", "mlp"]
MODULES: tuple[Module, ...] = get_args(Module)

_LABELS = ("utterance", "speaker", "gender", "emotion", "noise", "snr_db")

_ROWS_PER_GROUP = 512


def represent(model: CLDNN, x_BTF: Tensor, lengths_B: Tensor) -> dict[Module, Tensor]:
    """What each module makes of some utterances, one vector [B, D] each; the LDNN has no CNN.

    Raw, CNN and BLSTM are means over an utterance's real frames: of the spliced features, of the second layer's maps,
    pooled and rectified, and of the hidden states, which is the paper's c. The MLP's are the outputs of the softmax.

    Args:
        model: a trained model.
        x_BTF: frames, padded at the end.
        lengths_B: real frames of each utterance.
    """
    configuration, convolutions = model.configuration, model.convolutions
    padded_PBF = edge_pad(x_BTF, lengths_B, configuration.left, configuration.right)
    maps_PBV = model.maps(x_BTF, lengths_B)
    c_BH = model.represent(maps_PBV, lengths_B)
    found: dict[Module, Tensor] = {"raw": mean_window(padded_PBF, lengths_B, configuration.columns)}
    if configuration.kernels:
        found["cnn"] = mean_window(maps_PBV, lengths_B, convolutions.columns, convolutions.dilation)
    return found | {"blstm": c_BH, "mlp": model.classify(c_BH).softmax(1)}


def mean_window(x_PBV: Tensor, lengths_B: Tensor, columns: int, dilation: int = 1) -> Tensor:
    """Mean over an utterance's real frames of the window at each: [P, B, V] to [B, V * J]; no window is ever built.

    Args:
        x_PBV: frames; frame t's window is x[t + j * dilation] for j in range(columns).
        lengths_B: real frames of each utterance.
        columns: J.
        dilation: frames from one column to the next.
    """
    steps = len(x_PBV) - (columns - 1) * dilation
    starts = range(0, columns * dilation, dilation)
    means = [_mean_over_frames(x_PBV[start : start + steps].transpose(0, 1), lengths_B) for start in starts]
    return torch.stack(means, 2).flatten(1)


def _mean_over_frames(y_BTH: Tensor, lengths_B: Tensor) -> Tensor:
    """Mean over each utterance's real frames: [B, T, H] to [B, H]."""
    real_BT = torch.arange(y_BTH.shape[1], device=y_BTH.device) < lengths_B.unsqueeze(1)
    mean_BT = real_BT.to(y_BTH) / lengths_B.unsqueeze(1)
    return torch.bmm(mean_BT.unsqueeze(1), y_BTH).squeeze(1)


def representations_file(run: Run, key: str, condition: Condition) -> Path:
    """Where a winner's representations are kept."""
    return run.path / "probe" / f"{key}-{condition}.parquet"


def write_representations(run: Run, winner: Result, condition: Condition, data: Dataset) -> Path:
    """Write a winner's representations, a minibatch at a time; if they are there, they stay.

    The test partition is opened for it, and that is written down. The file is whole or not there.

    Args:
        run: a complete run.
        winner: one of its winners.
        condition: under which it won.
        data: the run's training and validation.
    """
    file = representations_file(run, winner.trial.key, condition)
    if file.exists():
        return file
    one_thread()
    test = open_utterances(run.store, run.partition.test)
    # Written down first: an opening that is not recorded must not exist.
    record_opening(run, winner.trial.key, condition, len(test), "probe")
    model = trained_model(run, winner)
    parts: dict[Part, Utterances] = {"train": data.train, "validation": data.validation, "test": test}
    schema = _schema(model)
    file.parent.mkdir(exist_ok=True)
    with replacing(file) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as writer:
        for part, utterances in parts.items():
            chosen = np.arange(len(test)) if part == "test" else np.flatnonzero(~utterances.noisy)
            labels = pa.concat_tables([run.store.table(speaker).select(_LABELS) for speaker in utterances.speakers])
            view = View(utterances, model.configuration, data.moments)
            for start in range(0, len(chosen), _ROWS_PER_GROUP):
                some = chosen[start : start + _ROWS_PER_GROUP]
                columns = {"part": [part] * len(some)} | dict(labels.take(some).to_pydict()) | _lists(model, view, some)
                writer.write_table(pa.table(columns, schema))
    return file


def _schema(model: CLDNN) -> pa.Schema:
    labels = [(name, pa.float64() if name == "snr_db" else pa.string()) for name in ("part", *_LABELS)]
    modules = [name for name in MODULES if name != "cnn" or model.configuration.kernels]
    return pa.schema([*labels, *((name, pa.list_(pa.float32())) for name in modules)])


def _lists(model: CLDNN, view: View, chosen: NDArray[np.int64]) -> dict[str, pa.Array]:
    """The representations of some utterances as columns."""
    size = model.configuration.minibatch
    found: dict[str, list[NDArray[np.float32]]] = {}
    with torch.inference_mode():
        for start in range(0, len(chosen), size):
            batch = view.minibatch(chosen[start : start + size])
            for name, x_BD in represent(model, batch.x_BTF, batch.lengths_B).items():
                found.setdefault(name, []).append(x_BD.numpy())
    return {name: _list_column(np.concatenate(parts)) for name, parts in found.items()}


def _list_column(x_UD: NDArray[np.float32]) -> pa.Array:
    ends = np.arange(0, x_UD.size + 1, x_UD.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(x_UD.ravel()))


class Column:
    """A module's representations [U, D], of which only the rows that are asked for are read, a row group at a time.

    So looking into a winner takes no more memory the more noisy copies there are.
    """

    def __init__(self, file: Path, module: Module) -> None:
        """Look at the file's end."""
        self._file = pq.ParquetFile(file)
        self._module = module
        metadata = self._file.metadata
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups)])
        self.shape = (int(self._starts[-1]), self._group(0).shape[1])

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Read some rows, in the given order."""
        x_UD = np.empty((len(rows), self.shape[1]), np.float32)
        group_U = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(group_U):
            at = group_U == number
            x_UD[at] = self._group(int(number))[rows[at] - self._starts[number]]
        return x_UD

    def _group(self, number: int) -> NDArray[np.float32]:
        column = self._file.read_row_group(number, columns=[self._module])[self._module].combine_chunks()
        x_UD: NDArray[np.float32] = column.flatten().to_numpy().reshape(len(column), -1)
        return x_UD


@dataclass(frozen=True)
class Representations:
    """A winner's representations, open for reading; a module's are read when they are asked for.

    Attributes:
        file: the table.
        modules: whose representations there are, in the order of the model.
        part_U: train, validation or test.
        utterance_U: names; copies of an utterance share one.
        speaker_U: names.
        gender_U: "" where it is not known.
        emotion_U: names.
        snr_db_U: of a noisy copy; NaN of a clean one.
    """

    file: Path
    modules: tuple[Module, ...]
    part_U: NDArray[np.str_]
    utterance_U: NDArray[np.str_]
    speaker_U: NDArray[np.str_]
    gender_U: NDArray[np.str_]
    emotion_U: NDArray[np.str_]
    snr_db_U: NDArray[np.float64]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the labels."""
        table = pq.read_table(file, columns=["part", *_LABELS])
        modules = tuple(name for name in MODULES if name in pq.read_schema(file).names)

        def names(column: str) -> NDArray[np.str_]:
            return np.array([name or "" for name in table[column].to_pylist()], np.str_)

        return cls(
            file,
            modules,
            names("part"),
            names("utterance"),
            names("speaker"),
            names("gender"),
            names("emotion"),
            np.array(table["snr_db"].to_pylist(), np.float64),
        )

    def column(self, module: Module) -> Column:
        """A module's representations."""
        return Column(self.file, module)

    def clean(self, part: Part) -> NDArray[np.int64]:
        """Indices of a part's clean utterances."""
        return np.flatnonzero((self.part_U == part) & np.isnan(self.snr_db_U))

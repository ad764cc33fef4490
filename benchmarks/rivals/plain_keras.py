"""The networks in Keras, which the paper used: TimeDistributed convolutions, a masked bidirectional LSTM."""

from collections.abc import Callable

import keras  # type: ignore[import-not-found,unused-ignore]
import numpy as np
import torch
from keras import layers  # type: ignore[import-not-found,unused-ignore]

from sersearch.models.cldnn import CLDNN
from sersearch.models.kernels.convolution import edge_pad


def build(model: CLDNN) -> keras.Model:
    """Build the same network in Keras, over splices of rows x columns x channels and the mask of real frames."""
    c = model.configuration
    temporal = c.model in ("T-CLDNN", "ST-CLDNN", "FST-CLDNN")
    images = keras.Input((None, c.rows, c.columns, c.channels))
    mask = keras.Input((None,), dtype="bool")
    x = images
    for layer in model.convolutions.geometry:
        x = layers.TimeDistributed(layers.Conv2D(c.maps, layer.kernel, activation="relu"))(x)
        stride = (2 if layer.window[0] > 1 else 1, 2 if temporal else 1)
        x = layers.TimeDistributed(layers.MaxPooling2D(layer.window, stride))(x)
    x = layers.TimeDistributed(layers.Flatten())(x)
    x = layers.Bidirectional(layers.LSTM(c.cells, return_sequences=True))(x, mask=mask)
    x = layers.GlobalAveragePooling1D()(x, mask=mask)
    for width in c.dense:
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model([images, mask], layers.Dense(model.emotions)(x))


def to_keras(weights: dict[str, np.ndarray], model: CLDNN) -> list[np.ndarray]:
    """Put weights of this package into Keras' order and shapes."""
    found = []
    for i in range(len(model.convolutions.geometry)):
        found += [weights[f"convolutions.kernels.{i}"].transpose(2, 3, 1, 0), weights[f"convolutions.biases.{i}"]]
    for direction in (0, 1):
        kernel = weights["blstm.kernel"][direction].reshape(-1, *_vector(model)).transpose(2, 3, 1, 0)
        found += [kernel.reshape(-1, kernel.shape[3]), weights["blstm.recurrent"][direction].T]
        found.append(weights["blstm.bias"][direction])
    for i in range(len(model.dense)):
        found += [weights[f"dense.{i}.weight"].T, weights[f"dense.{i}.bias"]]
    return found


def _vector(model: CLDNN) -> tuple[int, int, int]:
    c, geometry = model.configuration, model.convolutions.geometry
    return (c.maps, *geometry[-1].pooled) if geometry else (c.channels, c.rows, c.columns)


def from_keras(weights: list[np.ndarray], model: CLDNN) -> dict[str, np.ndarray]:
    """Put weights or gradients of Keras under this package's names and into its shapes."""
    left = iter(weights)
    found = {}
    for i in range(len(model.convolutions.geometry)):
        found[f"convolutions.kernels.{i}"] = next(left).transpose(3, 2, 0, 1)
        found[f"convolutions.biases.{i}"] = next(left)
    maps, rows, columns = _vector(model)
    blstm = []
    for _ in (0, 1):
        kernel = next(left).reshape(rows, columns, maps, -1).transpose(3, 2, 0, 1)
        blstm.append((kernel.reshape(len(kernel), -1), next(left).T, next(left)))
    for name, both in zip(("kernel", "recurrent", "bias"), zip(*blstm, strict=True), strict=True):
        found[f"blstm.{name}"] = np.stack(both)
    for i in range(len(model.dense)):
        found |= {f"dense.{i}.weight": next(left).T, f"dense.{i}.bias": next(left)}
    return found


def side(
    model: CLDNN, x_BTF: torch.Tensor, lengths_B: torch.Tensor, emotion_B: torch.Tensor
) -> tuple[Callable[[], float], dict[str, np.ndarray]]:
    """The training step in Keras, and the gradients at the initial weights."""
    c = model.configuration
    padded_PBF = edge_pad(x_BTF, lengths_B, c.left, c.right)
    spliced = padded_PBF.unfold(0, c.columns, 1).unflatten(2, (c.channels, c.rows))  # type: ignore[no-untyped-call]
    images = np.ascontiguousarray(spliced.permute(1, 0, 3, 4, 2).numpy())
    mask = (torch.arange(x_BTF.shape[1]) < lengths_B.unsqueeze(1)).numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights = to_keras({name: tensor.numpy() for name, tensor in model.state_dict().items()}, model)
    network = build(model)
    data = [images, mask], emotion_B.numpy()

    def first_gradients() -> dict[str, np.ndarray]:
        # Keras has no gradients that all backends share, but a step of SGD with rate 1 subtracts them from the weights.
        network.set_weights(weights)
        network.compile(keras.optimizers.SGD(1.0), loss)
        network.train_on_batch(*data)
        after = network.get_weights()
        return from_keras([a - b for a, b in zip(weights, after, strict=True)], model)

    gradients = first_gradients()
    network.set_weights(weights)
    network.compile(keras.optimizers.Adam(0.001), loss)
    return lambda: float(network.train_on_batch(*data)), gradients

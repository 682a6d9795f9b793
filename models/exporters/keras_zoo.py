"""Keras models exported with tf2onnx: ``python -m models.exporters.keras_zoo [NAME ...]`` (extra ``exporters-keras``).

Keras keeps channels last, so tf2onnx puts a Transpose on either side of every convolution; it squeezes and unsqueezes
around 1-D ones, writes "to the end" as 2147483647, causal padding as a Pad of its own, and dilation, where XLA is not
used, as SpaceToBatchND. Names of its dimensions are ``unk__N``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "exported"
EXPORTER = "tf2onnx"


@dataclass(frozen=True)
class Entry:
    """One model. ``shape`` is that of its input ``x``, batch first, None where the file leaves it open."""

    build: Callable[[Any], Any]
    shape: tuple[int | None, ...]


def ds_cnn(x: Any) -> Any:
    """Depthwise-separable keyword spotter (Zhang et al., 2017, "Hello Edge") on [time, mel], one decision at the end."""
    h = layers.Reshape((-1, 10, 1))(x)
    h = layers.Conv2D(8, (10, 4), strides=(2, 2), padding="same", activation="relu")(h)
    for _ in range(2):
        h = layers.DepthwiseConv2D((3, 3), padding="same", use_bias=False)(h)
        h = layers.ReLU()(layers.BatchNormalization()(h))
        h = layers.Conv2D(8, 1, use_bias=False)(h)
        h = layers.ReLU()(layers.BatchNormalization()(h))
    h = layers.GlobalAveragePooling2D()(h)
    return layers.Dense(4, activation="softmax")(h)


def crnn(x: Any) -> Any:
    """Convolutions over [time, mel], then a GRU and an LSTM over time, and a decision per frame."""
    h = layers.Reshape((-1, 12, 1))(x)
    h = layers.ZeroPadding2D(((2, 0), (1, 1)))(h)
    h = layers.Conv2D(6, (3, 3), activation="elu")(h)
    h = layers.MaxPooling2D((1, 2))(h)
    h = layers.Reshape((-1, 36))(h)
    h = layers.GRU(8, return_sequences=True)(h)
    h = layers.LSTM(7, return_sequences=True)(h)
    return layers.Dense(5, activation="softmax")(h)


def time_distributed(x: Any) -> Any:
    """One layer for all frames, as old tutorials write it; Keras 3 turns it into a loop that cuts frames out one by one."""
    return layers.TimeDistributed(layers.Dense(3))(layers.Conv1D(4, 3, padding="causal")(x))


def causal_tcn(x: Any) -> Any:
    """Causal temporal convolutions, residual and dilated (Bai et al., 2018), layer-normalised over channels."""
    h = layers.Conv1D(6, 1)(x)
    for d in (1, 2, 4, 8):
        y = layers.Conv1D(6, 3, dilation_rate=d, padding="causal", activation="relu")(h)
        y = layers.LayerNormalization()(y)
        y = layers.SpatialDropout1D(0.1)(y)
        y = layers.Conv1D(6, 3, dilation_rate=d, padding="causal")(y)
        h = layers.PReLU(shared_axes=[1])(layers.Add()([h, y]))
    return layers.Dense(3, activation="tanh")(h)


def unet(x: Any) -> Any:
    """Strided convolutions down, transposed ones up, skips in between; padding "same" looks ahead."""
    a = layers.Conv1D(4, 4, strides=2, padding="same", activation="relu")(x)
    b = layers.Conv1D(6, 4, strides=2, padding="same", activation="relu")(a)
    c = layers.Conv1DTranspose(4, 4, strides=2, padding="same", activation="relu")(b)
    d = layers.Conv1DTranspose(2, 4, strides=2, padding="same")(layers.Concatenate()([a, c]))
    e = layers.Conv1D(2, 5, padding="same")(layers.UpSampling1D(2)(layers.AveragePooling1D(2)(x)))
    return layers.Add()([d, e])


def stft_mask(x: Any) -> Any:
    """A magnitude front-end with overlapping frames and matrix products, and a mask from a GRU."""
    frames = keras.ops.extract_sequences(x, 16, 8)
    k = (np.arange(16)[:, None] * np.arange(9)[None, :] * 2 * np.pi / 16).astype("float32")
    re, im = (layers.Dense(9, use_bias=False, kernel_initializer=lambda *_, t=t, **__: t)(frames) for t in (np.cos(k), np.sin(k)))
    power = keras.ops.log(keras.ops.square(re) + keras.ops.square(im) + 1e-4)
    mask = layers.Dense(9, activation="sigmoid")(layers.GRU(8, return_sequences=True)(power))
    return mask * power


ZOO = {
    "keras_ds_cnn": Entry(ds_cnn, (None, None, 10)),
    "keras_crnn": Entry(crnn, (None, None, 12)),
    "keras_time_distributed": Entry(time_distributed, (None, None, 4)),
    "keras_causal_tcn": Entry(causal_tcn, (None, None, 4)),
    "keras_unet": Entry(unet, (None, None, 2)),
    "keras_stft_mask": Entry(stft_mask, (None, None)),
}


def export(entry: Entry, opset: int = 15) -> onnx.ModelProto:
    """The model with weights of one seed, as tf2onnx writes it."""
    keras.utils.set_random_seed(0)
    x = keras.Input(entry.shape[1:], name="x")
    model = keras.Model(x, entry.build(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            values = [keras.random.uniform(w.shape, 0.5, 1.5, seed=i) for i, w in enumerate(layer.weights)]
            layer.set_weights([keras.ops.convert_to_numpy(v) for v in values])
    spec = [tf.TensorSpec(entry.shape, tf.float32, name="x")]

    @tf.function(input_signature=spec)  # type: ignore[untyped-decorator]
    def run(x: Any) -> Any:
        return tf.identity(model(x, training=False), name="y")

    made, _ = tf2onnx.convert.from_function(run, input_signature=spec, opset=opset)
    return made


def main(names: list[str]) -> None:
    from models.exporters.clean import strip

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or ZOO:
        file = FOLDER / f"{name}.{EXPORTER}.onnx"
        try:
            model = strip(export(ZOO[name]))
        except Exception as e:
            print(f"{file.name}: not exported: {type(e).__name__}: {(str(e).splitlines() or [''])[0]}")
            continue
        onnx.checker.check_model(model)
        file.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{file.name}: {file.stat().st_size} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main(sys.argv[1:])

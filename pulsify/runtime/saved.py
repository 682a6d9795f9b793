"""A stream as bytes, in the format of safetensors: a JSON header, then the arrays. Nothing in it can be executed.

Layout: 8 bytes, the length of the header, little endian; the header, ``{name: {dtype, shape, data_offsets}}`` and
``__metadata__``, padded with spaces; the arrays in C order. The metadata holds ``pulsify.stream``, JSON with the counts,
and ``sha256`` of all of it (computed with 64 zeros in its place). Arrays are ``state/<past>``, ``waiting/<input>``,
``held/<output>``, ``running/<output>`` and ``static/<input>``. Text goes as the UTF-8 of a JSON list, ``text/...``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ClientError
from .model import Model, Port, Sizes, dtype_named
from .stream import Stream

__all__ = ["Saved", "pack", "unpack"]

VERSION = 1

#: numpy's name of an element type by safetensors' name.
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
_CODES = {name: code for code, name in _NAMES.items()}


@dataclass
class Saved:
    """A stream read back. ``states`` is None where no pulse's memory was bound yet."""

    stream: Stream
    sizes: Sizes
    states: list[np.ndarray] | None
    static: dict[str, np.ndarray]


def pack(
    model: Model,
    pulse: int | None,
    sizes: Sizes,
    stream: Stream,
    states: Sequence[np.ndarray] | None,
    static: Mapping[str, np.ndarray],
) -> bytes:
    """A stream of ``model`` as bytes."""
    arrays: dict[str, np.ndarray] = {f"static/{name}": array for name, array in static.items()}
    for port, queue in zip(model.inputs, stream.queues, strict=True):
        waiting = queue.joined()
        if waiting is not None:
            arrays[f"waiting/{port.name}"] = waiting
    for crop in stream.crops:
        if crop.held:
            arrays[f"held/{crop.port.name}"] = np.concatenate(crop.held, axis=crop.port.axis)
    arrays.update({f"running/{name}": np.asarray(value) for name, value in stream.last.items()})
    if states is not None:
        arrays.update({f"state/{s.past.name}": a for s, a in zip(model.states, states, strict=True)})
    counts = {
        "version": VERSION,
        "model": model.digest,
        "source": _source(model),
        "pulse": pulse,
        "sizes": sizes,
        "received": stream.received,
        "real": stream.real,
        "sent": stream.sent,
        "outputs": {c.port.name: [c.slots, c.given] for c in stream.crops},
        "begun": states is not None,
        "done": stream.done,
    }
    return _write(arrays, {"pulsify.stream": json.dumps(counts, separators=(",", ":"))})


def unpack(model: Model, pulse: int | None, data: bytes) -> Saved:
    """What :func:`pack` wrote. ClientError where it is damaged, or of another model or pulse."""
    try:
        arrays, metadata = _read(data)
        counts = json.loads(metadata["pulsify.stream"])
        version = counts["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _damaged(str(e)) from e
    if version != VERSION:
        raise ClientError("cannot load this stream", why=f"it is of version {version}, this client reads version {VERSION}")
    if counts.get("model") != model.digest:
        same = counts.get("source") == _source(model)
        raise ClientError(
            "cannot load this stream",
            why="it was saved from another conversion of this model" if same else "it was saved from another model",
            hint="load it with the file it was saved from",
        )
    if counts.get("pulse") != pulse:
        raise ClientError(
            "cannot load this stream",
            why=f"it was saved at a pulse of {counts.get('pulse')}, this client has {pulse}",
            hint=f"StreamSession(..., pulse={counts.get('pulse')})",
        )
    try:
        return _restore(model, counts, arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise _damaged(str(e)) from e


def _restore(model: Model, counts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Saved:
    sizes = {str(k): _count(v) for k, v in counts["sizes"].items()}
    stream = Stream(model)
    stream.received = [_count(n) for n in counts["received"]]
    stream.real, stream.sent, stream.done = _count(counts["real"]), _count(counts["sent"]), bool(counts["done"])
    for port, queue, received in zip(model.inputs, stream.queues, stream.received, strict=True):
        array = arrays.get(f"waiting/{port.name}")
        if array is not None:
            queue.push(_like(port, array, sizes, model))
        if queue.count != received - stream.real * port.per // model.unit:
            raise ValueError(f"{queue.count} frames of {port.name!r} wait")
    for crop in stream.crops:
        crop.slots, crop.given = (_count(n) for n in counts["outputs"][crop.port.name])
        array = arrays.get(f"held/{crop.port.name}")
        if array is not None:
            crop.held = [_like(crop.port, array, sizes, model)]
            crop.waiting = array.shape[crop.port.axis or 0]
        if crop.waiting != max(0, crop.slots - crop.port.delay) - crop.given:
            raise ValueError(f"{crop.waiting} frames of {crop.port.name!r} are held")
    for port in model.outputs:
        if port.axis is None and f"running/{port.name}" in arrays:
            # Of any shape: it is handed out, not fed back.
            stream.last[port.name] = arrays[f"running/{port.name}"]
    states = None
    if counts["begun"]:
        states = [_like(s.past, arrays[f"state/{s.past.name}"], sizes, model) for s in model.states]
    static = {p.name: _like(p, arrays[f"static/{p.name}"], sizes, model) for p in model.statics if f"static/{p.name}" in arrays}
    return Saved(stream, sizes, states, static)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a count of {value!r}")
    return value


def _like(port: Port, array: np.ndarray, sizes: Sizes, model: Model) -> np.ndarray:
    """An array that this port can hold, as the port's type. ValueError if it cannot."""
    want = model.shape(port, sizes, model.unit)
    fits = want is None or (
        array.ndim == len(want) and all(a == port.axis or n == d for a, (n, d) in enumerate(zip(array.shape, want, strict=True)))
    )
    if not fits or (port.dtype is not None and array.dtype != port.dtype):
        raise ValueError(f"{array.dtype} {list(array.shape)} for {port.name!r}")
    return array


def _source(model: Model) -> Any:
    return (model.manifest.get("source") or {}).get("sha256")


def _damaged(why: str) -> ClientError:
    return ClientError("cannot load this stream", why=f"the bytes are damaged, or no saved stream ({why})")


# -- the container -------------------------------------------------------------------------------------------------------

_BLANK = "0" * 64


def _write(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {**metadata, "sha256": _BLANK}}
    parts, at = [], 0
    for name, array in arrays.items():
        code, raw, shape = "U8", b"", list(array.shape)
        if array.dtype.kind in "OSU":
            name, raw = f"text/{name}", json.dumps([list(array.shape), array.ravel().tolist()]).encode()
            shape = [len(raw)]
        else:
            code, raw = _CODES[array.dtype.name], np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = b"".join([len(text).to_bytes(8, "little"), text, *parts])
    return _signed(whole, hashlib.sha256(whole).hexdigest())


def _signed(whole: bytes, digest: str) -> bytes:
    """``whole`` with the digest in the place of the zeros."""
    mark = b'"sha256":"'
    at = whole.index(mark + _BLANK.encode()) + len(mark)
    return b"".join([whole[:at], digest.encode(), whole[at + 64 :]])


def _read(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata. ValueError, KeyError or TypeError where the bytes are not what was written."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"{type(data).__name__} instead of bytes")
    data = bytes(data)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"{len(data)} bytes are too few")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    digest = metadata["sha256"]
    if len(digest) != 64 or hashlib.sha256(data.replace(digest.encode(), _BLANK.encode(), 1)).hexdigest() != digest:
        raise ValueError("the checksum does not hold")
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        raw = data[8 + length + _count(start) : 8 + length + _count(end)]
        if name.startswith("text/"):
            shape, values = json.loads(raw)
            arrays[name.removeprefix("text/")] = np.array(values, dtype=object).reshape(shape)
        else:
            arrays[name] = np.frombuffer(raw, dtype_named(_NAMES[entry["dtype"]])).reshape(entry["shape"]).copy()
    return arrays, metadata

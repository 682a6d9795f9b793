"""What a pulsed file says of itself: its ports, types and shapes, and the frames each holds per pulse."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .. import contract
from ..errors import ClientError, ModelError

__all__ = ["Model", "Port", "Sizes", "State", "dtype_named", "open_session", "resolve"]

#: Lengths of symbolic dimensions by name; an unnamed one goes by ``input:axis``.
Sizes = dict[str, int]

#: onnxruntime's name of an element type: numpy's name of it, and ONNX's number.
_TYPES = {
    "float": ("float32", 1), "uint8": ("uint8", 2), "int8": ("int8", 3), "uint16": ("uint16", 4), "int16": ("int16", 5),
    "int32": ("int32", 6), "int64": ("int64", 7), "string": ("object", 8), "bool": ("bool", 9), "float16": ("float16", 10),
    "double": ("float64", 11), "uint32": ("uint32", 12), "uint64": ("uint64", 13), "bfloat16": ("bfloat16", 16),
    "float8e4m3fn": ("float8_e4m3fn", 17), "float8e4m3fnuz": ("float8_e4m3fnuz", 18), "float8e5m2": ("float8_e5m2", 19),
    "float8e5m2fnuz": ("float8_e5m2fnuz", 20),
}  # fmt: skip


#: Bytes of a pulse's wires up to which each may have a place of its own.
_ROOMY = 16 << 20


def open_session(
    model: str | os.PathLike[str] | bytes,
    options: ort.SessionOptions | None = None,
    providers: list[Any] | None = None,
    external_data: Path | None = None,
) -> ort.InferenceSession:
    """An onnxruntime session: one thread and sequential unless options say otherwise. ModelError if it fails.

    Wires of a pulsed model share no memory where they are small: keeping account of who is done with it takes
    onnxruntime up to a tenth of a short pulse.
    """
    if options is None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        options.enable_mem_reuse = not _roomy(model)
    if external_data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(external_data))
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return ort.InferenceSession(source, options, providers=providers or ["CPUExecutionProvider"])
    except Exception as e:
        name = "the model" if isinstance(model, bytes) else repr(os.fspath(model))
        why = str(e).strip().splitlines()[0]
        raise ModelError(f"onnxruntime cannot load {name}", why=why, hint=_advice(why)) from e


def _roomy(model: str | os.PathLike[str] | bytes) -> bool:
    """Whether the wires of a pulse may have a place each."""
    try:
        if isinstance(model, bytes):
            manifest = contract.peek(model)
        else:
            with open(model, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
                manifest = contract.peek(data)
    except (OSError, ValueError):  # what is wrong with the file, the session says better
        return False
    size = (manifest or {}).get("wire_bytes")
    return isinstance(size, int) and size <= _ROOMY


def _advice(why: str) -> str:
    """What to try where a model wants operators of the runtime's own, or attributes of them, that this version has not."""
    if '"com.microsoft"' not in why and "com.microsoft:" not in why:
        return ""
    return f"a newer onnxruntime (this is {ort.__version__}); a pulsed model, also to convert it without --target onnxruntime"


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output of the batch model. ``shape`` holds numbers, names, expressions of names and None.

    ``axis`` is its time axis or None; ``per`` its frames per unit of the stream (see :class:`Model`). ``dtype`` is None
    where it holds something else than tensors.
    """

    name: str
    dtype: Any
    element: int
    shape: tuple[int | str | None, ...]
    axis: int | None = None
    per: int = 0
    delay: int = 0
    length: Callable[[int], int] | None = None

    @property
    def before(self) -> tuple[slice, ...]:
        """The index of everything on the axes in front of time."""
        return (slice(None),) * (self.axis or 0)

    def dim(self, axis: int) -> str:
        """The name under which :data:`Sizes` has the length of an axis that is not a number."""
        d = self.shape[axis]
        return d if isinstance(d, str) else f"{self.name}:{axis}"


@dataclass(frozen=True, eq=False)
class State:
    """A state: the port it goes in and out of, its axis of rows, and whether it may be written where it is read."""

    past: Port
    present: str
    batch_axis: int | None
    in_place: bool


class Model:
    """A session and what its manifest says. ModelError if it has none.

    ``unit`` is the pulse, or with a dynamic pulse the least one (``pulse_multiple``), in frames of the stream symbol;
    every port holds a whole number of frames of its own per unit.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | ort.InferenceSession,
        options: ort.SessionOptions | None = None,
        providers: list[Any] | None = None,
    ):
        self.session = model if isinstance(model, ort.InferenceSession) else open_session(model, options, providers)
        metadata = self.session.get_modelmeta().custom_metadata_map
        try:
            self.manifest = contract.loads(metadata)
        except ValueError as e:
            raise ModelError("cannot stream this model", why=str(e), hint="convert it with pulsify first") from e
        m = self.manifest
        #: Tells this model from others: states of one mean nothing to another.
        self.digest = hashlib.sha256(metadata[contract.KEY].encode()).hexdigest()
        self.symbol: str = m["symbol"]
        self.dynamic = isinstance(m["pulse"], str)
        self.step = int(m["pulse_multiple"])
        self.unit = self.step if self.dynamic else int(m["pulse"])
        self._in = {i.name: i for i in self.session.get_inputs()}
        self._out = {o.name: o for o in self.session.get_outputs()}
        self.inputs = [self._port(i) for i in m["inputs"] if i["axis"] is not None]
        self.statics = [self._port(i) for i in m["inputs"] if i["axis"] is None]
        self.outputs = [self._port(o) for o in m["outputs"]]
        self.valid = self._port({"name": m["valid"]["input"]}) if m["valid"] is not None else None
        self.states = [
            State(self._port({"name": s["input"]}), s["output"], s["batch_axis"], bool(s.get("in_place"))) for s in m["states"]
        ]
        self.batch = self._batch()
        self.settle = max((o.get("settle") or 0 for o in m["outputs"]), default=0)

    def _port(self, row: Mapping[str, Any]) -> Port:
        name, axis = row["name"], row.get("axis")
        meta = self._in.get(name) or self._out.get(name)
        if meta is None:
            raise ModelError("cannot stream this model", why=f"its manifest tells of {name!r}, which the graph has not")
        known = _TYPES.get(meta.type.removeprefix("tensor(").removesuffix(")"))
        kind, element = known or ("", 0)
        length = row.get("length")
        return Port(
            name, dtype_named(kind) if known else None, element, tuple(meta.shape or ()), axis,
            0 if axis is None else contract.evaluate(row["frames"], **({self.manifest["pulse"]: self.step} if self.dynamic else {})),
            row.get("delay") or 0, None if length is None else contract.compiled(length, self.symbol),
        )  # fmt: skip

    def _batch(self) -> str | None:
        """The name of the dimension of rows: the one in states and valid_frames, else the inputs' first besides time."""
        ports = [*(s.past for s in self.states), *([self.valid] if self.valid is not None else [])]
        named = [d for p in ports for d in p.shape if isinstance(d, str)]
        if ports:
            return named[0] if named else None
        return next((p.dim(a) for p in self.inputs for a, d in enumerate(p.shape) if a != p.axis and not isinstance(d, int)), None)

    def ratio(self, port: Port) -> Fraction:
        """Frames of a port per frame of the stream symbol."""
        return Fraction(port.per, self.unit)

    def check_pulse(self, pulse: int | None) -> int | None:
        """Frames of the symbol per call; None where each call takes what there is. ClientError if the model takes others."""
        if pulse is not None and ((not self.dynamic and pulse != self.unit) or pulse < 1 or pulse % self.step):
            raise ClientError(
                f"a pulse of {pulse} frames",
                why=f"this model takes {'multiples of ' + str(self.step) if self.dynamic else self.unit}",
                hint=f"a multiple of {self.step}" if self.dynamic else "leave the pulse out",
            )
        return pulse if self.dynamic else self.unit

    def shape(self, port: Port, sizes: Sizes, size: int) -> tuple[int, ...] | None:
        """What a port holds in a pulse of ``size`` frames; None if that cannot be told. Inputs are always told: what is
        not known of them is 1."""
        known = {**sizes, self.manifest["pulse"]: size} if self.dynamic else sizes
        dims: list[int] = []
        for a, d in enumerate(port.shape):
            if a == port.axis:
                dims.append(size * port.per // self.unit)
                continue
            length = d if isinstance(d, int) else resolve(port.dim(a), known)
            if length is None:
                if port.name in self._out:
                    return None
                length = 1
            dims.append(length)
        return tuple(dims)


def resolve(dim: str, sizes: Mapping[str, int]) -> int | None:
    """The length of a symbolic dimension, which may be an expression of others; None if unknown."""
    if dim in sizes:
        return sizes[dim]
    try:
        return contract.evaluate(dim, **sizes)
    except (ValueError, SyntaxError):
        return None


def dtype_named(kind: str) -> np.dtype[Any]:
    """numpy's type of that name; the narrow floats are ml_dtypes' where that is installed, else their bits."""
    try:
        return np.dtype(kind)
    except TypeError:
        pass
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(np.uint16 if kind == "bfloat16" else np.uint8)
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, kind))
    return found

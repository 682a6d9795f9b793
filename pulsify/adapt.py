"""What a user asks to change in a batch model before it is converted: constants for inputs, states, fewer outputs.

Every function gives a new :class:`Source`; the file it came from is not touched. Verification compares with the
adapted model.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from pulsify.errors import UsageError
from pulsify.graph import NodeBuilder
from pulsify.source import Source
from pulsify.stages.load import AxisSpec, load, normalize
from pulsify.unbake import unbake

__all__ = ["Changes", "adapt", "bind", "carry", "keep_outputs", "length_input", "outputs_that_work", "unbake"]


@dataclass(frozen=True)
class Changes:
    """What to change before converting. Empty fields change nothing.

    ``bind`` gives inputs a constant value, ``states`` pairs exposed state inputs with their outputs, ``outputs`` are
    the ones to keep, ``lengths`` the inputs that hold the number of frames; ``unbake`` frees Reshape targets that hold
    the length of the file's own time axis.
    """

    bind: Mapping[str, str | float | Sequence[float]] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    lengths: Sequence[str] = ()
    unbake: bool = False


def adapt(source: Source, changes: Changes, axis: AxisSpec) -> Source:
    """All changes, in the order that lets each see what the others leave. UsageError as each gives it."""
    if changes.bind:
        source = bind(source, changes.bind)
    if changes.states:
        source = carry(source, changes.states)
    if changes.outputs:
        source = keep_outputs(source, changes.outputs)
    if changes.unbake:
        source = unbake(source, axis)
    if changes.lengths:
        g = load(source, axis)
        streams = [(v.name or "", g.time_axes(v)[0]) for v in g.graph.inputs if g.time_axes(v)]
        if not streams:
            raise UsageError("no input streams", hint="declare a time axis with --axis input:axis")
        for name in changes.lengths:
            source = length_input(source, name, *streams[0])
    return source


def outputs_that_work(source: Source, works: Callable[[Source], bool]) -> list[str]:
    """Outputs that convert on their own, for a model of several one of which cannot."""
    names = [v.name or "" for v in source.model.graph.outputs]
    if not 1 < len(names) <= 16:
        return []
    return [name for name in names if works(keep_outputs(source, [name]))]


def bind(source: Source, values: Mapping[str, str | float | Sequence[float]]) -> Source:
    """Inputs turned into constants: ``{"sr": 16000}``, or text as the command line has it (``"16000"``, ``"1,256"``).

    A single number fills the input's declared shape. UsageError for an unknown input or a value that does not fit.
    """
    model = normalize(source)
    for name, value in values.items():
        old = _input(model, name)
        dtype = (old.dtype or ir.DataType.FLOAT).numpy()
        array = _parse(name, value, dtype)
        shape = tuple(d if isinstance(d, int) else 1 for d in old.shape) if old.shape is not None else ()
        if array.size == 1:
            array = np.full(shape, array.reshape(-1)[0], dtype=dtype)
        elif array.size == int(np.prod(shape)):
            array = array.reshape(shape)
        else:
            raise UsageError(
                f"cannot bind {name!r} to {array.size} values",
                why=f"the input is {list(old.shape) if old.shape is not None else 'of unknown shape'}",
                hint="give one value, or as many as it has elements, separated by commas",
            )
        _replace_by_constant(model, old, ir.tensor(array))
    return replace(source, model=model, edited=True)


def keep_outputs(source: Source, names: Iterable[str]) -> Source:
    """Only these outputs, and the nodes they need. UsageError for an unknown one."""
    model = normalize(source)
    wanted = list(names)
    have = [v.name or "" for v in model.graph.outputs]
    for name in wanted:
        if name not in have:
            raise UsageError(f"no output {name!r} in this model", why=f"its outputs are {', '.join(have)}", hint=_close(name, have))
    if not wanted:
        raise UsageError("no output is left", why=f"the model's outputs are {', '.join(have)}")
    for value in [v for v in model.graph.outputs if v.name not in wanted]:
        model.graph.outputs.remove(value)
    passes.RemoveUnusedNodesPass()(model)
    return replace(source, model=model, edited=True)


def carry(source: Source, pairs: Mapping[str, str]) -> Source:
    """State inputs and outputs that the author exposed, ``{"h0": "hn"}``, made the business of the pulsed model.

    The input becomes the zeros a stream starts with and the output goes: the recurrence behind them carries its
    state from pulse to pulse on its own. UsageError where the pair does not match.
    """
    model = normalize(source)
    inputs, outputs = list(pairs), list(pairs.values())
    for name, out in pairs.items():
        old = _input(model, name)
        match = next((v for v in model.graph.outputs if v.name == out), None)
        if match is None:
            have = [v.name or "" for v in model.graph.outputs]
            raise UsageError(f"no output {out!r} in this model", why=f"its outputs are {', '.join(have)}", hint=_close(out, have))
        a, b = _shape(old), _shape(match)
        if (len(a) != len(b) and b) or old.dtype != match.dtype:
            raise UsageError(
                f"{name!r} and {out!r} are no state pair",
                why=f"the input is {old.dtype} {a}, the output {match.dtype} {b}",
                hint="a state's input and output have the same type and shape",
            )
    for name in inputs:
        _zeros(model, _input(model, name), set(inputs))
    for value in [v for v in model.graph.outputs if v.name in outputs]:
        model.graph.outputs.remove(value)
    if not model.graph.outputs:
        raise UsageError("no output is left", why="every output is a state", hint="name only the states with --state")
    passes.RemoveUnusedNodesPass()(model)
    return replace(source, model=model, edited=True)


def _input(model: ir.Model, name: str) -> ir.Value:
    for v in model.graph.inputs:
        if v.name == name:
            return v
    have = [v.name or "" for v in model.graph.inputs]
    raise UsageError(f"no input {name!r} in this model", why=f"its inputs are {', '.join(have)}", hint=_close(name, have))


def _close(name: str, have: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, have, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else ""


def _shape(v: ir.Value) -> list[int | str | None]:
    return [] if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape]


def _parse(name: str, value: str | float | Sequence[float], dtype: np.dtype) -> np.ndarray:
    words = value.split(",") if isinstance(value, str) else np.asarray(value).reshape(-1).tolist()
    named = {"true": 1, "false": 0}
    try:
        numbers = [named.get(str(w).strip().lower(), w) for w in words]
        return np.array([float(x) if dtype.kind == "f" else int(x) for x in numbers]).astype(dtype)
    except ValueError as e:
        raise UsageError(f"cannot bind {name!r} to {value!r}", why=f"the input holds {dtype}", hint=f"{name}=16000") from e


def _replace_by_constant(model: ir.Model, old: ir.Value, tensor: ir.TensorProtocol) -> None:
    build = NodeBuilder(model.graph)
    new = build.initializer(tensor, f"{old.name}.bound")
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    model.graph.inputs.remove(old)


def _zeros(model: ir.Model, old: ir.Value, states: set[str]) -> None:
    """Zeros of the input's shape; a symbolic dimension is read off another input that has it."""
    dims = _shape(old)
    dtype = old.dtype or ir.DataType.FLOAT
    if all(isinstance(d, int) for d in dims):
        _replace_by_constant(model, old, ir.tensor(np.zeros([int(d or 0) for d in dims], dtype=dtype.numpy())))
        return
    build = _builder(model)
    before = list(model.graph)
    parts = [build.const([d]) if isinstance(d, int) else _size_of(model, build, d, old, states) for d in dims]
    shape = build.op("Concat", parts, f"{old.name}.shape", axis=0)
    zeros = build.op("ConstantOfShape", [shape], f"{old.name}.zeros", value=np.zeros(1, dtype=dtype.numpy()))
    _to_front(model, before)
    old.replace_all_uses_with(zeros, replace_graph_outputs=True)
    model.graph.inputs.remove(old)


def length_input(source: Source, name: str, stream: str, axis: int) -> Source:
    """An input that holds the number of frames, read off the stream itself: it becomes the length of ``axis`` of the
    input ``stream``, in every element. UsageError where there is no such input, or it is no integer."""
    model = normalize(source)
    old, x = _input(model, name), _input(model, stream)
    dtype = old.dtype or ir.DataType.INT64
    if not dtype.is_integer():
        raise UsageError(f"{name!r} is no length", why=f"it holds {dtype}", hint="a length is an integer input")
    build = _builder(model)
    before = list(model.graph)
    length = build.op("Shape", [x], f"{name}.length", start=axis, end=axis + 1)
    if dtype != ir.DataType.INT64:
        length = build.op("Cast", [length], f"{name}.cast", to=dtype)
    dims = _shape(old)
    if not dims:
        length = build.op("Squeeze", [length, build.const([0])], f"{name}.scalar")
    elif dims != [1]:
        parts = [build.const([d]) if isinstance(d, int) else _size_of(model, build, d, old, {name}) for d in dims]
        shape = parts[0] if len(parts) == 1 else build.op("Concat", parts, f"{name}.shape", axis=0)
        length = build.op("Expand", [length, shape], f"{name}.rows")
    _to_front(model, before)
    old.replace_all_uses_with(length, replace_graph_outputs=True)
    model.graph.inputs.remove(old)
    return replace(source, model=model, edited=True)


def _size_of(model: ir.Model, build: NodeBuilder, d: str | None, old: ir.Value, but: set[str]) -> ir.Value:
    """A dimension read off an input that has it and is not among ``but``."""
    for v in model.graph.inputs:
        for a, other in enumerate(_shape(v)):
            if v.name not in but and other == d and d is not None:
                return build.op("Shape", [v], f"{old.name}.size", start=a, end=a + 1)
    raise UsageError(
        f"cannot work out the shape of {old.name!r}",
        why=f"it is {_shape(old)}, and no other input has the dimension {d}",
        hint="fix that dimension in the model",
    )


def _builder(model: ir.Model) -> NodeBuilder:
    taken = {v.name for n in model.graph for v in n.outputs if v.name} | {n.name for n in model.graph if n.name}
    return NodeBuilder(model.graph, taken)


def _to_front(model: ir.Model, before: list[ir.Node]) -> None:
    """Nodes just made go in front of those that were there."""
    known = set(before)
    for n in [n for n in model.graph if n not in known]:
        model.graph.remove(n)
        model.graph.insert_before(before[0], n)

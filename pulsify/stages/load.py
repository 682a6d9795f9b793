"""load: the model in one spelling of everything that has several, its time axis declared.

Promise: local functions inlined, opset 18 or later, constants as initializers, the time axis of every input declared.
"""

from __future__ import annotations

import contextlib
import difflib
import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common as passes

from pulsify.assume import Assumptions
from pulsify.dim import Dim, DimLike, parse, slope, sym, symbols_of
from pulsify.errors import ModelError, UsageError
from pulsify.facts import WireFact
from pulsify.graph import Graph, batch_symbol, tensor_fact
from pulsify.source import Source, first_line
from pulsify.stages import _old_resizes as old_resizes
from pulsify.stages import _old_rows as old_rows

__all__ = ["OPSET", "AxisSpec", "batchlike", "declared_dims", "load", "normalize"]

OPSET = 18


@dataclass(frozen=True, slots=True)
class AxisSpec:
    """Which dimension is time: a symbol by name, or axes of inputs (``{input: axis}``), or neither (to be found)."""

    symbol: str | None = None
    axes: Mapping[str, int] | None = None

    @staticmethod
    def parse(specs: Sequence[str]) -> AxisSpec:
        """From command-line words: ``S``, or any number of ``input:2``. UsageError if mixed."""
        axes: dict[str, int] = {}
        names = []
        for spec in specs:
            m = re.fullmatch(r"(.+):(-?\d+)", spec)
            if m:
                if axes.setdefault(m[1], int(m[2])) != int(m[2]):
                    raise UsageError(
                        f"two time axes on input {m[1]!r}: {axes[m[1]]} and {m[2]}",
                        why="a client sends an input along one axis",
                        hint=f"one of --axis {m[1]}:{axes[m[1]]} and --axis {spec}",
                    )
            else:
                names.append(spec)
        if len(set(names)) > 1:
            raise UsageError(
                f"{len(set(names))} stream symbols given: {', '.join(names)}",
                why="a model streams along one symbol",
                hint="name one symbol, or axes of inputs as input:axis",
            )
        return AxisSpec(names[0] if names else None, axes or None)


def normalize(source: Source) -> ir.Model:
    """A copy in the one spelling the stages read: functions inlined, opset 18 or later, constants as initializers,
    every node and wire named, nothing dead. ModelError where that fails."""
    opset = source.model.opset_imports.get("", source.model.opset_imports.get("ai.onnx", OPSET))
    model = source.model.clone() if opset >= OPSET else _upgrade(source)
    try:
        if model.functions:
            passes.InlinePass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.RemoveInitializersFromInputsPass()(model)
    except Exception as e:
        raise ModelError("cannot prepare the model", why=first_line(e)) from e
    _name_everything(model)
    _name_dimensions(model)
    return model


def load(source: Source, axis: AxisSpec) -> Graph:
    """The graph of a model with its time axis declared.

    Raises UsageError where the axis does not exist or cannot be guessed, ModelError where the model is broken.
    """
    model = normalize(source)
    shapes, symbol, notes = _time(model, axis)
    g = Graph(model, symbol, Assumptions(symbol), notes=[*source.notes, *notes])
    g.source = {"sha256": source.sha256, "opset": source.opset, "producer": source.model.producer_name or ""}
    for value, shape in zip(model.graph.inputs, shapes, strict=True):
        g.facts[value] = WireFact(value.dtype or ir.DataType.FLOAT, shape)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        g.facts[value] = tensor_fact(value.const_value)
    g.assume.baked = _baked(model, axis)
    g.batch = batch_symbol([s for s in shapes if s is not None], symbol)
    return g


def _upgrade(source: Source) -> ir.Model:
    """Convert to opset 18 with onnx's converter. Weights stay out of it: the converter copies what it is given."""
    from onnx import version_converter

    model = source.model.clone()
    if model.functions:
        passes.InlinePass()(model)
    if source.opset < 13:
        old_rows.hide(model)
    large: dict[str, ir.TensorProtocol] = {}
    proto_model = model.clone()
    declared = {v.name for v in proto_model.graph.inputs}
    for name, value in list(proto_model.graph.initializers.items()):
        if value.const_value is not None and value.const_value.nbytes > 4096 and name not in declared:
            large[name] = value.const_value
            del proto_model.graph.initializers[name]
            value.const_value = None
            proto_model.graph.inputs.append(value)
    try:
        converted = version_converter.convert_version(ir.to_proto(proto_model), OPSET)
    except Exception as e:
        raise ModelError(
            f"cannot convert the model from opset {source.opset} to {OPSET}",
            why=first_line(e),
            hint=f"export the model with opset {OPSET} or later",
        ) from e
    out = ir.from_proto(converted)
    for value in [v for v in out.graph.inputs if v.name in large]:
        out.graph.inputs.remove(value)
        value.const_value = large[value.name or ""]
        out.graph.register_initializer(value)
    old_rows.show(out)
    if source.opset < 11:
        old_resizes.show(out)
    out.metadata_props.update(model.metadata_props)
    out.producer_name = model.producer_name
    return out


def _name_everything(model: ir.Model) -> None:
    """Give every node and wire a unique name; keep the names the file gives where they are unique."""
    taken = {v.name for v in model.graph.inputs} | set(model.graph.initializers)
    taken |= {v.name for n in model.graph for v in n.outputs if v.name}
    seen: set[str] = set()
    for i, node in enumerate(model.graph):
        stem = node.name or f"{node.op_type}_{i}"
        name, k = stem, 2
        while name in seen:
            name, k = f"{stem}_{k}", k + 1
        seen.add(name)
        node.name = name
        for j, value in enumerate(node.outputs):
            if not value.name:
                name, k = f"{node.name}.{j}", 2
                while name in taken:
                    name, k = f"{node.name}.{j}_{k}", k + 1
                taken.add(name)
                value.name = name


def _name_dimensions(model: ir.Model) -> None:
    """Every dimension of the inputs an identifier, or an expression of those. A name in a file may be any text; it is an expression
    if its symbols stand in the model on their own (``seq-len`` beside no ``seq`` is a name), or if it is a multiple of one."""
    declared = [(v, list(v.shape)) for v in (*model.graph.inputs, *model.graph.outputs) if v.shape is not None]
    given = [d.value for v, shape in declared if v.is_graph_input() for d in shape if not isinstance(d, int) and d.value is not None]
    plain = {text for text in given if text == _identifier(text)}
    spelled, taken = {text: text for text in plain}, set(plain)
    for value, shape in declared:
        names = [None if isinstance(d, int) else d.value for d in shape]
        for name in names:
            if name is None or name in spelled:
                continue
            expression = _expression(name, plain)
            word, k = _identifier(name) if expression is None else str(expression), 2
            while expression is None and word in taken:
                word, k = f"{_identifier(name)}_{k}", k + 1
            taken.add(word)
            spelled[name] = word
        if any(name is not None and spelled[name] != name for name in names):
            value.shape = ir.Shape([d if name is None else spelled[name] for d, name in zip(shape, names, strict=True)])


def _expression(text: str, plain: set[str]) -> Dim | None:
    """The expression of symbols that stand in the model, or the multiple of any, that a text is; None if neither."""
    try:
        found = parse(text)
    except ValueError:
        return None
    symbols = symbols_of(found)
    if not isinstance(found, Dim) or not symbols:
        return None
    if symbols <= plain:
        return found
    (one, *others) = symbols
    factor = None if others or one != _identifier(one) else slope(found, one)
    return found if factor and factor > 0 and found == sym(one) * factor else None


def declared_dims(value: ir.Value) -> tuple[DimLike, ...] | None:
    """Declared dimensions of an input as expressions; an unnamed one gets a symbol of its own."""
    if value.shape is None:
        return None
    out: list[DimLike] = []
    for i, d in enumerate(value.shape):
        if isinstance(d, int):
            out.append(d)
        elif d.value is None:
            out.append(sym(f"{_identifier(value.name or 'input')}_{i}"))
        else:
            with contextlib.suppress(ValueError):
                out.append(parse(d.value))
                continue
            out.append(sym(_identifier(d.value)))
    return tuple(out)


def _identifier(text: str) -> str:
    """A text as a symbol that expressions can hold, and those who evaluate them."""
    word = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text))
    word = "".join(c if f"_{c}".isidentifier() else "_" for c in word)
    return word if word.isidentifier() and not keyword.iskeyword(word) and word not in ("floor", "max", "min") else f"_{word}"


def _time(model: ir.Model, axis: AxisSpec) -> tuple[list[Any], str, list[str]]:
    """Shapes of the inputs, the stream symbol, and what to tell the user of how it was found."""
    inputs = list(model.graph.inputs)
    shapes = [declared_dims(v) for v in inputs]
    names = {v.name: i for i, v in enumerate(inputs)}
    used = sorted({s for shape in shapes for d in shape or () for s in symbols_of(d)})
    if axis.axes:
        symbol = axis.symbol or _own_symbol(axis.axes, names, shapes) or _fresh_symbol(used)
        for name, a in axis.axes.items():
            if name not in names:
                raise UsageError(
                    f"no input {name!r} in this model",
                    why=f"its inputs are {', '.join(_describe(v, s) for v, s in zip(inputs, shapes, strict=True))}",
                    hint="name an input as input:axis",
                )
            shape = shapes[names[name]]
            if shape is None or not -len(shape) <= a < len(shape):
                raise UsageError(
                    f"no axis {a} on input {name!r}",
                    why=f"it has {0 if shape is None else len(shape)} axes: {_describe(inputs[names[name]], shape)}",
                    hint=f"an axis from 0 to {0 if shape is None else len(shape) - 1}",
                )
            row = list(shape)
            row[a] = sym(symbol)
            shapes[names[name]] = tuple(row)
        return shapes, symbol, []
    if axis.symbol is not None:
        symbol = axis.symbol if axis.symbol in used else _identifier(axis.symbol)
        if symbol not in used:
            raise UsageError(
                f"no axis {axis.symbol!r} in this model",
                why=f"its inputs are {', '.join(_describe(v, s) for v, s in zip(inputs, shapes, strict=True))}",
                hint=_axis_hints(inputs, shapes, used, axis.symbol),
            )
        return shapes, symbol, []
    found = candidates(inputs, shapes, used)
    if len(found) != 1:
        raise UsageError(
            "which axis is time?" if found or used else "no input has a symbolic axis",
            why=f"its inputs are {', '.join(_describe(v, s) for v, s in zip(inputs, shapes, strict=True))}",
            hint=_axis_hints(inputs, shapes, found or used, None),
        )
    if batchlike(found[0], shapes):
        raise UsageError(
            "which axis is time?",
            why=f"the only symbolic axis, {found[0]}, looks like the batch: "
            f"the inputs are {', '.join(_describe(v, s) for v, s in zip(inputs, shapes, strict=True))}",
            hint=[f"--axis {found[0]}, if it is time after all", *_axis_hints(inputs, shapes, (), None)],
        )
    return shapes, found[0], [f"time axis: {found[0]} (the only candidate)"]


def _fresh_symbol(used: Sequence[str]) -> str:
    return next(s for s in ("S", "T", "time", *(f"S_{k}" for k in range(len(used) + 1))) if s not in used)


def _own_symbol(axes: Mapping[str, int], names: Mapping[str | None, int], shapes: Sequence[Any]) -> str | None:
    """The symbol the declared axes already have, if it is one and stands on no other axis of those inputs."""
    found = set()
    for name, a in axes.items():
        shape = shapes[names[name]] if name in names else None
        if shape is None or not -len(shape) <= a < len(shape) or not isinstance(shape[a], Dim):
            return None
        if sum(symbols_of(d) == symbols_of(shape[a]) for d in shape) > 1:
            return None
        found.add(shape[a])
    word = str(found.pop()) if len(found) == 1 else ""
    return word if word.isidentifier() else None


def _baked(model: ir.Model, axis: AxisSpec) -> int | None:
    """The number the file has on the declared axes, if it is one."""
    found = set()
    for v in model.graph.inputs:
        if axis.axes and v.name in axis.axes and v.shape is not None:
            found.add(v.shape[axis.axes[v.name or ""]])
    number = found.pop() if len(found) == 1 else None
    return number if isinstance(number, int) else None


def candidates(inputs: Sequence[ir.Value], shapes: Sequence[Any], used: Sequence[str]) -> list[str]:
    """Symbols that may be time: all, less those that look like the batch where others remain."""
    rest = [s for s in used if not batchlike(s, shapes)]
    return rest or list(used)


def batchlike(symbol: str, shapes: Sequence[Any]) -> bool:
    """Whether a symbol looks like the batch, by its name and where it stands."""
    if "batch" in symbol.lower():
        return True
    at = [(i, len(shape)) for shape in shapes for i, d in enumerate(shape or ()) if isinstance(d, Dim) and d == sym(symbol)]
    return bool(at) and all(i == 0 and rank > 1 for i, rank in at) and bool(_NO_NAME.fullmatch(symbol.lower()))


#: Names of a batch, and those that exporters and :func:`declared_dims` make up for the first axis of an input.
_NO_NAME = re.compile(r"n|b|bs|bsz|s\d+|unk__\d+|\w+_0|dim_?\d+")


def _axis_hints(inputs: Sequence[ir.Value], shapes: Sequence[Any], names: Sequence[str], typo: str | None) -> list[str]:
    hints = []
    close = difflib.get_close_matches(typo, names, n=1, cutoff=0.5) if typo else []
    if close:
        hints.append(f"did you mean --axis {close[0]}?")
    elif names:
        hints.append(" or ".join(f"--axis {s}" for s in names))
    for v, shape in zip(inputs, shapes, strict=True):
        if shape:
            hints.append(f"--axis {v.name}:{len(shape) - 1} declares an axis of an input, also where it has a number")
            break
    return hints


def _describe(value: ir.Value, shape: Any) -> str:
    return f"{value.name} [{', '.join(map(str, shape)) if shape is not None else '?'}]"

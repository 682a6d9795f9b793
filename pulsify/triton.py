"""A model repository for the Triton Inference Server: the pulsed model, and a ``config.pbtxt`` by which the server keeps
the states of every stream ("implicit state") and runs the pulses of many streams as one batch (its sequence batcher).

After Triton's model_config.proto and the pages "Implicit State Management" and "Schedulers" of its user guide:

- A request is one pulse of one stream and carries that stream's correlation id; the first is flagged as the sequence's
  start, the last as its end. At the start Triton gives the model zeros for every state (``initial_state`` with
  ``zero_data``), which is all that the contract asks for, so the model needs no control inputs.
- ``oldest`` lets any number of streams share one instance: each step takes the oldest waiting requests, one per stream.
  (``direct`` would tie a stream to one row of the batch for its whole life.)
- Triton puts the batch first, and nothing else; so a state whose rows are on another axis (those of recurrent nodes are)
  is transposed on its way in and out, and one that is nothing but rows (a counter) gets an axis of 1 behind them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from pulsify import contract
from pulsify.errors import UsageError
from pulsify.files import place, writing
from pulsify.graph import Graph, NodeBuilder, StateSlot

if TYPE_CHECKING:
    from pulsify.api import Conversion

__all__ = ["Serving", "config", "rows_first", "save"]

_TYPES = {
    "FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16", "BOOL": "BOOL", "STRING": "STRING",
    "INT8": "INT8", "INT16": "INT16", "INT32": "INT32", "INT64": "INT64",
    "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64",
}  # fmt: skip


@dataclass(frozen=True)
class Serving:
    """How a fleet is served: rows per batch, streams at a time per instance, seconds after which a silent stream is
    dropped, and microseconds that a pulse may wait for others to join its batch."""

    rows: int = 32
    streams: int = 1024
    idle_seconds: int = 60
    wait_microseconds: int = 1000


def save(done: Conversion, folder: Path, name: str, serving: Serving | None = None, *, verify: bool = False) -> Path:
    """Write ``folder/name/1/model.onnx`` and ``folder/name/config.pbtxt``; the path of the model.

    The states of ``done`` get their rows first, which its verification then covers. Raises UsageError where a name or
    the place is not possible, VerificationError.
    """
    if not re.fullmatch(r"[\w.\-]+", name):
        raise UsageError(f"a Triton model named {name!r}", why="its name is that of a folder: letters, digits, '_', '.' and '-'")
    rows_first(done.graph)
    done.manifest = contract.loads(done.graph.model.metadata_props)
    text = config(done.graph, name, serving or Serving())
    version = folder / name / "1"
    with _folder(version):
        path = done.save(version / "model.onnx", verify=verify)
        place(text.encode(), folder / name / "config.pbtxt")
    return path


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder to write into; those that had to be made for it are taken away again if that fails."""
    made = [p for p in (path, *path.parents) if not p.exists()]
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for p in made:
            with contextlib.suppress(OSError):
                p.rmdir()
        raise


def rows_first(g: Graph) -> None:
    """Put the rows of every state of an emitted graph on axis 0 of at least two."""
    build = NodeBuilder(g.graph, {v.name for n in g.graph for v in n.outputs if v.name})
    build.names |= {n.name for n in g.graph if n.name}
    for slot in g.slots:
        state = slot.state
        if g.batch is None or state.batch_axis is None:
            continue
        if state.batch_axis:
            order = [state.batch_axis, *(a for a in range(len(state.shape)) if a != state.batch_axis)]
            back = [order.index(a) for a in range(len(order))]
            axis = None if state.axis is None else order.index(state.axis)
            shape = tuple(state.shape[a] for a in order)
            _through(build, slot, ("Transpose", {"perm": back}), ("Transpose", {"perm": order}))
            slot.state = replace(state, shape=shape, axis=axis, batch_axis=0)
        elif len(state.shape) == 1:
            axes = build.const([1])
            _through(build, slot, ("Squeeze", {}), ("Unsqueeze", {}), axes)
            slot.state = replace(state, shape=(*state.shape, 1))
        else:
            continue
        for v in (slot.past, slot.present):
            assert v is not None
            v.shape = ir.Shape(list(slot.state.shape))
            v.type = ir.TensorType(slot.state.dtype)
    g.graph.sort()
    contract.rewrite(g)


def _through(build: NodeBuilder, slot: StateSlot, into: tuple[str, Any], out: tuple[str, Any], *more: ir.Value) -> None:
    """Pass both ends of a state through a node; the outer wires have the names."""
    past, present = slot.past, slot.present
    assert past is not None and present is not None and past.name is not None and present.name is not None
    uses = list(past.uses())
    inner = build.node(into[0], [past, *more], f"{past.name}.in", into[1]).outputs[0]
    for use in uses:
        use.node.replace_input_with(use.idx, inner)
    name, at = present.name, build.graph.outputs.index(present)
    present.name = build.unique(f"{name}.out")
    slot.present = build.node(out[0], [present, *more], f"{name}.rows", out[1]).outputs[0]
    slot.present.name = name
    build.graph.outputs[at] = slot.present


def batches(g: Graph) -> str:
    """Why the rows of several streams cannot be one batch in Triton; empty where they can."""
    if g.batch is None:
        return "the model has no batch axis"
    states = {v for slot in g.slots for v in (slot.past, slot.present)}
    for v in (*g.graph.inputs, *g.graph.outputs):
        if v not in states and (not v.shape or v.shape[0] != g.batch):
            return f"{v.name} has no rows on its first axis"
    for slot in g.slots:
        if slot.state.batch_axis != 0:
            return f"the state {slot.past.name if slot.past else slot.state.id} is one for all rows"
    return ""


def config(g: Graph, name: str, serving: Serving) -> str:
    """The text of ``config.pbtxt`` for an emitted graph whose states have their rows first."""
    alone = batches(g)
    skip = 0 if alone else 1
    states = {slot.past for slot in g.slots} | {slot.present for slot in g.slots}
    lines: list[tuple[str, Any]] = [
        ("name", name),
        ("backend", "onnxruntime"),
        ("max_batch_size", 0 if alone else serving.rows),
        *(("input", _wire(v, skip, g.batch)) for v in g.graph.inputs if v not in states),
        *(("output", _wire(v, skip, g.batch)) for v in g.graph.outputs if v not in states),
    ]
    oldest: list[tuple[str, Any]] = [("max_candidate_sequences", serving.streams)]
    if not alone:
        oldest.append(("max_queue_delay_microseconds", serving.wait_microseconds))
    sequence: list[tuple[str, Any]] = [
        ("max_sequence_idle_microseconds", serving.idle_seconds * 1_000_000),
        ("oldest", oldest),
        *(("state", _state(slot, skip)) for slot in g.slots),
    ]
    lines.append(("sequence_batching", sequence))
    head = f"# Streams of {g.symbol} through a pulsed model: one request is one pulse of one stream.\n"
    if alone:
        head += f"# No batches: {alone}.\n"
    return head + "".join(f"{line}\n" for line in _text(lines))


def _wire(v: ir.Value, skip: int, batch: str | None) -> list[tuple[str, Any]]:
    """An input or output. Without batches a batch axis is one row; with them, what has rows alone is asked for as [1] and
    reshaped to nothing, since the server wants at least one axis."""
    shape = [d if isinstance(d, int) else d.value for d in v.shape or ()][skip:]
    dims = [d if isinstance(d, int) else 1 if d == batch else -1 for d in shape]
    out: list[tuple[str, Any]] = [("name", v.name), ("data_type", _type(v.dtype)), ("dims", dims or [1])]
    if not dims and skip:
        out.append(("reshape", [("shape", [])]))
    return out


def _state(slot: StateSlot, skip: int) -> list[tuple[str, Any]]:
    assert slot.past is not None and slot.present is not None
    dims = [d if isinstance(d, int) else 1 for d in slot.state.shape[skip:]]
    kind = _type(slot.state.dtype)
    zeros = [("name", f"{slot.state.id} zeros"), ("data_type", kind), ("dims", dims), ("zero_data", True)]
    return [
        ("input_name", slot.past.name), ("output_name", slot.present.name), ("data_type", kind), ("dims", dims),
        ("initial_state", zeros),
    ]  # fmt: skip


class _Word(str):
    """A name of an enumeration, written without quotes."""


def _type(dtype: ir.DataType | None) -> _Word:
    if dtype is None or dtype.name not in _TYPES:
        raise UsageError(f"Triton has no type for {dtype.name if dtype else 'a wire'}", hint="serve the model in another way")
    return _Word(f"TYPE_{_TYPES[dtype.name]}")


def _text(fields: Iterable[tuple[str, Any]], indent: str = "") -> Iterator[str]:
    """Protobuf's text format. A list of pairs is a message, another list a repeated field."""
    for key, value in fields:
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            yield f"{indent}{key} {{"
            yield from _text(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, _Word):
        escaped = "".join(c if " " <= c <= "~" and c not in '"\\' else "".join(f"\\{b:03o}" for b in c.encode()) for c in value)
        return f'"{escaped}"'
    return str(value)

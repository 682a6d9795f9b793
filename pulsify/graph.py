"""An onnx_ir model and what is known of its wires, as handed from stage to stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.assume import Assumptions
from pulsify.dim import Dim, DimLike, floor, split_rows, sym, symbols_of
from pulsify.facts import AxisRegion, State, WireFact

__all__ = ["DOMAIN", "Graph", "NodeBuilder", "Output", "Pulse", "StateSlot", "attribute", "captured", "name_bodies", "shape_attribute", "sort", "subgraphs", "tensor", "tensor_fact"]

#: Domain of the pseudo-operators that live between ``pulse-v2`` and ``emit``.
DOMAIN = "pulsify"

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS


@dataclass(frozen=True, slots=True)
class Pulse:
    """Frames of the stream symbol per pulse: an int, or the name of the dynamic dimension."""

    size: int | str

    @property
    def dim(self) -> DimLike:
        """The pulse as an expression."""
        return sym(self.size) if isinstance(self.size, str) else self.size


@dataclass
class StateSlot:
    """A state under construction: its description and, once emitted, the two wires of the pair.

    ``in_place``: one buffer may be bound as both.
    """

    state: State
    past: ir.Value | None = None
    present: ir.Value | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """What the contract promises of one streaming output, in frames (see docs/contract.md)."""

    axis: int
    delay: int
    length: DimLike
    lookahead: int
    receptive_field: int | None


@dataclass
class Graph:
    """A model between two stages.

    ``facts`` maps every wire of the main graph to what is known of it, in *batch* terms until
    ``pulse-v2-to-type``; ``regions`` maps a streaming wire to the region it holds on each time axis, from
    ``pulse-v2`` on.
    """

    model: ir.Model
    symbol: str
    assume: Assumptions
    stage: str = "load"
    facts: dict[ir.Value, WireFact] = field(default_factory=dict)
    regions: dict[ir.Value, Mapping[int, AxisRegion]] = field(default_factory=dict)
    pulse: Pulse | None = None
    pulse_multiple: int = 1
    #: The runtime whose own operators may be used; ``onnx`` for none but the standard's.
    target: str = "onnx"
    #: The least version (major, minor) of the target that has those that are.
    least_version: tuple[int, int] | None = None
    batch: str | None = None
    slots: list[StateSlot] = field(default_factory=list)
    outputs: dict[str, Output] = field(default_factory=dict)
    #: Per running output: stream frames to flush until it holds its final value.
    settle: dict[str, int] = field(default_factory=dict)
    #: What each wire holds per pulse, from ``pulse-v2-to-type`` on.
    chunks: dict[ir.Value, tuple[DimLike, ...]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: Bytes of state that buffers would hold more, were every delay the least there is.
    spared: int = 0
    #: Makes the nodes that rewrites add; knows every name taken so far.
    builder: NodeBuilder | None = None

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def fact(self, value: ir.Value | None) -> WireFact | None:
        """What is known of a wire; None for an absent optional input."""
        return None if value is None else self.facts[value]

    def time_axes(self, value: ir.Value | None) -> tuple[int, ...]:
        """Axes on which the wire streams."""
        if value is None:
            return ()
        return self.facts[value].time_axes(self.symbol)

    def frames(self, region: AxisRegion) -> DimLike:
        """Frames a region holds per pulse, history included."""
        assert self.pulse is not None
        return (floor(self.pulse.dim * region.rate) + region.overlap) * region.rows

    def length(self, value: ir.Value, axis: int) -> DimLike:
        """Frames of one stream on a time axis of a wire, in the stream symbol."""
        shape = self.facts[value].shape
        assert shape is not None
        return split_rows(shape[axis], self.symbol)[1]

    def rows(self, value: ir.Value, axis: int) -> DimLike:
        """Streams merged in front of time on the axis; 1 as a rule."""
        shape = self.facts[value].shape
        assert shape is not None
        return split_rows(shape[axis], self.symbol)[0]

    def batch_axis(self, shape: Sequence[DimLike] | None) -> int | None:
        """The axis that is the batch dimension, or None. Products with it do not count."""
        if self.batch is None or shape is None:
            return None
        want = sym(self.batch)
        return next((a for a, d in enumerate(shape) if d == want), None)

    def need(self, domain: str, opset: int, version: tuple[int, int]) -> None:
        """Operators of the target's own domain are used, of this opset, which it has from this version on."""
        self.graph.opset_imports[domain] = opset
        self.least_version = max(version, self.least_version or version)

    def rename(self, old: ir.Value, new: ir.Value) -> None:
        """Move all that is known of a wire to another."""
        if old in self.facts:
            self.facts[new] = self.facts.pop(old)
        if old in self.regions:
            self.regions[new] = self.regions.pop(old)
        if old in self.chunks:
            self.chunks[new] = self.chunks.pop(old)

    def forget(self, value: ir.Value) -> None:
        """Drop what is known of a wire that is going away."""
        self.facts.pop(value, None)
        self.regions.pop(value, None)
        self.chunks.pop(value, None)

    def describe(self, value: ir.Value) -> str:
        """A wire as messages show it: ``x [1, 8, S], time axis 2, delay 0``."""
        fact = self.facts.get(value)
        if fact is None or fact.shape is None:
            return f"{value.name} (shape unknown)"
        text = f"{value.name} [{', '.join(map(str, fact.shape))}]"
        for axis in fact.time_axes(self.symbol):
            text += f", time axis {axis}"
            region = self.regions.get(value, {}).get(axis)
            if region is not None:
                if self.pulse is not None and isinstance(self.pulse.size, int):
                    text += f", {region.rate * self.pulse.size} frames per pulse"
                text += f", delay {region.delay}"
        return text


def tensor_fact(tensor: ir.TensorProtocol) -> WireFact:
    """The fact of a constant."""
    return WireFact(tensor.dtype, tuple(int(d) for d in tensor.shape.numpy()), const=tensor)


class NodeBuilder:
    """Appends nodes to an onnx_ir graph, naming wires uniquely. No inference, no policy."""

    def __init__(self, graph: ir.Graph, taken: Iterable[str] = ()):
        self.graph = graph
        #: Where new nodes go: in front of this one, or behind all others.
        self.before: ir.Node | None = None
        self.names: set[str] = set(taken)
        self.names.update(v.name for v in graph.inputs if v.name)
        self.names.update(n for n in graph.initializers if n)
        self._counts: dict[str, int] = {}
        self._consts: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def unique(self, stem: str) -> str:
        """``stem``, or ``stem_2``, ``stem_3``... if taken."""
        name = stem
        while name in self.names:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            name = f"{stem}_{self._counts[stem]}"
        self.names.add(name)
        return name

    def value(self, stem: str, dtype: ir.DataType | None = None) -> ir.Value:
        """A fresh wire."""
        return ir.Value(name=self.unique(stem), type=ir.TensorType(dtype) if dtype is not None else None)

    def const(self, array: Any, stem: str = "const", dtype: Any = np.int64) -> ir.Value:
        """A constant as an initializer; equal constants are one."""
        data = np.asarray(array, dtype=dtype)
        key = (data.dtype.str, data.shape, data.tobytes())
        known = self._consts.get(key)
        if known is None or known.name not in self.graph.initializers:
            if data.ndim <= 1 and data.size == 1 and stem == "const" and data.dtype.kind in "iu":
                stem = f"const_{data.reshape(-1)[0]}".replace("-", "m")
            value = self.initializer(ir.Tensor(data), stem)
            self._consts[key] = value
        return self._consts[key]

    def initializer(self, tensor: ir.TensorProtocol, stem: str) -> ir.Value:
        """An initializer holding the given tensor (data is shared, not copied)."""
        value = ir.Value(
            name=self.unique(stem), type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        stem: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: Sequence[ir.Value] | None = None,
        num_outputs: int = 1,
    ) -> ir.Node:
        """A node behind all others (or in front of :attr:`before`); its outputs are named after the stem unless given."""
        if outputs is None:
            outputs = [self.value(stem if i == 0 else f"{stem}.{i}") for i in range(num_outputs)]
        attrs = [attribute(k, v) for k, v in (attributes or {}).items()]
        node = ir.Node(domain, op, inputs, attrs, outputs=outputs, name=self.unique(f"{stem}/{op}"))
        if self.before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(self.before, node)
        return node

    def op(
        self, op: str, inputs: Sequence[ir.Value | None], stem: str, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Append a node with one output and return that wire."""
        return self.node(op, inputs, stem, attributes, domain=domain).outputs[0]


def attribute(name: str, value: Any) -> ir.Attr:
    """A node attribute of a Python value."""
    if isinstance(value, ir.Attr):
        return value
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.Tensor(value))
    if isinstance(value, bool):
        return ir.AttrInt64(name, int(value))
    if isinstance(value, int):  # an ir.DataType among them
        return ir.AttrInt64(name, int(value))
    if isinstance(value, str):
        return ir.AttrString(name, value)
    return ir.convenience.convert_attribute(name, value)


def name_bodies(graph: ir.Graph, around: frozenset[str] = frozenset()) -> None:
    """Give what subgraphs name like a wire around them a name of its own: a name stands for one wire in a graph and all within it."""
    nodes = [node for node in graph if subgraphs(node)]
    if not nodes:
        return
    around |= {v.name for v in _own(graph) if v.name}
    for node in nodes:
        for body in subgraphs(node):
            own = _own(body)
            taken = around | {v.name for v in own}
            for v in own:
                if v.name in around:
                    while v.name in taken:
                        v.name = f"{v.name}.inner"
                    taken |= {v.name}
            name_bodies(body, around)


def _own(graph: ir.Graph) -> list[ir.Value]:
    """The wires that a graph makes or is given."""
    return [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]


def shape_attribute(shape: Sequence[object]) -> ir.Attr:
    """The attribute ``shape`` of a pseudo-operator: its dimensions as text, of a scalar none."""
    return ir.AttrStrings("shape", [str(d) for d in shape])


def tensor(node: ir.Node, name: str) -> ir.TensorProtocol:
    """A tensor attribute the node is known to have."""
    value: ir.TensorProtocol = node.attributes[name].value
    return value


def sort(graph: ir.Graph) -> None:
    """Put the nodes of a graph in topological order, those of its subgraphs stay as they are; a sorted graph stays as it is.

    The order onnx_ir's own sort gives: Kahn's, from the end, of the nodes that are free the one that stood last. Raises
    ValueError if there is a cycle.
    """
    nodes = list(graph)
    index = {node: i for i, node in enumerate(nodes)}
    above: list[list[int]] = []
    for node in nodes:
        producers = (v.producer() for v in (*node.inputs, *captured(node)) if v is not None)
        above.append([index[p] for p in producers if p is not None and p in index])
    if all(m < i for i, makers in enumerate(above) for m in makers):
        return
    readers = [0] * len(nodes)
    for makers in above:
        for m in makers:
            readers[m] += 1
    free = [-i for i, count in enumerate(readers) if not count]
    heapify(free)
    backwards: list[ir.Node] = []
    while free:
        last = -heappop(free)
        backwards.append(nodes[last])
        for m in above[last]:
            readers[m] -= 1
            if not readers[m]:
                heappush(free, -m)
    if len(backwards) < len(nodes):
        raise ValueError("the graph has a cycle")
    graph.extend(reversed(backwards))


def batch_symbol(shapes: Iterable[Sequence[DimLike]], symbol: str) -> str | None:
    """The symbol that is the batch: the first other symbol standing alone on an axis of a streaming input."""
    for shape in shapes:
        if any(isinstance(d, Dim) and symbol in symbols_of(d) for d in shape):
            for d in shape:
                names = symbols_of(d)
                if len(names) == 1 and symbol not in names and d == sym(next(iter(names))):
                    return next(iter(names))
    return None


def captured(node: ir.Node) -> list[ir.Value]:
    """Outer wires that the subgraphs of a node read by name."""
    inner_graphs = subgraphs(node)
    if not inner_graphs:
        return []
    found: dict[ir.Value, None] = {}

    def walk(graph: ir.Graph, inside: set[ir.Value]) -> None:
        inside = inside | set(graph.inputs) | set(graph.initializers.values()) | {v for n in graph for v in n.outputs}
        for inner in graph:
            found.update((v, None) for v in inner.inputs if v is not None and v not in inside)
            for sub in subgraphs(inner):
                walk(sub, inside)
        found.update((v, None) for v in graph.outputs if v not in inside)

    for graph in inner_graphs:
        walk(graph, set())
    return list(found)


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs among a node's attributes."""
    out: list[ir.Graph] = []
    for a in node.attributes.data.values():  # the dict itself: most nodes are asked, few have any
        if a.type is _GRAPH:
            out.append(a.value)
        elif a.type is _GRAPHS:
            out.extend(a.value)
    return out

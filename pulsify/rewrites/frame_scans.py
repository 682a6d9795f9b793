"""A Scan that only glues each block to the end of the last frame is a window: Frames (ops/spectral.py).

``frame_j = concat(prev_j, block_j)``, ``prev_{j+1} = frame_j[H:]``, blocks of H: frame j is ``z[H*j : H*j + O + H]``, where
z is prev_0 and the blocks in a row. Where prev_0 is the first O samples of a signal and the blocks are the rest of it, z
is the signal. Run while typing, so that nobody asks for the first samples of a stream by themselves.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.rewrites._edit import Editor

__all__ = ["frames"]

#: A bound at least this large means "to the end".
_FAR = 10**8


def frames(g: Graph, node: ir.Node) -> bool:
    """Put the window in place of such a Scan; False if it is any other."""
    hop = _glues(node)
    if hop is None or len(node.inputs) != 2:
        return False
    blocks = node.inputs[1]
    stacked = None if blocks is None else blocks.producer()
    if stacked is None or stacked.op_type != "Reshape" or stacked.domain:
        return False
    first, rest = _cut(node.inputs[0]), _cut(stacked.inputs[0])
    if first is None or rest is None or first[0] is not rest[0] or first[1] != 0 or first[2] != rest[1]:
        return False
    (signal, _, overlap), cut = first, stacked.inputs[0].producer()  # type: ignore[union-attr]
    fact, shape = g.fact(signal), g.facts[blocks].shape  # type: ignore[index]
    if fact is None or fact.shape is None or len(fact.shape) != 2 or shape is None or len(shape) != 3:
        return False
    if shape[0] != fact.shape[0] or shape[2] != hop or overlap is None or overlap < 1 or cut is None:
        return False
    edit = Editor(g)
    out = node.outputs[1]
    bounds = cut.inputs[2:]
    kind = g.facts[bounds[0]].dtype.numpy()  # type: ignore[index]
    whole = edit.before(node, "Slice", [signal, edit.const([0], dtype=kind), *bounds], f"{out.name}.signal", None)
    size = overlap + hop
    attributes = {"axis": 1, "grid": [-1, size], "hop": hop, "offsets": list(range(size))}
    made = edit.before(node, "Frames", [whole], f"{out.name}.frames", attributes, DOMAIN)
    name, output = out.name, out.is_graph_output()
    out.replace_all_uses_with(made, replace_graph_outputs=True)
    g.graph.remove(node, safe=True)
    if output:
        made.name = name
    return True


def _glues(node: ir.Node) -> int | None:
    """H of ``frame = Concat(prev, block)``, ``next = frame[H:]`` along the last axis, scanned along axis 1."""
    a = node.attributes
    state, made = node.outputs[0], node.outputs[1:]
    if len(made) != 1 or state.uses() or state.is_graph_output() or a.get_int("num_scan_inputs", 0) != 1:
        return None
    if [*a.get_ints("scan_input_axes", [0]), *a.get_ints("scan_output_axes", [0])] != [1, 1]:
        return None
    if any((*a.get_ints("scan_input_directions", [0]), *a.get_ints("scan_output_directions", [0]))):
        return None
    body = a["body"].as_graph()
    if len(body.inputs) != 2 or len(body.outputs) != 2:
        return None
    after, frame = body.outputs
    glue, cut = frame.producer(), _cut(after)
    if glue is None or glue.op_type != "Concat" or list(glue.inputs) != list(body.inputs) or cut is None:
        return None
    return cut[1] if cut[0] is frame and cut[2] is None and glue.attributes.get_int("axis") in (-1, 1) else None


def _cut(wire: ir.Value | None) -> tuple[ir.Value, int, int | None] | None:
    """``signal[:, low:high]`` as (signal, low, high); high is None where it is not a small number."""
    node = None if wire is None else wire.producer()
    if node is None or node.op_type != "Slice" or node.domain or len(node.inputs) < 4:
        return None
    low, high, axis, step = (_number(node.inputs[k]) if k < len(node.inputs) else 1 for k in range(1, 5))
    if node.inputs[0] is None or low is None or low < 0 or axis not in (-1, 1) or step != 1:
        return None
    return node.inputs[0], low, high if high is not None and 0 <= high < _FAR else None


def _number(wire: ir.Value | None) -> int | None:
    """The only element of a constant; 1 where the input is absent."""
    if wire is None:
        return 1
    tensor = wire.const_value
    if tensor is None or tensor.size != 1:
        return None
    return int(tensor.numpy().reshape(-1)[0])

"""An edge or reflect Pad moves behind what only relabels axes: ``Squeeze(Pad(x)) = Pad(Squeeze(x))``.

Readers of such a Pad take what they need straight from its input; a relabelling in between would stand for a reader that
needs every frame, and the window behind it would wait for frames it has no use for.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.facts import Shape
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.pad import pad_amounts
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]

_MOVERS = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_swap(edit, node) for node in list(g.graph) if node.op_type in _MOVERS and not node.domain)


def _swap(edit: Editor, node: ir.Node) -> bool:
    g = edit.g
    padded = node.inputs[0]
    pad = None if padded is None else padded.producer()
    if pad is None or padded is None or pad.op_type != "Pad" or pad.domain or not g.time_axes(padded):
        return False
    mode = pad.attributes.get_string("mode", "constant")
    if mode not in ("edge", "reflect") or len(padded.uses()) != 1 or padded.is_graph_output():
        return False
    amounts = pad_amounts(view(g, pad, outputs=True))
    sources = _sources(node, g.facts[padded].shape, g.facts[node.outputs[0]].shape)
    if sources is None or any(isinstance(v, Dim) for pair in amounts for v in pair):
        return False
    stem = f"{node.outputs[0].name}.bare"
    bare = edit.before(node, node.op_type, [pad.inputs[0], *node.inputs[1:]], stem, {k: a.value for k, a in node.attributes.items()})
    before = g.facts[pad.inputs[0]].shape  # type: ignore[index]
    if before is None or g.facts[bare].shape != tuple(1 if a is None else before[a] for a in sources):
        edit.forget(bare.producer())  # type: ignore[arg-type]
        return False
    flat = [0 if a is None else int(amounts[a][side]) for side in (0, 1) for a in sources]  # type: ignore[arg-type]
    node.op_type = "Pad"
    node.attributes.clear()
    node.attributes.add(ir.AttrString("mode", mode))
    node.resize_inputs(2)
    node.replace_input_with(0, bare)
    node.replace_input_with(1, edit.const(flat, f"{stem}.pads"))
    edit.forget(pad)
    infer_node(g, node)
    return True


def _sources(node: ir.Node, given: Shape | None, made: Shape | None) -> list[int | None] | None:
    """Which axis each axis of the result is (None: new, of length 1); None where axes are merged or split."""
    if given is None or made is None:
        return None
    if node.op_type == "Transpose":
        perm = node.attributes.get_ints("perm", range(len(given))[::-1])
        return [a % len(given) for a in perm]
    long = [a for a, d in enumerate(given) if d != 1]
    if [given[a] for a in long] != [d for d in made if d != 1]:
        return None
    rest = iter(long)
    return [None if d == 1 else next(rest) for d in made]

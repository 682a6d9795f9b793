"""A transposed convolution along time becomes one that makes whole blocks, between a Pad and a Slice.

``ConvTranspose = Slice(start=before) after [ConvTranspose in block form] after Pad(span - 1 frames, ...)``: the zeros
before the first frame and after the last are padding like any other, and the tail of the output needs no rule.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.conv_transpose import Transposed, transposed
from pulsify.rewrites._edit import Editor
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.op_type != "ConvTranspose" or node.domain:
            continue
        time = [a for a in g.time_axes(node.inputs[0]) if a > 1]
        if time:
            n = view(g, node, outputs=True)
            count += _blocks(edit, node, transposed(n), time, n.fact(0).rank)
    return count


def _blocks(edit: Editor, node: ir.Node, geometry: list[Transposed], time: list[int], rank: int) -> int:
    g = edit.g
    moved = [t for t in geometry if t.axis in time and not t.is_block]
    if not moved and "auto_pad" not in node.attributes:
        return 0
    source, out = node.inputs[0], node.outputs[0]
    assert source is not None
    amounts, cuts = [0] * (2 * rank), []
    for t in moved:
        # Blocks u*q .. u*(q+1) that cover the last frame, before + L_out.
        more = max(0, -(-(t.before + t.surplus) // t.stride))
        amounts[t.axis], amounts[t.axis + rank] = t.span - 1, more
        crop = t.stride * more - t.before - t.surplus
        if t.before or crop:
            cuts.append((t.before, -crop if crop else END, t.axis))
    if any(amounts):
        source = edit.before(node, "Pad", [source, edit.const(amounts)], f"{source.name}.pad", {"mode": "constant"})
        node.replace_input_with(0, source)
    blocks = [_block(t) if t in moved else t for t in geometry]
    for name in ("auto_pad", "output_shape", "pads", "output_padding"):
        node.attributes.pop(name, None)
    node.attributes.add(ir.AttrInt64s("pads", [*(t.before for t in blocks), *(t.after for t in blocks)]))
    if any(t.extra for t in blocks):
        node.attributes.add(ir.AttrInt64s("output_padding", [t.extra for t in blocks]))
    if not cuts:
        infer_node(g, node)
        return 1
    # The node's own output stays the last wire: the convolution moves in front of it.
    whole = edit.before(node, "ConvTranspose", node.inputs, f"{out.name}.blocks", node.attributes)
    for start, end, axis in cuts[:-1]:
        whole = edit.before(
            node, "Slice", [whole, *(edit.const([v]) for v in (start, end, axis))], f"{out.name}.cut", None
        )
    start, end, axis = cuts[-1]
    edit.become(node, "Slice", [whole, *(edit.const([v]) for v in (start, end, axis))])
    infer_node(g, node)
    return 1


def _block(t: Transposed) -> Transposed:
    over = t.width - t.stride
    return replace(t, before=t.stride * (t.span - 1), after=max(over, 0), extra=max(-over, 0))

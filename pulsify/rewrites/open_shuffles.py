"""DepthToSpace and SpaceToDepth of images with time on an axis become what they stand for: Reshape, Transpose, Reshape.

``DepthToSpace(DCR): [N, b, b, C', H, W] -> [N, C', H, b, W, b] -> [N, C', H*b, W*b]``; CRD reads ``[N, C', b, b, H, W]``;
SpaceToDepth: ``[N, C, H', b, W', b] -> [N, b, b, C, H', W'] -> [N, b*b*C, H', W']``. How frames regroup is the Reshape's rule.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim, DimLike
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import NodeView
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    nodes = [n for n in g.graph if n.op_type in ("DepthToSpace", "SpaceToDepth") and not n.domain]
    return sum(_open(edit, node) for node in nodes if set(g.time_axes(node.inputs[0])) - {0})


def _open(edit: Editor, node: ir.Node) -> int:
    n = view(edit.g, node, outputs=True)
    shape, out, b = n.shape(0), n.outputs[0].shape, int(n.attr("blocksize"))
    assert out is not None
    split: tuple[DimLike, ...]
    if set(n.streaming(0)) & {1}:
        return 0
    if node.op_type == "SpaceToDepth":
        split, perm = (shape[0], shape[1], out[2], b, out[3], b), [0, 3, 5, 1, 2, 4]
    elif n.attr("mode", "DCR") == "DCR":
        split, perm = (shape[0], b, b, out[1], shape[2], shape[3]), [0, 3, 4, 1, 5, 2]
    else:
        split, perm = (shape[0], out[1], b, b, shape[2], shape[3]), [0, 1, 4, 2, 5, 3]
    stem = node.outputs[0].name
    opened = edit.const(_target(n, split), f"{stem}.split")
    closed = edit.const(_target(n, out), f"{stem}.shape")
    wire = edit.before(node, "Reshape", [node.inputs[0], opened], f"{stem}.split", None)
    wire = edit.before(node, "Transpose", [wire], f"{stem}.shuffled", {"perm": perm})
    edit.become(node, "Reshape", [wire, closed])
    infer_node(edit.g, node)
    return 1


def _target(n: NodeView, shape: tuple[DimLike, ...]) -> list[int]:
    """The shape as a Reshape says it: 0 for the axis in front, which stays, and -1 for the one that is symbolic."""
    target = [0, *(-1 if isinstance(d, Dim) else int(d) for d in shape[1:])]
    if target.count(-1) > 1:
        n.refuse(
            f"of its axes {', '.join(map(str, shape[1:]))} more than one is not fixed",
            hint="fix the other sizes in the model",
        )
    return target

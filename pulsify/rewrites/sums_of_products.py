"""A sum of products is one product: ``a @ A + b @ B + .. = concat(a, b, ..) @ [A; B; ..]``, biases added up.

The skip connections of a gated network, each a convolution of kernel 1 in row form (frame_rows.py), become one Concat and
one Gemm: of m terms, ``2*m - 1`` nodes become 2. Constants in the sum are its bias. What else is in it is added to the result;
where that is one matrix and there is no bias, it is the Gemm's own addend (``x + h @ W``: a residual connection).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._row_form import FLOATS
from pulsify.rewrites._rows import Rows, RowView, each, row_view
from pulsify.rewrites._summands import summands

__all__ = ["apply"]


@dataclass(frozen=True, slots=True)
class _Term:
    """One product ``x @ weight + bias`` of a sum, and the nodes it is made of."""

    x: ir.Value
    weight: np.ndarray
    bias: np.ndarray | None
    nodes: tuple[ir.Node, ...]


def apply(g: Graph) -> int:
    return each(g, ("Add", "Sum"), _merge, backwards=True)


def _merge(rows: Rows, top: ir.Node) -> bool:
    g = rows.g
    out = top.outputs[0]
    view = row_view(g, out)
    if view is None or not view.plain or g.facts[out].dtype not in FLOATS:  # runtimes have no Gemm of integers
        return False
    terms, others, inner = summands(top, lambda v: _term(g, v, view), lambda v: len(v.uses()) == 1 and not v.is_graph_output() and _same(g, v, view))
    biases = [c.reshape(-1) for v in others if (c := _bias(v, view)) is not None]
    others = [v for v in others if _bias(v, view) is None]
    alone = len(terms) == 1 and view.batch is None
    if alone and not biases and len(others) == 1 and terms[0].bias is None and _full(g, others[0], view):
        made = rows.node("Gemm", [terms[0].x, _weight_of(terms[0]), others[0]], out.name or "sum")[0]
    elif len(terms) > 1 or (alone and biases):
        made = _product(rows, terms, others, biases, view, out.name or "sum")
    else:
        return False
    made.type, made.shape = out.type, out.shape
    g.facts[made], g.regions[made], g.chunks[made] = g.facts[out], g.regions[out], g.chunks[out]
    was_output, name = out.is_graph_output(), out.name
    out.replace_all_uses_with(made, replace_graph_outputs=True)
    if was_output:
        out.name = rows.build.unique(f"{name}.old")
        made.name = name
    for node in [top, *inner, *(n for t in terms for n in t.nodes)]:
        for v in node.outputs:
            g.forget(v)
        g.graph.remove(node, safe=True)
    return True


def _full(g: Graph, v: ir.Value, view: RowView) -> bool:
    """Whether a wire is as large as the sum itself."""
    return v in g.chunks and g.chunks[v] == (view.frames, view.channels)


def _weight_of(term: _Term) -> ir.Value:
    w = term.nodes[-1].inputs[1]
    assert w is not None
    return w


def _same(g: Graph, v: ir.Value, view: RowView) -> bool:
    own = row_view(g, v)
    return own is not None and own.plain and (own.frames, own.channels, own.batch) == (view.frames, view.channels, view.batch)


def _term(g: Graph, v: ir.Value, view: RowView) -> _Term | None:
    """``v`` as a product with a constant matrix that nobody else reads."""
    node = v.producer()
    if node is None or node.domain or not _same(g, v, view):
        return None
    if node.op_type == "Add":  # a product with a batch, and its bias
        product, bias = node.inputs[0], _const(node.inputs[1])
        inner = None if product is None else product.producer()
        if bias is None or bias.size != view.channels or inner is None or inner.op_type != "MatMul":
            return None
        if product is None or len(product.uses()) != 1 or product.is_graph_output():
            return None
        weight = _const(inner.inputs[1])
        if weight is None or weight.ndim != 2 or inner.inputs[0] is None:
            return None
        return _Term(inner.inputs[0], weight, bias.reshape(-1), (node, inner))
    if node.op_type not in ("Gemm", "MatMul") or node.attributes:
        return None
    weight = _const(node.inputs[1])
    x = node.inputs[0]
    if weight is None or weight.ndim != 2 or x is None:
        return None
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    bias = _const(addend)
    if addend is not None and (bias is None or bias.size != view.channels):
        return None
    return _Term(x, weight, None if bias is None else bias.reshape(-1), (node,))


def _const(v: ir.Value | None) -> np.ndarray | None:
    return None if v is None or v.const_value is None else np.asarray(v.const_value.numpy())


def _bias(v: ir.Value, view: RowView) -> np.ndarray | None:
    """A constant that is the same for every frame."""
    constant = _const(v)
    if constant is None or constant.ndim > 2 or constant.shape[-1:] not in ((), (1,), (view.channels,)) or constant.size not in (1, view.channels):
        return None
    return np.broadcast_to(constant.reshape(-1), view.channels)


def _product(
    rows: Rows, terms: list[_Term], others: list[ir.Value], biases: list[np.ndarray], view: RowView, stem: str
) -> ir.Value:  # fmt: skip
    """One product for all terms, plus the rest."""
    g = rows.g
    x, dtype = terms[0].x, g.facts[terms[0].x].dtype
    if len(terms) > 1:
        (x,) = rows.node("Concat", [t.x for t in terms], f"{stem}.terms", axis=view.axis + 1)
        rows.declare(x, dtype, view, sum(t.weight.shape[0] for t in terms))
        weight = rows.weight(np.concatenate([t.weight for t in terms]), f"{stem}.weight")
    else:
        weight = _weight_of(terms[0])
    biases = [*biases, *(t.bias for t in terms if t.bias is not None)]
    bias = None if not biases else np.sum(biases, axis=0, dtype=np.float64).astype(biases[0].dtype)
    rest = list(others)
    if view.batch is None:
        addend: list[ir.Value] = []
        if bias is not None:
            addend.append(rows.weight(bias, f"{stem}.bias"))
        elif rest and _full(g, rest[0], view):
            addend.append(rest.pop(0))
        (out,) = rows.node("Gemm", [x, weight, *addend], stem)
    else:
        (out,) = rows.node("MatMul", [x, weight], stem)
        if bias is not None:
            rest.insert(0, rows.weight(bias, f"{stem}.bias"))
    for other in rest:
        rows.declare(out, dtype, view, view.channels)
        (out,) = rows.node("Add", [out, other], f"{stem}.plus")
    return out

"""Regions of frame-wise work in row form: convolutions over time become matrix products.

``y[p] = sum_k W[k] x[s*p + d*k]`` is, with a frame a row, ``windows(x) @ W``. At small pulses a runtime's convolution
costs several times such a product, since its inner loops run along time, where there are few frames. The nodes that have
a row form (_row_ops.py) are written in it where that is cheaper by measured costs (_region.py, _costs.py); axes move only
where wires enter and leave such regions. Where convolutions over pictures one pixel high are cheaper than either, they are
written so (lift_convs.py).
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites import lift_convs
from pulsify.rewrites._region import choose
from pulsify.rewrites._row_form import Form
from pulsify.rewrites._row_ops import row_form
from pulsify.rewrites._rows import Rows, row_view

__all__ = ["apply", "convert", "row_forms"]


def apply(g: Graph) -> int:
    forms = row_forms(g)
    chosen = choose(g, forms)
    convert(g, {node: forms[node] for node in forms if node in chosen.rows})
    lift_convs.intend(chosen.lifted)
    return len(chosen.rows)


def row_forms(g: Graph) -> dict[ir.Node, Form]:
    """The nodes that have a row form, in graph order. None have at a pulse of dynamic size."""
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return {}
    return {node: form for node in g.graph if (form := row_form(g, node)) is not None}


def convert(g: Graph, forms: dict[ir.Node, Form]) -> None:
    """Write these nodes in row form."""
    if forms:
        _Convert(g, forms).run()


class _Convert:
    def __init__(self, g: Graph, forms: dict[ir.Node, Form]):
        self.g, self.forms, self.rows = g, forms, Rows(g)

    def run(self) -> None:
        g, rows = self.g, self.rows
        for node, form in self.forms.items():
            rows.build.before = node
            ins = []
            for v in form.reads:
                entry = row_view(g, v)
                assert entry is not None
                ins.append(rows.to_rows(v, entry))
            for (old, view), new in zip(form.makes, form.build(rows, ins), strict=True):
                rows.form[old] = new
                if new not in g.regions:
                    rows.declare(new, g.facts[old].dtype, view, view.channels)
        for node, form in reversed(self.forms.items()):
            rows.build.before = node
            for old, view in form.makes:
                self._leave(old, view)
            for v in node.outputs:
                g.forget(v)
            g.graph.remove(node, safe=True)

    def _leave(self, old: ir.Value, view) -> None:  # type: ignore[no-untyped-def]
        """Whoever is outside reads the wire as it was."""
        g, rows = self.g, self.rows
        name, new = old.name, rows.form[old]
        if old.is_graph_output() or old.uses():
            plain = rows.from_rows(new, old, view)
            if old.is_graph_output() and (plain.is_graph_input() or plain.is_graph_output()):
                (plain,) = rows.node("Identity", [plain], f"{name}.out")
            g.facts[plain], g.regions[plain], g.chunks[plain] = g.facts[old], g.regions[old], g.chunks[old]
            plain.type, plain.shape = old.type, old.shape
            out = old.is_graph_output()
            old.replace_all_uses_with(plain, replace_graph_outputs=True)
            if out:
                old.name = rows.build.unique(f"{name}.old")
                plain.name = name

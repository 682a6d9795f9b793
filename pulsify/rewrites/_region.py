"""Which nodes to write in row form, and which convolutions to lift: least cost by local search.

Every node that has a row form (_row_ops.py) is in it or not. A product costs what it costs in that form, a wire that is made
in one form and read in the other what the move costs, once. From all in row form, whole stretches of one rate change sides
while that helps, then single nodes; starts from none, and from all but depthwise convolutions that cost more so, must do
better to win. Convolutions that are not in row form are lifted each where that pays by itself, or, in a second search, all
that can be: then axes of length 1 appear and go at the borders of the region alone. Linear in the graph per round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._costs import BORDER, NODE, as_is, as_rows, has_blocks, lifts, moving
from pulsify.rewrites._row_form import Form, Product
from pulsify.rewrites._row_ops import is_mover
from pulsify.rewrites._rows import RowView, row_view

__all__ = ["Choice", "choose"]

#: Rounds of the search at most.
ROUNDS = 4

#: Nodes, and the wires at them.
_Part = tuple[list[ir.Node], tuple[ir.Value, ...]]


@dataclass(frozen=True, slots=True)
class Choice:
    """The nodes to write in row form, and the convolutions to lift with all around them."""

    rows: set[ir.Node]
    lifted: set[ir.Node]


def choose(g: Graph, forms: Mapping[ir.Node, Form]) -> Choice:
    """The cheapest choice found."""
    search = _Search(g, forms)
    rows: set[ir.Node] = set()
    lifted: set[ir.Node] = set()
    for region in _parts(forms, lambda node: None):
        if any(forms[node].product is not None or forms[node].saves for node in region):
            cost, chosen = search.best(region)
            blocks = [n for n in region if (p := forms[n].product) is not None and has_blocks(p)]
            if len(blocks) > 1 and search.least(region) < cost:
                together, others = search.best(region, lifted=True)
                if together + BORDER * search.borders(region) < cost:
                    chosen = others
                    lifted.update(n for n in blocks if n not in chosen)
            rows.update(chosen)
    return Choice(rows, lifted)


def _parts(forms: Mapping[ir.Node, Form], level) -> list[list[ir.Node]]:  # type: ignore[no-untyped-def]
    """Sets of nodes connected by wires in row form, nodes of different levels apart."""
    parent = {node: node for node in forms}

    def root(node: ir.Node) -> ir.Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    readers: dict[ir.Value, ir.Node] = {}
    for node, form in forms.items():
        for v in form.reads:
            producer = v.producer()
            other = producer if producer in parent else readers.setdefault(v, node)
            if other is not None and level(other) == level(node):
                parent[root(node)] = root(other)
    parts: dict[ir.Node, list[ir.Node]] = {}
    for node in forms:
        parts.setdefault(root(node), []).append(node)
    return list(parts.values())


class _Search:
    def __init__(self, g: Graph, forms: Mapping[ir.Node, Form]):
        self.forms = forms
        self.rows: dict[ir.Node, bool] = dict.fromkeys(forms, False)
        self.readers: dict[ir.Value, list[ir.Node]] = {}
        self.price: dict[ir.Value, float] = {}
        self.outside: dict[ir.Value, bool] = {}
        #: What a move costs more at a blocked convolution, for channels in blocks and an activation apart; if only those are
        #: lifted for which that pays, and if all are.
        self.blocks: tuple[dict[ir.Value, float], dict[ir.Value, float]] = {}, {}
        #: Whether what is not in row form is lifted.
        self.lifted = False
        for node, form in forms.items():
            for v in form.reads:
                self.readers.setdefault(v, []).append(node)
                self._wire(g, v, row_view(g, v))
            for v, view in form.makes:
                self._wire(g, v, view)
            p = form.product
            for costs, blocked in zip(self.blocks, (False, False) if p is None else (lifts(p), has_blocks(p))):
                if blocked:
                    costs.update((v, 2 * BORDER) for v in (form.reads[0], form.makes[0][0]))
        windows = Counter((form.reads[0], replace(form.product, op="", out=0)) for form in forms.values() if form.product)
        self.work = {node: _work(g, node, form, windows) for node, form in forms.items()}

    def _wire(self, g: Graph, v: ir.Value, view: RowView | None) -> None:
        if v in self.price:
            return
        assert view is not None
        self.price[v] = 0.0 if view.plain else moving(view.transposed, view.frames, view.channels)
        self.outside[v] = v.is_graph_output() or any(
            user not in self.forms or v not in self.forms[user].reads for user, _ in v.uses()
        )

    def best(self, region: list[ir.Node], lifted: bool = False) -> tuple[float, set[ir.Node]]:
        """The cheapest choice found among the nodes of a region, and its cost."""
        self.lifted = lifted
        results: list[tuple[float, set[ir.Node]]] = []
        levels = _parts({n: self.forms[n] for n in region}, lambda n: self.forms[n].makes[0][1].region.rate)
        stretches = [self._part(nodes) for nodes in levels]
        single = [self._part([node]) for node in region]
        whole = self._part(region)
        apart = {n for n in region if (p := self.forms[n].product) is None or p.op != "Depthwise" or as_rows(p) < as_is(p)}
        for start in (set(region), set(), apart) if len(apart) < len(region) else (set(region), set()):
            for node in region:
                self.rows[node] = node in start
            for _ in range(ROUNDS):
                if start is apart or not self._pass(stretches):
                    break
            if any(chosen == {n for n in region if self.rows[n]} for _, chosen in results):
                continue  # a choice from which nothing is better
            for k in range(2 * ROUNDS):
                if not self._pass(reversed(single) if k % 2 else single):
                    break
            results.append((self._cost(whole), {n for n in region if self.rows[n]}))
        return min(results, key=lambda r: r[0])

    def least(self, region: list[ir.Node]) -> float:
        """No choice in which what is not in row form is lifted costs less."""
        return sum(min(self.work[n][1:]) for n in region)

    def borders(self, region: list[ir.Node]) -> int:
        """Wires that come into a region, and those that leave it."""
        reads = {v for n in region for v in self.forms[n].reads}
        makes = {v for n in region for v, _ in self.forms[n].makes}
        return len(reads - makes) + sum(self.outside[v] for v in makes)

    def _part(self, nodes: list[ir.Node]) -> _Part:
        wires = {v: None for n in nodes for v in (*self.forms[n].reads, *(v for v, _ in self.forms[n].makes))}
        return nodes, tuple(wires)

    def _pass(self, parts: Iterable[_Part]) -> int:
        """How many of these parts, one after the other, are better on the other side."""
        return sum([self._flip(part) for part in parts])

    def _flip(self, part: _Part) -> bool:
        """Let these nodes change sides if that is cheaper."""
        nodes, _ = part
        before = self._cost(part)
        for node in nodes:
            self.rows[node] = not self.rows[node]
        if self._cost(part) < before - 1e-9:
            return True
        for node in nodes:
            self.rows[node] = not self.rows[node]
        return False

    def _cost(self, part: _Part) -> float:
        """Microseconds of these nodes and of the wires at them."""
        nodes, wires = part
        return sum(self.work[n][2 if self.lifted and not self.rows[n] else self.rows[n]] for n in nodes) + sum(self._moved(v) for v in wires)

    def _moved(self, v: ir.Value) -> float:
        if not self.price[v]:
            return 0.0
        producer = v.producer()
        made = self.rows.get(producer, False) if producer is not None else False
        readers = [self.rows[n] for n in self.readers.get(v, ())]
        other = self.outside[v] or not all(readers) if made else any(readers)
        return self.price[v] + self.blocks[self.lifted].get(v, 0.0) if other else 0.0


def _work(g: Graph, node: ir.Node, form: Form, windows: Mapping[tuple[ir.Value, Product], int]) -> tuple[float, float, float]:
    """Microseconds of a node as it is, in row form, and among lifted ones; ``windows`` counts who reads the same ones."""
    if form.product is not None:
        readers = windows[form.reads[0], replace(form.product, op="", out=0)]
        return as_is(form.product, readers), as_rows(form.product, readers), as_is(form.product, readers, among_lifted=True)
    if node.op_type == "Transpose" and not node.domain:
        view = form.makes[0][1]
        cost = moving(True, view.frames, view.channels)
    else:
        cost = NODE if is_mover(g, node) else form.saves
    return cost, 0.0, cost

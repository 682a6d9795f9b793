"""What a rule is, what it sees, and the registry that finds it.

A rule belongs to an operator family and answers two questions, both pure: ``infer`` (shape and value laws: facts of
the inputs to facts of the outputs) and ``plan`` (the region transform: which input frames each output frame needs).
Modules in this package register rules at import; :func:`registry` imports them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from pulsify.assume import Assumptions
from pulsify.dim import Dim, DimLike
from pulsify.errors import Refusal
from pulsify.facts import Elems, Plan, Shape, WireFact

__all__ = ["NodeView", "Refused", "Rule", "find", "register", "registry"]


class NodeView:
    """One node as its rule sees it: operator, attributes, facts of the inputs (and, for ``plan``, of the outputs)."""

    __slots__ = ("assume", "inputs", "node", "outer", "outputs", "symbol", "wires")

    def __init__(
        self,
        node: ir.Node,
        inputs: Sequence[WireFact | None],
        assume: Assumptions,
        symbol: str,
        outputs: Sequence[WireFact] = (),
        outer: Mapping[ir.Value, WireFact] | None = None,
    ):
        self.node = node
        #: What the node's subgraphs read from outside.
        self.outer = outer or {}
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.assume = assume
        self.symbol = symbol
        self.wires = [v.name if v is not None else "" for v in node.inputs]

    @property
    def op(self) -> str:
        return self.node.op_type

    @property
    def name(self) -> str:
        return self.node.name or ""

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value (int, float, str, tuple, tensor, graph)."""
        a = self.node.attributes.get(name)
        if a is None or a.value is None:
            return default
        return tuple(a.value) if isinstance(a.value, (list, tuple)) else a.value

    def fact(self, k: int) -> WireFact:
        """The fact of a required input."""
        f = self.optional(k)
        if f is None:
            self.refuse(f"input {k} is missing")
        return f

    def optional(self, k: int) -> WireFact | None:
        return self.inputs[k] if k < len(self.inputs) else None

    def shape(self, k: int) -> Shape:
        """The shape of an input whose rank must be known."""
        shape = self.fact(k).shape
        if shape is None:
            self.refuse(f"the rank of its input {self.wires[k]!r} is unknown")
        return shape

    def ints(self, k: int) -> tuple[DimLike, ...] | None:
        """The elements of a small integer input as expressions; None if absent; a refusal if unknown."""
        f = self.optional(k)
        if f is None:
            return None
        elems = f.elems()
        if elems is None:
            self.refuse(
                f"its input {self.wires[k]!r} must be known when the model is converted, and is computed from data"
            )
        return tuple(elems.reshape(-1).tolist())

    def const_ints(self, k: int) -> tuple[int, ...] | None:
        """Like :meth:`ints`, but all must be plain integers."""
        out = self.ints(k)
        if out is None:
            return None
        for v in out:
            if isinstance(v, Dim):
                self.refuse(f"its input {self.wires[k]!r} must be constant, and holds {v}")
        return tuple(int(v) for v in out)  # type: ignore[arg-type]

    def plain_ints(self, k: int) -> tuple[int, ...] | None:
        """The elements of an integer input if all are constants; None otherwise. Refuses nothing."""
        f = self.optional(k)
        elems = None if f is None else f.elems()
        if elems is None or any(isinstance(v, Dim) for v in elems.flat):
            return None
        return tuple(int(v) for v in elems.reshape(-1))

    def ints_attr_or_input(self, name: str, k: int) -> tuple[int, ...] | None:
        """Constant integers given as an input in newer opsets, as an attribute in older ones."""
        if k < len(self.inputs) and self.inputs[k] is not None:
            return self.const_ints(k)
        value = self.attr(name)
        return None if value is None else tuple(value) if isinstance(value, tuple) else (value,)

    def axis(self, value: int, rank: int) -> int:
        """A possibly negative axis as 0 <= axis < rank."""
        if not -rank <= value < rank:
            self.refuse(f"axis {value} is out of range for rank {rank}")
        return value % rank

    def streaming(self, k: int) -> tuple[int, ...]:
        """Time axes of input k."""
        f = self.optional(k)
        return () if f is None else f.time_axes(self.symbol)

    @property
    def where(self) -> str:
        return f"{self.op} node {self.name!r}"

    def refuse(
        self, why: str, *, axis: int | None = None, hint: str | Sequence[str] = "", input: int | None = None
    ) -> NoReturn:
        """Raise a refusal that names this node."""
        wire = ""
        if input is None:
            input = next((k for k in range(len(self.inputs)) if self.streaming(k)), None)
        if input is not None:
            f = self.inputs[input]
            if f is not None and f.shape is not None:
                wire = f"{self.wires[input]} [{', '.join(map(str, f.shape))}]"
                axes = f.time_axes(self.symbol)
                if axes:
                    wire += f", time axis {', '.join(map(str, axes))}"
        on = "" if axis is None else f" on axis {axis}"
        raise Refusal(f"cannot pulsify {self.where}{on}", why=why, wire=wire, hint=hint)


class Rule:
    """One operator family.

    ``status`` is what `pulsify ops` prints: ``streams``, ``conditions`` (with ``note``) or ``refused``.
    """

    domain = ""
    status = "streams"
    note = ""
    #: Whether a node that no time reaches is copied where its shape law refuses it.
    static = True

    def infer(self, n: NodeView) -> list[WireFact]:
        """Facts of the outputs. Refuses what it cannot type."""
        raise AssertionError(f"{type(self).__name__} has no shape law")

    def plan(self, n: NodeView) -> Plan:
        """The region transform. Only called for nodes with a streaming input or output."""
        raise AssertionError(f"{type(self).__name__} has no region transform")


class Refused(Rule):
    """Operators that do not stream, each with the reason and the remedy. Static ones are copied.

    ``anywhere`` refuses static ones too: their results differ from run to run.
    """

    status = "refused"

    def __init__(self, reason: str, hint: str = "", *, domain: str = "", anywhere: bool = False):
        self.reason, self.hint, self.note = reason, hint, reason
        self.domain, self.static = domain, not anywhere

    def infer(self, n: NodeView) -> list[WireFact]:
        self._refuse(n)

    def plan(self, n: NodeView) -> Plan:
        self._refuse(n)

    def _refuse(self, n: NodeView) -> NoReturn:
        axes = next((n.streaming(k) for k in range(len(n.inputs)) if n.streaming(k)), ())
        n.refuse(self.reason, axis=axes[0] if axes else None, hint=self.hint)


_RULES: dict[tuple[str, str], Rule] = {}
_LOADED = False


def register(rule: Rule, *ops: str, domain: str | None = None) -> Rule:
    """Make ``rule`` responsible for the operators. One rule each; a refusal gives way to a rule that streams."""
    for op in ops:
        key = (rule.domain if domain is None else domain, op)
        refusals = [isinstance(r, Refused) for r in (_RULES.get(key), rule)]
        assert key not in _RULES or any(refusals), f"{key} has two rules"
        if key not in _RULES or refusals[0]:
            _RULES[key] = rule
    return rule


def registry() -> Mapping[tuple[str, str], Rule]:
    """All rules by (domain, operator)."""
    global _LOADED
    if not _LOADED:
        package = importlib.import_module("pulsify.ops")
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            if not module.startswith("_"):
                importlib.import_module(f"pulsify.ops.{module}")
        _LOADED = True
    return _RULES


def find(domain: str, op: str) -> Rule | None:
    """The rule of an operator, or None."""
    return registry().get(("" if domain == "ai.onnx" else domain, op))


def elems_fact(dtype: ir.DataType, array: np.ndarray) -> WireFact:
    """The fact of a small tensor with known elements."""
    return WireFact(dtype, tuple(array.shape), Elems(array))

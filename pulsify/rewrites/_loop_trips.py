"""What a Loop does with its counters: carried values that march with the steps or never change, and how often it runs.

A value inside the body is *affine* if in step i it is ``base + step*i``: the iteration number, a carried value that
grows by a constant, a constant, a scalar from outside. A condition made of comparisons of such values is decided for
all steps at once.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor
from pulsify.graph import Graph

__all__ = ["Affine", "Steps", "hands_on"]

#: (base, step): ``base + step*i`` in step i.
Affine: TypeAlias = tuple[DimLike, int]

#: Types that hold the number of any frame; floating point does as far as conditions ask.
WHOLE = {ir.DataType.INT32, ir.DataType.INT64}
_COUNTS = {*WHOLE, ir.DataType.FLOAT, ir.DataType.DOUBLE}


@dataclass
class Steps:
    """The body of one Loop. ``carried`` are its own copies, ``initial`` what they start as."""

    g: Graph
    body: ir.Graph
    initial: list[ir.Value | None]
    #: Body inputs that march: the iteration number among them.
    marching: dict[ir.Value, Affine] = field(default_factory=dict)
    #: Those of them that are i in step i, and may be an index.
    frames: set[ir.Value] = field(default_factory=set)
    #: Body inputs that stay what they were, and that value outside.
    constant: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counter, _, *carried = self.body.inputs
        self.marching[counter] = (0, 1)
        self.frames.add(counter)
        outputs = list(self.body.outputs)[1:]
        for value, out, start in zip(carried, outputs, self.initial, strict=False):
            last = _origin(out)
            if start is None:
                continue
            if last is value:
                self.constant[value] = start
                continue
            by, base = self._grows(value, last), self._outer(start)
            fact = self.g.fact(start)
            if by is not None and isinstance(base, int) and fact is not None and fact.dtype in _COUNTS:
                self.marching[value] = (base, by)
                if (base, by) == (0, 1) and fact.dtype in WHOLE:
                    self.frames.add(value)

    def _grows(self, value: ir.Value, out: ir.Value) -> int | None:
        """k if ``out = value + k``."""
        node = _origin(out, WHOLE).producer()
        if node is None or node.op_type != "Add" or node.domain or len(node.inputs) != 2:
            return None
        for a, b in (node.inputs, node.inputs[::-1]):
            if a is not None and b is not None and _origin(a, WHOLE) is value:
                by = self._constant(b)
                return by if isinstance(by, int) else None
        return None

    def _outer(self, value: ir.Value) -> DimLike | None:
        """The only element of a wire outside the body, if it is known and whole."""
        fact = self.g.fact(value)
        elems = None if fact is None else fact.elems()
        if elems is None or elems.size != 1:
            return None
        (found,) = elems.reshape(-1)
        return found if isinstance(found, (int, Dim)) and not isinstance(found, bool) else None

    def _constant(self, value: ir.Value) -> DimLike | None:
        tensor = value.const_value
        node = value.producer()
        if tensor is None and node is not None and node.op_type == "Constant" and "value" in node.attributes:
            tensor = node.attributes.get_tensor("value")
        if tensor is not None:
            if tensor.size != 1:
                return None
            (number,) = tensor.numpy().reshape(-1).tolist()
            return int(number) if float(number).is_integer() else None
        return self._outer(value) if value in self.g.facts else None

    def affine(self, value: ir.Value | None) -> Affine | None:
        """The value as a function of the step, if it is one of those understood."""
        if value is None:
            return None
        value = _origin(value, _COUNTS)
        if value in self.marching:
            return self.marching[value]
        if value in self.constant:
            found = self._outer(self.constant[value])
            return None if found is None else (found, 0)
        known = self._constant(value)
        if known is not None:
            return known, 0
        node = value.producer()
        if node is None or node.domain or node.op_type not in ("Add", "Sub") or node.graph is not self.body:
            return None
        a, b = (self.affine(v) for v in node.inputs)
        if a is None or b is None:
            return None
        sign = 1 if node.op_type == "Add" else -1
        return a[0] + sign * b[0], a[1] + sign * b[1]

    # -- how often ----------------------------------------------------------------------------------------------

    def trips(self, most: DimLike | None) -> DimLike | None:
        """How many steps the loop makes, at most ``most``; None where that is not known. It makes one at least."""
        lasts = self._lasts(self.body.outputs[0])
        if lasts is None:
            return None
        bounds = [*lasts, *([] if most is None else [most])]
        return next((b for b in bounds if all(self.g.assume.at_most(b, other) for other in bounds)), None)

    def _lasts(self, condition: ir.Value | None) -> list[DimLike] | None:
        """Numbers of steps after which the condition ends the loop, the first of which counts. None: not understood."""
        if condition is None:
            return None
        condition = _origin(condition, set(ir.DataType))  # true and false are so in any type
        if condition is self.body.inputs[1]:
            return []
        always = self._constant_bool(condition)
        if always is not None:
            return [] if always else [1]
        node = condition.producer()
        if node is None or node.domain or node.graph is not self.body:
            return None
        if node.op_type == "And":
            parts = [self._lasts(v) for v in node.inputs]
            return None if any(p is None for p in parts) else [b for p in parts for b in p or ()]
        if node.op_type not in _LESS:
            return None
        low, high, strict = _LESS[node.op_type]
        a, b = self.affine(node.inputs[low]), self.affine(node.inputs[high])
        if a is None or b is None or a[1] - b[1] < 1:
            return None
        # After step i it goes on while gap - by*i > 0: steps 0 .. ceil(gap/by) - 1 do, the next one is the last.
        gap = b[0] - a[0] + (0 if strict else 1)
        return [1 - floor(-gap * Fraction(1, a[1] - b[1]))]

    def _constant_bool(self, value: ir.Value) -> bool | None:
        tensor, node = value.const_value, value.producer()
        if tensor is None and node is not None and node.op_type == "Constant" and "value" in node.attributes:
            tensor = node.attributes.get_tensor("value")
        return None if tensor is None else bool(tensor.numpy().all())


#: Comparisons as (the lower input, the upper one, whether equality ends the loop).
_LESS = {"Less": (0, 1, True), "LessOrEqual": (0, 1, False), "Greater": (1, 0, True), "GreaterOrEqual": (1, 0, False)}


def hands_on(node: ir.Node, types: Container[int] = WHOLE) -> bool:
    """Whether a node makes of a number that number, a Cast to one of these types with it."""
    return not node.domain and (node.op_type == "Identity" or (node.op_type == "Cast" and node.attributes.get_int("to", 0) in types))


def _origin(value: ir.Value, types: Container[int] = ()) -> ir.Value:
    """The value itself, behind what hands it on."""
    while True:
        node = value.producer()
        if node is None or node.inputs[0] is None or not hands_on(node, types):
            return value
        value = node.inputs[0]

"""Static frames in one If: what only the first pulse needs is in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from pulsify.api import Conversion, convert
from pulsify.runtime import StreamSession
from tests.contract_check import check
from tests.graphs import G
from tests.ops.test_static_history import fsmn


def inside(c: Conversion) -> tuple[list[str], list[str]]:
    """Operators of the two branches: later pulses, the first one."""
    (node,) = (n for n in c.model.graph.node if n.op_type == "If")
    then, other = (next(a.g for a in node.attribute if a.name == name) for name in ("then_branch", "else_branch"))
    return [n.op_type for n in then.node], [n.op_type for n in other.node]


def kinds(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def prepared(g: G, x: str, p: str) -> str:
    """Frames that are computed from a static input, in front of a stream."""
    return g("Conv", g("Concat", g("Mul", g("Tanh", p), g.weight(1, 2, 1)), x, axis=2), g.weight(2, 2, 4))


def test_what_prepares_static_frames_runs_once() -> None:
    g = G()
    x, p = g.input("x", [1, 2, "S"]), g.input("p", [1, 2, 3])
    c = check(g.model(prepared(g, x, p)), pulses=(1, 2, 5))
    assert inside(c) == (["Identity"], ["Tanh", "Mul"])
    assert not {"Where", "Tanh", "Mul"} & set(kinds(c.model))


def test_what_others_read_stays_outside() -> None:
    """A result of the static input; frames in front of two streams."""
    g = G()
    x, p = g.input("x", [1, 2, "S"]), g.input("p", [1, 2, 3])
    q = g("Tanh", p)
    first = g("Mul", q, g.weight(1, 2, 1))
    ys = [g("Conv", g("Concat", first, v, axis=2), g.weight(2, 2, k)) for v, k in ((x, 4), (g("Neg", x), 3))]
    c = check(g.model(*ys, q))
    assert inside(c) == (["Identity"] * 2, ["Mul", "Identity"])
    assert kinds(c.model).count("Tanh") == 1


@pytest.mark.parametrize("build", [lambda g: fsmn("N"), lambda g: fsmn(1, layers=1)])
def test_where_it_stays_a_choice(build: Callable[[G], G]) -> None:
    """Rows of a batch start on their own; one history is no cheaper so."""
    g = build(G())
    c = convert(g.model(*g.outs), axis="S", pulse=2)  # type: ignore[attr-defined]
    assert "If" not in kinds(c.model) and "Where" in kinds(c.model)


def test_no_frames_that_are_no_numbers_come_back() -> None:
    g = fsmn(1)
    c = convert(g.model(*g.outs), axis="S", pulse=2)  # type: ignore[attr-defined]
    assert "If" in kinds(c.model)
    static = {f"in{i}": np.full((1, 2, 4), np.inf, np.float32) for i in range(2)}
    session = StreamSession(c.model.SerializeToString(), static=static)
    done = session.feed(x=np.ones((1, 2, 20), np.float32))[g.outs[-1]]  # type: ignore[attr-defined]
    assert not np.isfinite(done[:, :, :4]).all() and np.isfinite(done[:, :, 8:]).all()

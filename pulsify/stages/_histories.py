"""Which buffers of one wire are one state, and what it begins with.

The content of a shorter history is the end of that of a longer one, so those that begin with the same share. Last frames
(``Last``) are a history that stays as it is once the stream has ended.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.assume import Assumptions
from pulsify.dim import parse

__all__ = ["end_of", "frames_of", "shared", "widen"]


def shared(nodes: list[ir.Node], axis: int, assume: Assumptions) -> list[list[ir.Node]]:
    """Buffers and last frames of one wire, those of one state together."""
    return [together for group in _by_content(nodes, axis) for together in _held(group, assume)]


def _by_content(nodes: list[ir.Node], axis: int) -> list[list[ir.Node]]:
    """Buffers of one wire that can be one: the content of the shorter is the end of that of the longer. Where no frame that
    counts depends on what a buffer begins with, it goes with the others, or with those that begin with zeros."""
    groups: list[tuple[np.ndarray | ir.Value, list[ir.Node]]] = []
    free: list[ir.Node] = []
    for node in sorted(nodes, key=lambda n: -frames_of(n)):
        begin = _content(node, axis)
        if begin is None:
            free.append(node)
            continue
        for longer, group in groups:
            if _ends(longer, begin):
                group.append(node)
                break
        else:
            groups.append((begin, [node]))
    if free:
        zeros = [group for begin, group in groups if isinstance(begin, np.ndarray) and not begin.any()]
        mates = zeros[0] if zeros else groups[0][1] if len(groups) == 1 else []
        if not mates:
            groups.append((np.zeros(0), mates))
        mates += free
    return [group for _, group in groups]


def _content(node: ir.Node, axis: int) -> np.ndarray | ir.Value | None:
    """What a buffer begins with, time first: constants, or the wire of the static frames at its end. None where no frame that
    counts depends on it."""
    if len(node.inputs) > 1:
        return node.inputs[1]
    init = node.attributes.get("init")
    if init is not None:
        return np.moveaxis(init.as_tensor().numpy(), axis, 0)
    return np.zeros(frames_of(node), bool) if node.attributes.get_int("reads_zeros", 0) else None


def _ends(longer: np.ndarray | ir.Value, begin: np.ndarray | ir.Value) -> bool:
    """Whether the content of one buffer is the end of another's."""
    if isinstance(longer, ir.Value) or isinstance(begin, ir.Value):
        return longer is begin
    end = longer[len(longer) - len(begin) :]
    return np.array_equal(begin, end) if begin.shape == end.shape else not begin.any() and not end.any()


def end_of(node: ir.Node) -> tuple[str, str]:
    """Rate of a Last, and the frames of its source that are real, counted from the first one sent: its length and delay."""
    a = node.attributes
    return a.get_string("rate"), str(parse(a.get_string("length")) + a.get_int("delay"))


def frames_of(node: ir.Node) -> int:
    """Frames that a buffer holds between pulses."""
    if node.op_type == "Last":
        return node.attributes.get_int("count")
    return node.attributes.get_int("delay") + node.attributes.get_int("overlap")


def widen(init: ir.TensorProtocol, axis: int, history: int) -> ir.TensorProtocol:
    """The content of a buffer as that of a longer one: zeros in front."""
    array = init.numpy()
    pad = [(0, 0)] * array.ndim
    pad[axis] = (history - array.shape[axis], 0)
    return ir.tensor(np.pad(array, pad), dtype=init.dtype)


def _held(nodes: list[ir.Node], assume: Assumptions) -> list[list[ir.Node]]:
    """Those that can share a state: last frames stay where they are once the stream has ended, so a history may do so
    only if no frame that counts is read of it after the pulse in which the stream ends."""
    lasts: dict[tuple[str, str], list[ir.Node]] = {}
    for node in nodes:
        if node.op_type == "Last":
            lasts.setdefault(end_of(node), []).append(node)
    views = [node for node in nodes if node.op_type != "Last"]
    if not views or not lasts:
        return [views, *lasts.values()] if views else list(lasts.values())
    key, *others = lasts
    end = parse(key[1])
    apart, last = [lasts[k] for k in others], lasts[key]
    still = [n for n in views if "until" in n.attributes and assume.at_most(parse(n.attributes.get_string("until")), end)]
    moving = [n for n in views if n not in still]
    longest = [max(map(frames_of, group), default=0) for group in (still, moving, last)]
    if moving and longest[1] >= min(longest[0], longest[2]):
        return [views, last, *apart]
    return [[*still, *last], *([moving] if moving else []), *apart]

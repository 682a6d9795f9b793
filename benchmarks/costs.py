"""What a convolution costs in either form: ``python -m benchmarks.costs`` measures pulsify/rewrites/costs.json anew.

Chains of equal layers, pulsed, are converted as they are, lifted (pulsify/rewrites/lift_convs.py) and in row form
(pulsify/rewrites/frame_rows.py), run in turns, and the CPU time of a layer is written down, its buffer included: microseconds on one core over a grid of frames per pulse,
channels and kernel. A few minutes; what counts is which form is cheaper where, and that moves little from machine to machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import onnx
import onnx_ir as ir

from benchmarks.contenders import Bound
from benchmarks.timing import take_turns
from models.builder import Builder
from pulsify import contract
from pulsify.api import Conversion, convert
from pulsify.graph import Pulse
from pulsify.pipeline import Options, run
from pulsify.rewrites import activations_first, drop_dead, frame_rows, lift_convs, shared_memory
from pulsify.source import read
from pulsify.stages.emit import emit
from pulsify.stages.load import AxisSpec

TARGET = Path(__file__).parent.parent / "pulsify" / "rewrites" / "costs.json"

FRAMES, CHANNELS, KERNELS = (1, 2, 4, 8, 16, 32, 64, 128, 256), (8, 16, 32, 64, 128, 256), (1, 3, 7)

#: Layers of the chains: a layer costs the difference, what enters and leaves costs the rest.
FEW, MANY = 2, 8

#: Strides of the transposed convolutions measured; the kernel is twice that.
STRIDES = (2, 4, 8)

#: Seconds per grid point.
SECONDS = 0.12


#: The grid of depthwise convolutions, which have row form where there are few frames.
FEW_FRAMES, DEPTHWISE, LONGER = (1, 2, 4, 8, 16, 32), (16, 64, 256, 512), (3, 7, 20)


def chain(channels: int, kernel: int, dilation: int, depth: int, group: int = 1) -> onnx.ModelProto:
    """Layers of one kind, a ReLU after each."""
    b = Builder(0, gain=2.0)
    y = "x"
    for _ in range(depth):
        y = b("Relu", b.conv(y, channels // group, channels, kernel, dilations=[dilation], group=group))
    return b.model("chain", {"x": [1, channels, "S"]}, {y: [1, channels, "T"]})


def transposed(channels: int, stride: int) -> onnx.ModelProto:
    """One transposed convolution that halves the channels, cut like a generator's."""
    b = Builder(0)
    y = b.conv_transpose("x", channels, channels // 2, 2 * stride, strides=[stride], pads=[stride // 2, stride // 2])
    return b.model("transposed", {"x": [1, channels, "S"]}, {y: [1, channels // 2, "T"]})


def forms(model: onnx.ModelProto, pulse: int) -> dict[str, Bound]:
    """The model as it is, lifted and in row form, bound."""
    out = {}
    for name in ("as is", "lifted", "rows"):
        source = read(model)
        g = run(source, Options(AxisSpec.parse(["S"]), Pulse(pulse)), "pulse-v2-declutter")
        if name == "rows":
            frame_rows.convert(g, frame_rows.row_forms(g))
            shared_memory.apply(g)
            activations_first.apply(g)
        if name == "lifted":
            lift_convs.convert(g, [node for node in g.graph if lift_convs.liftable(g, node)])
        drop_dead.apply(g)
        emit(g)
        manifest = json.loads(g.model.metadata_props[contract.KEY])
        batch = convert(model, axis="S", pulse=pulse, optimize="none").batch
        done = Conversion(g, batch, source, manifest, 0.0)
        out[name] = Bound(ir.to_proto(g.model), done)
    return out


def layer(channels: int, kernel: int, dilation: int, pulse: int, group: int = 1) -> tuple[float, float, float]:
    """Microseconds of a layer as it is, in row form and lifted."""
    steps = {f"{k} {d}": w.step for d in (FEW, MANY) for k, w in forms(chain(channels, kernel, dilation, d, group), pulse).items()}
    samples = take_turns(steps, SECONDS)
    time = {k: samples.median(k) * 1e6 for k in steps}
    as_is, rows, lifted = (max(0.1, (time[f"{k} {MANY}"] - time[f"{k} {FEW}"]) / (MANY - FEW)) for k in ("as is", "rows", "lifted"))
    return round(as_is, 2), round(rows, 2), round(lifted, 2)


def move(channels: int, pulse: int) -> float:
    """Microseconds of bringing a wire into row form: a Transpose, and a Reshape to the axes that are not 1."""

    def wires(moved: bool) -> onnx.ModelProto:
        b, outs = Builder(0), {}
        for k in range(MANY):
            y = b("Relu", f"x{k}")
            y = b("Reshape", b("Transpose", y, perm=[0, 2, 1]), b.ints(-1, channels)) if moved else y
            outs[y] = ["S", channels] if moved else [1, channels, "S"]
        return b.model("wires", {f"x{k}": [1, channels, "S"] for k in range(MANY)}, outs)

    ways = {str(moved): forms(wires(moved), pulse)["as is"] for moved in (False, True)}
    samples = take_turns({k: w.step for k, w in ways.items()}, SECONDS)
    return round(max(0.1, (samples.median("True") - samples.median("False")) * 1e6 / MANY), 2)


def upsampling(channels: int, stride: int, pulse: int) -> float:
    """Microseconds of a transposed convolution."""
    way, empty = forms(transposed(channels, stride), pulse)["as is"], forms(chain(8, 1, 1, 1), 1)["as is"]
    samples = take_turns({"way": way.step, "empty": empty.step}, SECONDS)
    return round(max(0.1, (samples.median("way") - samples.median("empty")) * 1e6), 2)


def steady(table: list[list[float]]) -> list[list[float]]:
    """No cell costs more than one of as many frames and channels or more: half a microsecond is within the noise."""
    return [[min(min(row[c:]) for row in table[n:]) for c in range(len(table[n]))] for n in range(len(table))]


def depthwise() -> dict[str, Any]:
    """The table of depthwise convolutions, of dilation 2."""
    found: dict[str, Any] = {"frames": FEW_FRAMES, "channels": DEPTHWISE, "kernels": LONGER}
    cells = [[[layer(c, k, 2, n, group=c) for k in LONGER] for c in DEPTHWISE] for n in FEW_FRAMES]
    for j, form in enumerate(("flat", "rows", "lifted")):
        found[form] = [[[cell[j] for cell in row] for row in plane] for plane in cells]
        print(f"depthwise, {form}:", found[form], flush=True)
    return found


@click.command()
@click.option("--depthwise", "only", is_flag=True, help="Depthwise convolutions alone.")
def main(only: bool) -> None:
    """Measure the grid and write it."""
    if only:
        TARGET.write_text(json.dumps({**json.loads(TARGET.read_text()), "depthwise": depthwise()}, separators=(",", ":")) + "\n")
        return
    table: dict[str, Any] = {"frames": FRAMES, "channels": CHANNELS, "kernels": KERNELS, "strides": STRIDES}
    kinds: dict[str, list[Any]] = {k: [] for k in ("as_is", "rows", "lifted", "rows_apart", "transposed", "moving")}
    for n in FRAMES:
        for row in kinds.values():
            row.append([])
        for c in CHANNELS:
            measured = [layer(c, k, 1, n) for k in KERNELS]
            apart = [layer(c, k, n, n)[1] if k > 1 and n > 1 else m[1] for k, m in zip(KERNELS, measured)]
            up = [upsampling(c, u, n) if n * u * c <= 1 << 15 else None for u in STRIDES]
            found = (*([m[j] for m in measured] for j in range(3)), apart, up, move(c, n))
            for name, values in zip(kinds, found, strict=True):
                kinds[name][-1].append(values)
            print(f"{n:4d} frames, {c:4d} channels:", dict(zip(kinds, found)), flush=True)
    kinds["moving"] = steady(kinds["moving"])
    TARGET.write_text(json.dumps({**table, **kinds, "depthwise": depthwise()}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

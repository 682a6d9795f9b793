"""What the targets are worth: ``python -m benchmarks.targets``, with ``--native`` for the second one.

Every model is converted to standard operators and for the target onnxruntime, with its operators where they are chosen and
wherever they may stand; all run in turns. For onnxruntime-native it is models with weights of megabytes. The figures are
microseconds of a pulse and ratios to the standard ones (below 1: it pays), medians of CPU time over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from unittest import mock

import click
import onnx

from benchmarks.contenders import Bound
from benchmarks.timing import take_turns
from models import chain, conformer, depthwise, recurrent
from models.real import CASES, path_of
from pulsify.api import Conversion, convert
from pulsify.rewrites import causal_convs

PULSES = (1, 2, 4, 16)

#: With few channels and many, with long kernels, and with channels that do not come in blocks of four.
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "tcn, 64 channels": partial(depthwise.tcn, 16, 64),
    "tcn, 256 channels": depthwise.tcn,
    "tcn, 255 channels": partial(depthwise.tcn, 64, 255),
    "tcn, 256 channels, kernel 9": partial(depthwise.tcn, kernel=9),
    "mamba, 128 channels": depthwise.mamba,
    "mamba, 1024 channels": partial(depthwise.mamba, 512, 1024),
}


#: The real models with such convolutions.
REAL = ("fsmn_vad", "pulsevad")


#: With weights of one to six megabytes each.
LARGE: dict[str, Callable[[], onnx.ModelProto]] = {
    "conformer, 512 channels": partial(conformer.build, 512, 2),
    "chain, 512 channels": partial(chain.build, 512, 5),
    "GRU, 640 units": partial(recurrent.build, "GRU"),
    "LSTM, 512 units": partial(recurrent.build, "LSTM", 512),
    "LSTM, 640 units": partial(recurrent.build, "LSTM"),
}

#: The real models with such weights.
REAL_LARGE = ("nsnet2", "nsnet2_48k")


def native_rows(seconds: float, pulses: tuple[int, ...] = PULSES, real: bool = False) -> Iterator[list[str]]:
    """Model, pulse, microseconds of what runs everywhere, and the ratio."""
    own = ((name, partial(convert, build(), axis="S")) for name, build in LARGE.items())
    for name, pulsed in _real(REAL_LARGE) if real else own:
        for pulse in pulses:
            made = {target: pulsed(pulse=pulse, target=target) for target in ("onnx", "onnxruntime-native")}
            ways = {target: Bound(c.model, c) for target, c in made.items()}
            samples = take_turns({target: way.step for target, way in ways.items()}, seconds * len(ways))
            same = len({tuple(n.op_type for n in c.model.graph.node) for c in made.values()}) == 1
            ratio = "-" if same else f"{samples.ratio('onnxruntime-native', 'onnx'):.2f}"
            yield [name, str(pulse), f"{1e6 * samples.median('onnx'):.0f}", ratio]


def _own() -> Iterator[tuple[str, Callable[..., Conversion]]]:
    for name, build in MODELS.items():
        yield name, partial(convert, build(), axis="S")


def _real(names: Sequence[str] = REAL) -> Iterator[tuple[str, Callable[..., Conversion]]]:
    """With the states carried that their authors exposed."""
    for case in CASES:
        if case.name in names and (case.carry or not any(c.carry for c in CASES if c.name == case.name)):
            yield case.name, partial(convert, path_of(case), axis=case.along, changes=case.changes)


def rows(seconds: float, pulses: tuple[int, ...] = PULSES, real: bool = False) -> Iterator[list[str]]:
    """Model, pulse, microseconds of the standard operators, and the two ratios."""
    for name, pulsed in _real() if real else _own():
        for pulse in pulses:
            made = {"onnx": pulsed(pulse=pulse), "chosen": pulsed(pulse=pulse, target="onnxruntime")}
            with mock.patch.object(causal_convs, "_pays", lambda g, node, conv: True):
                made["everywhere"] = pulsed(pulse=pulse, target="onnxruntime")
            chosen = any(n.op_type == "CausalConvWithState" for n in made["chosen"].model.graph.node)
            ways = {k: Bound(c.model, c).step for k, c in made.items() if k != "chosen" or chosen}
            samples = take_turns(ways, seconds * len(ways))
            ratios = [f"{samples.ratio(k, 'onnx'):.2f}" if k in ways else "-" for k in ("chosen", "everywhere")]
            yield [name, str(pulse), f"{1e6 * samples.median('onnx'):.0f}", *ratios]


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per contender.")
@click.option("--real", is_flag=True, help="Of real models, which are downloaded.")
@click.option("--native", is_flag=True, help="Of the target onnxruntime-native.")
def main(seconds: float, real: bool, native: bool) -> None:
    """Print the table as Markdown."""
    if native:
        click.echo("| model | pulse | everywhere, us | native |\n|---|---|---|---|")
        for row in native_rows(seconds, real=real):
            click.echo(f"| {' | '.join(row)} |")
        return
    click.echo("| model | pulse | standard, us | where it is chosen | everywhere |\n|---|---|---|---|---|")
    for row in rows(seconds, real=real):
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

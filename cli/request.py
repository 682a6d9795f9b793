"""What a command line asks of a batch model: the options that every command shares which converts one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pulsify.errors import UsageError

from . import console

if TYPE_CHECKING:
    from pulsify.adapt import Changes
    from pulsify.api import Conversion
    from pulsify.naming import Naming
    from pulsify.pipeline import Options
    from pulsify.source import Source

__all__ = ["FILE", "PULSE", "Request", "pair", "streaming"]

_Command = Callable[..., Any]

#: A path: completed by shells, checked by us.
FILE = click.Path(readable=False)

AXIS = click.option(
    "--axis", "axes", multiple=True, metavar="S",
    help="The symbol that is time, or an axis of an input as input:2 (repeatable; also where the file has a number). "
    "Found if left out and there is one candidate.",
)  # fmt: skip
PULSE = click.option(
    "--pulse", default="P", metavar="4", show_default=True,
    help="Frames per call, or a name: then any legal pulse is taken, chosen per call.",
)  # fmt: skip
OPTIMIZE = click.option(
    "--optimize", type=click.Choice(["none", "speed", "size"]), default="speed", show_default=True,
    help="Make the pulsed model fast, or its states small, or leave the graph as it is.",
)  # fmt: skip
TARGET = click.option(
    "--target", type=click.Choice(["onnx", "onnxruntime", "onnxruntime-native"]), default="onnx", show_default=True,
    help="Whose operators the pulsed model may use: the standard's, which run everywhere, or onnxruntime's own besides; native: also forms "
    "that are slow in browsers.",
)  # fmt: skip
CHANGES = (
    click.option("--outputs", metavar="A,B", help="Keep these outputs only."),
    click.option("--bind", "binds", multiple=True, metavar="NAME=VALUE", help="Make an input a constant (repeatable)."),
    click.option(
        "--state", "states", multiple=True, metavar="IN:OUT",
        help="An input and an output that are a state the author exposed: carried by the pulsed model (repeatable).",
    ),
    click.option("--unbake", is_flag=True, help="Free Reshapes in which the exporter wrote the length of its example; name the axes of a Squeeze."),
    click.option(
        "--length-input", "--length", "lengths", multiple=True, metavar="NAME",
        help="An input that holds the number of frames (repeatable).",
    ),
)  # fmt: skip


def _all(command: _Command, *options: Callable[[_Command], _Command]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def streaming(*pulse: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """The options of a conversion: along which axis, in which pulses, of what."""
    return lambda command: _all(command, AXIS, *pulse, OPTIMIZE, TARGET, *CHANGES)


@dataclass(frozen=True)
class Request:
    """A batch model, and what is asked of it."""

    model: str
    axes: tuple[str, ...] = ()
    pulse: str = "P"
    outputs: str | None = None
    binds: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()
    unbake: bool = False
    optimize: str = "speed"
    target: str = "onnx"
    state_names: str | None = None
    metadata: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        from pulsify.api import parse_level, parse_pulse, parse_target
        from pulsify.pipeline import Options
        from pulsify.stages.load import AxisSpec

        return Options(AxisSpec.parse(self.axes), parse_pulse(self.pulse), parse_level(self.optimize), parse_target(self.target))

    @property
    def changes(self) -> Changes:
        from pulsify.adapt import Changes

        return Changes(
            bind=dict(pair("--bind", "NAME=VALUE", text, "=") for text in self.binds),
            states=dict(pair("--state", "IN:OUT", text, ":") for text in self.states),
            outputs=[name.strip() for name in self.outputs.split(",")] if self.outputs is not None else (),
            lengths=self.lengths,
            unbake=self.unbake,
        )

    @property
    def naming(self) -> Naming | None:
        """None where the states keep the names of the contract, and there is no metadata to add."""
        from pulsify.naming import DEFAULT, Naming

        asked = self.state_names is not None or self.metadata
        return Naming.parse(self.state_names or DEFAULT, self.metadata) if asked else None

    def source(self) -> Source:
        """The batch model, changed as asked."""
        from pulsify.adapt import adapt
        from pulsify.source import read

        return adapt(read(Path(self.model)), self.changes, self.options.axis)

    def convert(self, quiet: bool = False) -> Conversion:
        """The pulsed model."""
        with console.busy(f"converting {Path(self.model).name}", quiet):
            from pulsify.api import convert

            return convert(
                Path(self.model), axis=self.axes, pulse=self.pulse, changes=self.changes, optimize=self.optimize,
                target=self.target, naming=self.naming,
            )  # fmt: skip


def pair(option: str, form: str, text: str, separator: str) -> tuple[str, str]:
    """The two halves of an option's value. UsageError where it has none."""
    name, found, value = text.partition(separator)
    if not (name and found and value):
        raise UsageError(f"{option} {text}", why=f"it takes {form}")
    return name, value

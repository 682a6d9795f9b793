"""``pulsify``: the group of commands, and how anything that goes wrong ends.

A first argument that names no command is a model to convert. Nothing but click is imported until a command runs.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from . import failures

DEFAULT = "convert"

EXIT_CODES = (
    (0, "done"),
    (2, "usage: an option, an axis, a pulse or an output that cannot be"),
    (3, "refused: the model cannot stream as asked (the message names the node and the reason)"),
    (4, "verification failed: the pulsed model disagrees with the batch model, or has drifted from it; nothing was written"),
    (5, "the model file is missing, unreadable or invalid"),
    (70, "an internal error: ours, not your model's"),
)

EXAMPLES = (
    ("pulsify model.onnx", "the time axis is found if there is only one candidate; any pulse"),
    ("pulsify model.onnx --axis S --pulse 4", "4 frames of the axis named S per call -> model.p4.onnx"),
    (
        "pulsify model.onnx --axis audio:1 --pulse 160",
        "axis 1 of the input 'audio' is time, even if the file has a number there",
    ),
    ("pulsify model.onnx --axis S --pass pulse-v2", "the graph as text after a stage"),
)


class Commands(click.Group):
    """Commands found by file name, imported when asked for; anything else is an argument of the default one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        package = importlib.import_module(f"{__package__}.commands")
        return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__package__}.commands.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = args or ["--help"]
        own = {o for p in self.get_params(ctx) for o in p.opts}
        if args and args[0] not in own and args[0] not in self.list_commands(ctx):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and files: a first argument may be a model. (A file after them would make bash forget them.)"""
        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, incomplete)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("pulsify", "MODEL.onnx --axis S --pulse 4 [-o OUT.onnx]")
        formatter.write_usage("pulsify", "COMMAND ...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default = self.get_command(ctx, DEFAULT)
        assert default is not None
        own = [r for r in (p.get_help_record(ctx) for p in self.get_params(ctx)) if r is not None]
        rows = [
            r for r in (p.get_help_record(ctx) for p in default.params if isinstance(p, click.Option)) if r is not None
        ]
        with formatter.section("Options"):
            formatter.write_dl([*rows, *own])
        with formatter.section("Commands"):
            commands = {n: self.get_command(ctx, n) for n in self.list_commands(ctx)}
            formatter.write_dl([(n, c.get_short_help_str(90)) for n, c in commands.items() if c is not None])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES])
        with formatter.section("Examples"):
            for line, meaning in EXAMPLES:
                formatter.write_text(line)
                with formatter.indentation():
                    formatter.write_text(meaning)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from pulsify import __version__

        click.echo(f"pulsify {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def main() -> None:
    """Turn a batch ONNX model with a symbolic time axis into a plain ONNX model that eats one pulse of frames per call
    and carries its memory in extra inputs and outputs. The result is verified against the batch model, every frame
    of it, before it is written.
    """


def run(args: Sequence[str]) -> int:
    """Run a command line; the exit code. Failures are printed as messages."""
    # Libraries warn through logging; what is worth telling is told by us.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = main.main(args=list(args), prog_name="pulsify", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): nothing to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as e:
        return failures.report(e, debug="--debug" in args)


#: New objects after which the command looks for garbage.
_OBJECTS = 2_000_000


def entry() -> NoReturn:
    """The console script."""
    # A process converts once: looking for cycles among what it has made takes a tenth of that, and finds nothing it needs.
    gc.set_threshold(_OBJECTS)
    code = run(sys.argv[1:])
    # What is left is for the system to free: looking for cycles in it takes as long as a conversion.
    gc.freeze()
    sys.exit(code)

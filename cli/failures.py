"""Every failure as one message on stderr, in the shape of :mod:`pulsify.errors`."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pulsify.errors import InternalError, PulsifyError, UsageError, internal

if TYPE_CHECKING:
    from pulsify.pipeline import Options
    from pulsify.source import Source

OURS = "this is a bug of pulsify, not of your model; please report it with the model"


def report(e: Exception, debug: bool = False) -> int:
    """Print a failure; the exit code it asks for."""
    error = as_error(e)
    if debug:
        click.echo("".join(traceback.format_exception(e)), err=True, nl=False)
    head, _, rest = error.render().partition("\n")
    click.secho(head, fg="red", bold=True, err=True, color=None if not os.environ.get("NO_COLOR") else False)
    if rest:
        click.echo(rest, err=True)
    return error.exit_code


def as_error(e: Exception) -> PulsifyError:
    """Any exception as a message for the user. What is not ours to say is an internal error."""
    if isinstance(e, PulsifyError):
        if isinstance(e, InternalError) and not any(e.hints):
            e.hints = [OURS]
        return e
    if isinstance(e, click.ClickException):
        return _usage(e)
    error = internal("internal error", e)
    error.hints.append("--debug shows where")
    error.__cause__ = e
    return error


def _usage(e: click.ClickException) -> UsageError:
    hints = []
    what = e.format_message().rstrip(".")
    if isinstance(e, click.NoSuchOption):
        what = f"no such option: {e.option_name}"
        hints = [f"did you mean {p}?" for p in e.possibilities or ()]
    return UsageError(what[:1].lower() + what[1:], hint=[*hints, "pulsify --help"])


def last_good_graph(source: Source, options: Options, stage: str | None) -> str:
    """Where the dump of the graph before ``stage`` is, as a hint: it is made again, a stage at a time."""
    from pulsify.dump import dump
    from pulsify.pipeline import STAGES, run

    names = [s.name for s in STAGES]
    before = names[: names.index(stage)] if stage in names else names
    for name in reversed(before):
        try:
            text = dump(run(source, options, until=name))
        except Exception:
            continue
        try:
            handle, path = tempfile.mkstemp(prefix=f"pulsify-{name}-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(text)
        except OSError as e:
            return f"the last good graph (after {name}) could not be written: {e.strerror or e}"
        return f"the last good graph (after {name}) is in {Path(path)}"
    return "there is no good graph: the first stage failed"

"""``pulsify convert``: the main job, and what a bare model name means."""

from __future__ import annotations

import difflib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pulsify.errors import InternalError, PulsifyError, UsageError, internal

from .. import console, failures
from ..request import FILE, PULSE, Request, streaming


def stages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Stages a shell may complete."""
    from pulsify.pipeline import STAGES

    return [s.name for s in STAGES if s.name.startswith(incomplete)]


@click.command(short_help="Convert a model; meant where no command is named.")
@click.argument("model", required=False, type=FILE)
@streaming(PULSE)
@click.option(
    "-o", "--output", metavar="OUT",
    help="Where to write. Default: beside the model, named after it and the pulse (model.p4.onnx).",
)  # fmt: skip
@click.option(
    "--triton", metavar="DIR",
    help="Write a Triton model repository instead: DIR/<model>/config.pbtxt, and the model with the rows of its states first.",
)  # fmt: skip
@click.option(
    "--state-names", metavar="PAST/PRESENT",
    help="Names of the states, {id} standing for each one's id. Default: past_{id}/present_{id}, the contract's.",
)  # fmt: skip
@click.option(
    "--metadata", multiple=True, metavar="KEY=VALUE",
    help="Metadata to write, {pulse} standing for the pulse; or sherpa-onnx, for what its clients read (repeatable).",
)  # fmt: skip
@click.option(
    "--pass", "until", metavar="NAME", shell_complete=stages,
    help="Print the graph after this stage as text (-o: into a file) and stop. 'list' lists the stages.",
)  # fmt: skip
@click.option(
    "--check", metavar="PULSED.onnx", type=FILE,
    help="Write nothing: check that this pulsed file is what MODEL converts to now, and streams it, every frame. Axis and "
    "pulse are the file's own if left out.",
)  # fmt: skip
@click.option(
    "--report", metavar="FILE.json", help="Write all that is printed, and more, as JSON. '-' prints it instead."
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when all is well.")
@click.option("--no-verify", is_flag=True, help="Do not compare with the batch model before writing.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(
    model: str | None,
    pulse: str,
    output: str | None,
    until: str | None,
    triton: str | None,
    check: str | None,
    report: str | None,
    quiet: bool,
    no_verify: bool,
    debug: bool,
    **asked: Any,
) -> None:
    """Convert MODEL into a pulsed model, verify it against the batch model in onnxruntime, and write it."""
    if until == "list":
        return _list_stages()
    if model is None:
        raise UsageError("no model given", hint=["pulsify model.onnx --axis S --pulse 4", "pulsify --help"])
    record: dict[str, Any] = {"model": model, "exit_code": 0, "error": None}
    _known_command(model)
    if report is not None and report != "-":
        from pulsify.files import check_target

        check_target(report, Path(model))
    try:
        request = Request(model, pulse=pulse, **asked)
        if check is not None:
            _check(request, check, output or triton, until, no_verify, quiet or report == "-", record)
        elif until is not None:
            _dump(request, until, output)
        else:
            from pulsify.pipeline import resting_collector

            with resting_collector():
                _convert(request, output, triton, no_verify, quiet or report == "-", record)
    except Exception as e:
        error = failures.as_error(e)
        record.update(exit_code=error.exit_code, error=error.as_dict())
        if report is not None:
            _write_report(report, record)
        if error is e:
            raise
        raise error from e
    if report is not None:
        _write_report(report, record)


def _convert(
    request: Request, output: str | None, triton: str | None, no_verify: bool, quiet: bool, record: dict[str, Any]
) -> None:
    with console.busy("loading", quiet):
        from pulsify.files import check_target

        from .. import summary
    model = Path(request.model)
    if triton is not None:
        if output is not None:
            raise UsageError("both -o and --triton", why="a repository has its own names", hint="one of the two")
        target = Path(triton) / model.stem / "1" / "model.onnx"
    else:
        target = Path(output) if output is not None else default_output(model, request.options.pulse.size)
        if model.is_file():
            check_target(target, model)
    try:
        done = request.convert(quiet)
    except InternalError as e:
        _hand_over(e, request)
        raise
    start = time.perf_counter()
    try:
        with console.busy(f"writing {target.name}" if no_verify else f"verifying {target.name}", quiet):
            if triton is not None:
                from pulsify.triton import save

                save(done, Path(triton), model.stem, verify=not no_verify)
            else:
                done.save(target, verify=not no_verify)
    except PulsifyError:
        raise
    except Exception as e:
        wrapped = internal("internal error while verifying or writing", e)
        _hand_over(wrapped, request)
        raise wrapped from e
    finally:
        seconds = None if no_verify else time.perf_counter() - start
        record.update(summary.as_dict(done, target, seconds))
    if not quiet:
        summary.show(done, target, seconds)


def default_output(path: Path, pulse: int | str) -> Path:
    """Beside the model, named after it and the pulse: ``model.p4.onnx``."""
    return path.with_name(f"{path.stem}.p{pulse}.onnx")


def _check(
    request: Request, check: str, output: str | None, until: str | None, no_verify: bool, quiet: bool, record: dict[str, Any]
) -> None:
    for option, given in (("-o or --triton", output is not None), ("--pass", until is not None), ("--no-verify", no_verify)):
        if given:
            raise UsageError(f"--check and {option}", why="--check writes nothing and verifies", hint=f"leave {option} out")
    with console.busy("loading", quiet):
        from pulsify import drift
        from pulsify.source import read

        from .. import summary

        manifest = drift.promised(Path(check), read(Path(request.model)))
    if click.get_current_context().get_parameter_source("pulse") is ParameterSource.DEFAULT:
        request = replace(request, pulse=str(manifest["pulse"]))
    if not request.axes:
        request = replace(request, axes=summary.axes(manifest, request))
    done = request.convert(quiet)
    start = time.perf_counter()
    with console.busy(f"verifying {Path(check).name}", quiet):
        found = drift.check(Path(check), done)
    seconds = time.perf_counter() - start
    record.update(summary.as_dict(done, Path(check), seconds), same_graph=found.same_graph)
    if not quiet:
        summary.show_check(done, check, found, seconds)


def _hand_over(error: InternalError, request: Request) -> None:
    """Add to an internal error where the last good graph is."""
    failures.as_error(error)
    error.hints.append(failures.last_good_graph(request.source(), request.options, error.stage))


def _dump(request: Request, until: str, output: str | None) -> None:
    from pulsify.dump import dump
    from pulsify.files import check_target, place
    from pulsify.pipeline import run

    known_stage(until)
    target = check_target(output, Path(request.model)) if output is not None and output != "-" else None
    try:
        text = dump(run(request.source(), request.options, until=until))
    except InternalError as e:
        _hand_over(e, request)
        raise
    if target is not None:
        place(text.encode(), target)
    else:
        click.echo(text, nl=False)


def _list_stages() -> None:
    from pulsify.pipeline import STAGES

    width = max(len(s.name) for s in STAGES)
    for s in STAGES:
        console.line(f"{s.name:<{width}}  {s.doc}")


def known_stage(name: str) -> None:
    """UsageError unless there is such a stage."""
    from pulsify.pipeline import STAGES

    names = [s.name for s in STAGES]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        raise UsageError(
            f"no stage {name!r}",
            why=f"the stages are {', '.join(names)}",
            hint=f"did you mean --pass {close[0]}?" if close else "--pass list",
        )


def _known_command(model: str) -> None:
    """A misspelt command is not a missing model."""
    if Path(model).suffix or Path(model).name != model or Path(model).exists():
        return
    group = click.get_current_context().find_root().command
    names = group.list_commands(click.get_current_context()) if isinstance(group, click.Group) else []
    close = difflib.get_close_matches(model, names, n=1)
    if close:
        raise UsageError(
            f"no command and no file {model!r}",
            why=f"the commands are {', '.join(names)}",
            hint=f"did you mean pulsify {close[0]}?",
        )


def _write_report(where: str, record: dict[str, Any]) -> None:
    import json

    from pulsify import __version__
    from pulsify.files import check_target, place

    text = json.dumps({"pulsify": __version__, **record}, indent=1) + "\n"
    if where == "-":
        click.echo(text, nl=False)
    else:
        place(text.encode(), check_target(where, Path(record["model"])))

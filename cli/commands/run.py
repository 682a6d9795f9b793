"""``pulsify run``: a recording through a model, as a stream would bring it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pulsify.errors import UsageError

from .. import console
from ..console import count
from ..request import FILE, Request, pair, streaming

if TYPE_CHECKING:
    import numpy as np

    from pulsify.graph import Graph
    from pulsify.replay import Replay
    from pulsify.runtime import StreamSession
    from pulsify.runtime.model import Model
    from pulsify.source import Source
    from pulsify.stages.verify import Comparison

PULSE = click.option(
    "--pulse", metavar="4",
    help="Frames per call: of the conversion for a batch model, per call for a pulsed model that takes any.",
)  # fmt: skip


@click.command(short_help="Stream a recording (.npy, .npz, .wav) through a pulsed or a batch model.")
@click.argument("model", type=FILE)
@click.argument("recording", type=FILE)
@click.option("-o", "--output", metavar="OUT", help="Write the outputs: .npz holds all of them, .npy and .wav one.")
@click.option(
    "--chunk", type=int, metavar="FRAMES",
    help="Frames of the stream per feed, of any number. Default: one pulse (64 of the least where it is dynamic).",
)  # fmt: skip
@click.option("--compare", metavar="BATCH.onnx", type=FILE, help="Compare every frame with this batch model; it may be MODEL itself.")
@click.option(
    "--static", "statics", multiple=True, metavar="NAME=VALUE",
    help="An input without a time axis: a number, a list as [1,2], or an .npy file (repeatable).",
)  # fmt: skip
@click.option("--rate", type=float, metavar="HZ", help="Frames of the stream per second: for the real-time factor, and checked against a .wav.")
@click.option("--channel", metavar="N|mix", help="Of a .wav: one channel, or the mean of all.")
@click.option("--gain", type=float, default=1.0, metavar="G", help="Multiply the samples of a .wav (32768: models of int16 range).")
@click.option("--float", "floating", is_flag=True, help="Write a .wav of 32-bit floats, not of 16-bit integers.")
@click.option("--json", "as_json", is_flag=True, help="What came of it as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when all is well.")
@streaming(PULSE)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(
    model: str, recording: str, output: str | None, chunk: int | None, compare: str | None, statics: Sequence[str],
    rate: float | None, channel: str | None, gain: float, floating: bool, as_json: bool, quiet: bool, pulse: str | None,
    debug: bool, **asked: Any,
) -> None:  # fmt: skip
    """Stream RECORDING through MODEL in chunks, as it would arrive, and put the outputs together again.

    MODEL is a pulsed model, or a batch model that is converted on the fly (--axis, --pulse). RECORDING is an .npy, an
    .npz with one array per input, or audio: integer .wav as it is; float .wav, .flac and .ogg with pulsify[audio].

    \b
    pulsify run model.p4.onnx speech.npy -o out.npz
    pulsify run model.onnx speech.wav --axis S --pulse 160 --compare model.onnx
    """
    silent = quiet or as_json
    with console.busy("loading", silent):
        from pulsify import replay, signals
        from pulsify.files import check_target, place
        from pulsify.runtime import StreamSession

        target = None
        if output is not None:
            target = check_target(check_target(output, Path(model)), Path(recording), "the recording")
        held = signals.read(recording)
    pulsed, size, batch = _open(model, pulse, compare, asked, silent)
    slots = [*pulsed.inputs, *(p for p in pulsed.statics if p.name in held.arrays)]
    inputs = signals.fit(held, slots, channel, gain)
    second = _rate(pulsed, held.rate, rate)
    fixed = _statics(pulsed, inputs, statics)
    session = StreamSession(pulsed.session, static=fixed, pulse=size)
    total = replay.stream_length(session, inputs)
    with console.progress(f"streaming {Path(recording).name}", total, silent) as bar:
        done = replay.replay(session, inputs, chunk, lambda n, s: bar(n, _speed(n, s, second)))
    rows: list[Comparison] = []
    notes = []
    if batch is not None:
        with console.busy("comparing with the batch model", silent):
            rows, _ = replay.against_batch(batch[0], batch[1], session.manifest, {**inputs, **fixed}, done)
        made_of = session.manifest["source"]["sha256"]
        if batch[0].sha256 != made_of:
            notes.append(f"the pulsed model was made of another file (sha256 {made_of[:12]}, this one {batch[0].sha256[:12]})")
    clipped = 0
    if target is not None:
        axes = {o["name"]: o["axis"] for o in session.manifest["outputs"]}
        data, clipped = signals.encode(
            target.suffix.lower(), done.outputs, axes, _output_rate(session, done, axes, second), floating, gain
        )
        place(data, target)
    if clipped:
        notes.append(f"{clipped:,} samples were clipped to the range of 16 bits (--float keeps them)")
    found = _as_dict(model, recording, target, session, done, replay.default_chunk(session) if chunk is None else chunk, second, rows, notes)
    if as_json:
        console.line(json.dumps(found, indent=1))
    elif not quiet:
        _show(found, session.manifest["symbol"])


def _open(
    model: str, pulse: str | None, compare: str | None, asked: dict[str, Any], quiet: bool
) -> tuple[Model, int | None, tuple[Source, Graph] | None]:
    """The pulsed model, the pulse to choose, and what to compare with: the batch model and its typed graph."""
    from pulsify import replay
    from pulsify.inspection import manifest_of
    from pulsify.runtime import open_session
    from pulsify.runtime.model import Model

    path = Path(model)
    manifest = manifest_of(path)
    if manifest is not None:
        pulsed, size = Model(open_session(path)), _number(pulse)
    else:
        done = Request(model, pulse=pulse or "P", **asked).convert(quiet)
        pulsed, size = Model(done.open()), None
        if compare is not None and Path(compare).resolve() == path.resolve():
            return pulsed, size, (done.source, done.batch)
    if compare is None:
        return pulsed, size, None
    request = Request(compare, **asked)
    source = request.source()
    axis = request.options.axis if request.axes else replay.axis_of(pulsed.manifest, source)
    return pulsed, size, (source, replay.typed(source, axis))


def _number(pulse: str | None) -> int | None:
    from pulsify.api import parse_pulse

    size = None if pulse is None else parse_pulse(pulse).size
    if isinstance(size, str):
        raise UsageError(f"--pulse {size}", why="the model is a pulsed one already: a call takes a number of frames", hint="--pulse 16")
    return size


def _statics(pulsed: Model, given: Mapping[str, np.ndarray], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The static inputs, from the recording and the command line. One number fills the shape that the model declares."""
    import numpy as np

    from pulsify import signals

    ports = {p.name: p for p in pulsed.statics}
    sizes = {p.dim(a): n for p in pulsed.inputs for a, n in enumerate(given[p.name].shape) if a != p.axis}
    out = {n: given[n] for n in ports if n in given}
    for text in texts:
        name, value = pair("--static", "NAME=VALUE", text, "=")
        if name not in ports:
            raise UsageError(f"--static {text}", why=f"the static inputs of the model are {', '.join(ports) or 'none'}")
        port = ports[name]
        try:
            array = signals.array(value) if value.endswith(".npy") else np.array(json.loads(value), dtype=port.dtype)
        except (ValueError, TypeError, OverflowError) as e:
            raise UsageError(
                f"--static {text}", why=f"{value!r} is no {port.dtype}", hint=f"--static {name}=1, {name}=[1,2] or {name}=file.npy"
            ) from e
        if array.size == 1:
            array = np.full([d if isinstance(d, int) else sizes.get(port.dim(a), 1) for a, d in enumerate(port.shape)], array)
        out[name] = array.astype(port.dtype) if np.can_cast(array.dtype, port.dtype, "same_kind") else array
    missing = [p for p in pulsed.statics if p.name not in out]
    if missing:
        raise UsageError(
            f"no value for the static input {missing[0].name!r}",
            why=f"it is {missing[0].dtype} {list(missing[0].shape)} and has no time axis",
            hint=[f"--static {p.name}=VALUE" for p in missing],
        )
    return out


def _rate(pulsed: Model, held: int | None, asked: float | None) -> float | None:
    """Frames of the stream symbol per second, if anybody knows."""
    if held is None:
        return asked
    if asked is not None and asked != held:
        raise UsageError(
            f"the recording has {held} samples a second, not {asked:g}",
            why="a model hears another pitch and tempo at another rate",
            hint=f"resample it (sox in.wav -r {asked:g} out.wav), or leave --rate out",
        )
    return float(held / pulsed.ratio(pulsed.inputs[0]))


def _output_rate(session: StreamSession, done: Replay, axes: dict[str, Any], second: float | None) -> int | None:
    from pulsify import contract

    streams = [o for o in session.manifest["outputs"] if axes[o["name"]] is not None]
    if second is None or len(streams) != 1:
        return None
    return round(second * float(contract.rate(session.manifest, streams[0])))


def _speed(frames: int, seconds: float, second: float | None) -> str:
    if not seconds or not frames:
        return ""
    return f"{frames / seconds:,.0f} frames/s" if second is None else f"{frames / second / seconds:,.1f}x real time"


def _as_dict(
    model: str, recording: str, target: Path | None, session: StreamSession, done: Replay, chunk: int,
    second: float | None, rows: Sequence[Comparison], notes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    errors = {r.output: r.error for r in rows}
    return {
        "model": model,
        "recording": recording,
        "output": None if target is None else str(target),
        "axis": session.manifest["symbol"],
        "frames": done.frames,
        "pulse": session.pulse,
        "chunk": chunk,
        "chunks": done.chunks,
        "seconds": round(done.seconds, 6),
        "rate": second,
        "real_time_factor": None if second is None or not done.frames else done.seconds * second / done.frames,
        "outputs": [
            {
                "name": o["name"],
                "dtype": str(done.outputs[o["name"]].dtype),
                "shape": list(done.outputs[o["name"]].shape),
                "delay": o["delay"],
                "error": errors.get(o["name"]),
            }
            for o in session.manifest["outputs"]
            if o["name"] in done.outputs
        ],
        "worst_error": max(errors.values(), default=None),
        "notes": list(notes),
    }


def _show(found: dict[str, Any], symbol: str) -> None:
    to = f" -> {found['output']}" if found["output"] else ""
    console.heading(f"{Path(found['recording']).name} through {Path(found['model']).name}{to}")
    header = ["output", "type", "shape", "delay"] + (["error"] if found["worst_error"] is not None else [])
    rows = []
    for o in found["outputs"]:
        row = [o["name"], o["dtype"], str(o["shape"]), "-" if o["delay"] is None else str(o["delay"])]
        rows.append(row + ([f"{o['error']:.2g} of the largest"] if len(header) > 4 else []))
    console.table(header, rows, right=(3,))
    console.line()
    per_second = f", {found['frames'] / found['rate']:.2f} s of signal" if found["rate"] else ""
    factor = found["real_time_factor"]
    speed = f"; {factor:.2g} of real time" if factor is not None else ""
    lines = [
        ("stream", f"{count(found['frames'], 'frame')} of {symbol}{per_second}"),
        ("fed", f"in {count(found['chunks'], 'chunk')} of {count(found['chunk'], 'frame')}"),
        ("time", f"{found['seconds']:.2f} s in the client{speed}"),
    ]
    if found["worst_error"] is not None:
        lines.append(("compared", "every frame agrees with the batch model"))
    console.facts([*lines, *(("note", n) for n in found["notes"])])

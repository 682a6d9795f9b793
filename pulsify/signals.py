"""Recordings in files: arrays (.npy, .npz) and audio (.wav), read into what a model takes and written from what it gives.

PCM audio in .wav needs nothing; other encodings and containers (float .wav, .flac, .ogg) go through ``soundfile``, the
extra ``audio``.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pulsify.errors import UsageError

__all__ = ["AUDIO", "Recording", "Slot", "array", "encode", "fit", "read"]

#: Suffixes that hold audio; all but .wav need the extra.
AUDIO = (".wav", ".flac", ".ogg", ".aiff", ".aif")
_KINDS = ".npy, .npz, .wav"


class Slot(Protocol):
    """What is known of a model's input: ``shape`` holds ints or names, ``axis`` is time (None: a static input)."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any] | None: ...
    @property
    def shape(self) -> tuple[Any, ...]: ...
    @property
    def axis(self) -> int | None: ...


@dataclass
class Recording:
    """What a file holds: arrays by name ('' where the file gives none), or audio.

    ``audio`` is [frames, channels], int16 or float32 in [-1, 1]; ``rate`` its frames per second.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    audio: np.ndarray | None = None
    rate: int | None = None


def read(path: str | Path) -> Recording:
    """The recording in a file, by its suffix. UsageError where it cannot be read; arrays of objects are not."""
    where = Path(path)
    kind = where.suffix.lower()
    if kind not in (".npy", ".npz", *AUDIO):
        raise UsageError(f"cannot read {str(where)!r}", why=f"a recording is one of {_KINDS}", hint=f"save it as one of {_KINDS}")
    try:
        if kind in AUDIO:
            audio, rate = _read_audio(where)
            return Recording(where, {}, audio, rate)
        loaded = np.load(where, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except UsageError:
        raise
    except OSError as e:
        raise UsageError(f"cannot read {str(where)!r}", why=e.strerror or str(e), hint="check the path") from e
    except Exception as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise UsageError(f"cannot read {str(where)!r}", why=f"it is not a complete {kind} file: {reason}") from e
    return Recording(where, arrays)


def array(path: str | Path) -> np.ndarray:
    """The one array of an .npy file."""
    (found,) = read(path).arrays.values()
    return found


def _read_audio(path: Path) -> tuple[np.ndarray, int]:
    """Audio as [frames, channels] and its rate: int16 where that is what the file holds, else float32."""
    data = path.read_bytes()
    if path.suffix.lower() == ".wav":
        try:
            with wave.open(io.BytesIO(data)) as f:
                return _pcm(f.readframes(f.getnframes()), f.getsampwidth(), f.getnchannels()), f.getframerate()
        except EOFError as e:
            raise wave.Error("it ends early") from e
        except wave.Error as e:
            if "unknown" not in str(e):
                raise
    audio, rate = _soundfile(path).read(io.BytesIO(data), dtype="float32", always_2d=True)
    return np.asarray(audio), int(rate)


def _pcm(data: bytes, width: int, channels: int) -> np.ndarray:
    """Little-endian samples of ``width`` bytes (one byte is unsigned), as int16 or as float32 in [-1, 1)."""
    samples: np.ndarray
    if width == 2:
        samples = np.frombuffer(data, "<i2").astype(np.int16)
    elif width == 1:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    else:
        samples = (np.frombuffer(data, "<i4") / 2.0**31).astype(np.float32)
    return samples.reshape(-1, channels)


def _soundfile(path: Path) -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as e:
        raise UsageError(
            f"{str(path)!r} needs the extra 'audio'",
            why="without it, integer PCM in .wav is all the audio there is",
            hint="pip install 'pulsify[audio]', or convert the file to 16-bit PCM .wav",
        ) from e
    return soundfile


def fit(recording: Recording, slots: Sequence[Slot], channel: str | None = None, gain: float = 1.0) -> dict[str, np.ndarray]:
    """The arrays a model is fed, by input name: types widened where nothing is lost in meaning, missing leading axes of
    length one added, audio channels put where the model has them.

    Static inputs (``axis`` None) are taken where the file names them. ``channel`` is a number or ``"mix"``; ``gain``
    multiplies audio. UsageError names what does not fit, with both shapes.
    """
    streams = [s for s in slots if s.axis is not None]
    if recording.audio is not None:
        if len(streams) != 1:
            raise UsageError(
                f"{recording.path.name} holds one signal",
                why=f"the model streams {len(streams)}: {', '.join(s.name for s in streams)}",
                hint="an .npz with one array per input",
            )
        return {streams[0].name: _fit_audio(recording, streams[0], channel, gain)}
    if channel is not None or gain != 1.0:
        option = "--channel" if channel is not None else "--gain"
        raise UsageError(f"{option} is for audio", why=f"{recording.path.name} holds arrays", hint=f"leave {option} out")
    arrays = dict(recording.arrays)
    if len(streams) == 1 and len(arrays) == 1 and next(iter(arrays)) not in {s.name for s in slots}:
        arrays = {streams[0].name: next(iter(arrays.values()))}
    known = {s.name: s for s in slots}
    missing = [s.name for s in streams if s.name not in arrays]
    extra = [n or "one without a name" for n in arrays if n not in known]
    if missing or extra:
        raise UsageError(
            f"{recording.path.name} does not hold the model's inputs",
            why=f"the model streams {', '.join(s.name for s in streams)}; the file holds "
            + (", ".join(n or "one array without a name" for n in arrays) or "nothing"),
            hint="numpy.savez(file, name=array, ...) with the inputs' names",
        )
    return {n: _fit_array(recording.path.name, n, a, known[n]) for n, a in arrays.items()}


def _fit_array(file: str, name: str, array: np.ndarray, slot: Slot) -> np.ndarray:
    array = np.asarray(array)
    want = slot.dtype
    if want is not None and array.dtype != want:
        same = array.dtype.kind == want.kind and want.kind == "f"
        if not same and not np.can_cast(array.dtype, want, "safe"):
            raise _misfit(file, array, slot, f"array.astype(numpy.{want})")
        if not same and want.kind == "f" and array.dtype.kind in "iu" and slot.axis is not None:
            raise _misfit(file, array, slot, f"array.astype(numpy.{want}), scaled as the model was trained")
        array = array.astype(want)
    shape = _led(array.shape, slot)
    if shape is None:
        turned = array.ndim == 2 and _led(array.shape[::-1], slot) is not None
        raise _misfit(file, array, slot, "array.T: its axes are the other way round" if turned else "an array of that shape")
    return array.reshape(shape)


def _led(shape: tuple[int, ...], slot: Slot) -> tuple[int, ...] | None:
    """A shape with the leading axes of length one that the input has besides; None where it does not fit."""
    lead = len(slot.shape) - len(shape)
    full = (1,) * lead + shape
    if lead < 0 or (slot.axis is not None and slot.axis < lead):
        return None
    fits = (a == slot.axis or not isinstance(d, int) or d == n for a, (d, n) in enumerate(zip(slot.shape, full, strict=True)))
    return full if all(fits) else None


def _misfit(file: str, array: np.ndarray, slot: Slot, hint: str) -> UsageError:
    time = f", time on axis {slot.axis}" if slot.axis is not None else ""
    return UsageError(
        f"{file} does not fit the input {slot.name!r}",
        why=f"it is {array.dtype} {list(array.shape)}, the model takes {slot.dtype} {_shape(slot)}{time}",
        hint=hint,
    )


def _shape(slot: Slot) -> str:
    return f"[{', '.join('time' if a == slot.axis else str(d) for a, d in enumerate(slot.shape))}]"


def _fit_audio(recording: Recording, slot: Slot, channel: str | None, gain: float) -> np.ndarray:
    audio = recording.audio
    assert audio is not None and slot.axis is not None
    name, want = recording.path.name, slot.dtype
    if want is not None and want.kind == "f":
        scaled = audio.astype(np.float32) / np.float32(32768) if audio.dtype == np.int16 else audio
        samples = (scaled if gain == 1.0 else scaled * np.float32(gain)).astype(want)
    elif want == np.int16 and gain == 1.0:
        samples = audio if audio.dtype == np.int16 else _to_int16(audio)[0]
    else:
        raise UsageError(
            f"{name} does not fit the input {slot.name!r}",
            why=f"audio is taken as floating point or, without --gain, as int16; the model takes {want}",
            hint="an .npy of the model's own type",
        )
    samples = _choose(samples, channel, name)
    channels = samples.shape[1]
    others = [a for a in range(len(slot.shape)) if a != slot.axis]
    # The axis for the channels: the one declared that long, else the batch (each channel a stream of its own).
    named = [a for a in others if not isinstance(slot.shape[a], int)]
    exact = [a for a in others if slot.shape[a] == channels and channels > 1]
    place = [*reversed(exact), *(named if channels > 1 else [])]
    rest = [a for a in others if slot.shape[a] != 1 and a not in place[:1] and a not in named]
    if rest or (channels > 1 and not place):
        one = channels > 1 and not rest and all(slot.shape[a] == 1 or a in named for a in others)
        raise UsageError(
            f"{name} does not fit the input {slot.name!r}",
            why=f"it has {channels} channel{'' if channels == 1 else 's'}, the model takes {_shape(slot)}",
            hint="--channel 0, or --channel mix for their mean" if one else "the features the model was trained on, as .npy",
        )
    shape = [1] * len(slot.shape)
    shape[slot.axis] = samples.shape[0]
    if channels > 1:
        shape[place[0]] = channels
        if place[0] < slot.axis:
            samples = samples.T
    return np.ascontiguousarray(samples).reshape(shape)


def _choose(samples: np.ndarray, channel: str | None, name: str) -> np.ndarray:
    if channel is None:
        return samples
    if channel == "mix":
        return np.asarray(samples.mean(axis=1, keepdims=True)).astype(samples.dtype)
    if not channel.isdecimal() or int(channel) >= samples.shape[1]:
        raise UsageError(
            f"--channel {channel}", why=f"{name} has {samples.shape[1]} channels, counted from 0", hint="--channel 0, or --channel mix"
        )
    return samples[:, [int(channel)]]


def encode(
    suffix: str, outputs: Mapping[str, np.ndarray], axes: Mapping[str, int | None], rate: int | None = None,
    floating: bool = False, gain: float = 1.0,
) -> tuple[bytes, int]:  # fmt: skip
    """Outputs as the bytes of a file, and how many samples had to be clipped.

    ``.npz`` holds all; ``.npy`` and ``.wav`` one. ``axes`` are the time axes, ``rate`` the frames per second of a .wav;
    ``gain`` was applied to the input and is taken back. ``floating`` keeps 32-bit floats, with the extra ``audio``.
    """
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **outputs)  # type: ignore[arg-type]
        return buffer.getvalue(), 0
    if suffix not in (".npy", ".wav"):
        raise UsageError(f"cannot write {suffix or 'a file without a suffix'}", why=f"outputs are written as {_KINDS}", hint=f"-o a file named {_KINDS}")
    # What is not a stream (a length, a running summary) goes along in an .npz only.
    streams = [n for n in outputs if axes.get(n) is not None] or list(outputs)
    if len(streams) != 1:
        raise UsageError(
            f"a {suffix} file holds one output",
            why=f"there are {len(streams)}: {', '.join(streams)}",
            hint="-o a .npz, or --outputs to keep one",
        )
    (name,) = streams
    array, axis = outputs[name], axes.get(name)
    if suffix == ".npy":
        np.save(buffer, array)
        return buffer.getvalue(), 0
    return _encode_wav(name, array, axis, rate, floating, gain)


def _encode_wav(name: str, array: np.ndarray, axis: int | None, rate: int | None, floating: bool, gain: float) -> tuple[bytes, int]:
    wide = [a for a in range(array.ndim) if a != axis and array.shape[a] != 1]
    if axis is None or len(wide) > 1 or prod(array.shape[a] for a in wide) > 32 or array.dtype.kind not in "fi":
        raise UsageError(
            f"the output {name!r} is not audio",
            why=f"it is {array.dtype} {list(array.shape)}" + (f" with time on axis {axis}" if axis is not None else ", without a time axis"),
            hint="-o a .npy or .npz",
        )
    if rate is None:
        raise UsageError("how many frames a second?", why="a .wav file says so, and nothing here does", hint="--rate HZ")
    samples = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    if samples.dtype.kind == "f" and gain != 1.0:
        samples = samples / gain
    buffer = io.BytesIO()
    if floating:
        _soundfile(Path(f"{name}.wav")).write(buffer, samples.astype(np.float32), rate, format="WAV", subtype="FLOAT")
        return buffer.getvalue(), 0
    data, clipped = (samples, 0) if samples.dtype == np.int16 else _to_int16(samples)
    with wave.open(buffer, "wb") as f:
        f.setnchannels(samples.shape[1])
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(data.astype("<i2").tobytes())
    return buffer.getvalue(), clipped


def _to_int16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Floating point in [-1, 1) as int16, and how many samples lay outside (NaN included, as silence)."""
    scaled = np.round(np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=2.0, neginf=-2.0) * 32768)
    outside = (scaled > 32767) | (scaled < -32768) | np.isnan(samples)
    return np.clip(scaled, -32768, 32767).astype(np.int16), int(outside.sum())

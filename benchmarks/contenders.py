"""The ways to run a model frame by frame that are compared: each has ``step``, a call that does one pulse (or ``frames``)."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from models.peer import pulsed
from pulsify.api import Conversion
from pulsify.runtime import StreamSession, open_session
from pulsify.stages.verify import batch_session, make_inputs

__all__ = ["Batch", "Bound", "Client", "Tract", "window"]


#: Bytes per element of tract's types.
_BYTES = {"F16": 2, "F32": 4, "F64": 8, "I8": 1, "U8": 1, "Bool": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "TDim": 8}


def _pulse_inputs(done: Conversion) -> dict[str, np.ndarray]:
    """One pulse of random numbers for every input of the batch model."""
    return make_inputs(done.batch, int(done.manifest["pulse"]), np.random.default_rng(0))


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(array.shape)


def _free_of_rank(model: onnx.ModelProto, names: set[str]) -> bytes:
    """The model with no shape declared for those outputs: one of another rank than declared cannot be bound, and a
    Squeeze without axes gives another rank to a batch of one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for o in copy.graph.output:
        if o.name in names:
            o.type.tensor_type.ClearField("shape")
    data: bytes = copy.SerializeToString()
    return data


class Bound:
    """The emitted model, all its inputs and outputs bound once: a state that the manifest lets be bound in place has one
    buffer, every other a pair that takes turns. Called without the layer of Python around onnxruntime's C interface, as
    :class:`Tract` is without its own."""

    #: Pulses compared with states fed back by hand before any is timed.
    CHECKED = 5

    def __init__(self, model: onnx.ModelProto, done: Conversion):
        m = done.manifest
        self._session = open_session(_free_of_rank(model, {o["name"] for o in m["outputs"] if o["axis"] is None}))
        feeds = _pulse_inputs(done)
        shapes = {i.name: i.shape for i in self._session.get_inputs()}
        if m["valid"] is not None:
            rows = [d if isinstance(d, int) else 1 for d in shapes[m["valid"]["input"]]]
            feeds[m["valid"]["input"]] = np.full(rows, m["pulse"], np.int64)
        for s in m["states"]:
            feeds[s["input"]] = np.zeros([d if isinstance(d, int) else 1 for d in s["shape"]], s["dtype"])
        self._states = {s["output"] for s in m["states"]}
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._results = {n: ort.OrtValue.ortvalue_from_numpy(a) for n, a in zip(self._outputs, self._session.run(None, feeds))}
        self._bindings = self._bind(feeds, m["states"])
        # Straight into the binding's C++ objects: private names of onnxruntime's, for a benchmark alone.
        self._run, self._options = self._session._sess.run_with_iobinding, ort.RunOptions()
        self._turns = tuple(b._iobinding for b in self._bindings)
        self._check(feeds, m["states"])

    def step(self) -> None:
        """One pulse."""
        now, after = self._turns
        self._run(now, self._options)
        self._turns = after, now

    def outputs(self) -> dict[str, np.ndarray]:
        """What the last pulse gave, without the states."""
        return {n: v.numpy() for n, v in self._results.items() if n not in self._states}

    def _bind(self, feeds: Mapping[str, np.ndarray], states: list[dict[str, Any]]) -> tuple[ort.IOBinding, ort.IOBinding]:
        """Two bindings: the states that one writes, the other reads."""
        inputs = {n: ort.OrtValue.ortvalue_from_numpy(_contiguous(a)) for n, a in feeds.items()}
        outputs = dict(self._results)
        made = []
        for turn in range(2):
            binding = self._session.io_binding()
            for s in states:
                if s.get("in_place"):
                    outputs[s["output"]] = inputs[s["input"]]
                elif turn:
                    inputs[s["input"]], outputs[s["output"]] = outputs[s["output"]], inputs[s["input"]]
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in outputs.items():
                binding.bind_ortvalue_output(name, value)
            made.append(binding)
        return made[0], made[1]

    def _check(self, feeds: dict[str, np.ndarray], states: list[dict[str, Any]]) -> None:
        """What is timed is right: pulses give what they give when states are fed back by hand. AssertionError."""
        feeds = dict(feeds)
        for _ in range(self.CHECKED):
            want = dict(zip(self._outputs, self._session.run(None, feeds)))
            self.step()
            for s in states:
                feeds[s["input"]] = want[s["output"]]
        for name, got in self.outputs().items():
            np.testing.assert_array_equal(got, want[name])


class Client:
    """Our client, fed a pulse at a time."""

    def __init__(self, model: bytes, done: Conversion):
        inputs = _pulse_inputs(done)
        streams = {i["name"] for i in done.manifest["inputs"] if i["axis"] is not None}
        self._session = StreamSession(model, static={n: a for n, a in inputs.items() if n not in streams})
        self._chunk = {n: _contiguous(a) for n, a in inputs.items() if n in streams}

    def step(self) -> None:
        """One pulse."""
        self._session.feed(self._chunk)


class Batch:
    """The batch model on a stretch of ``frames`` frames of the stream, bound once."""

    def __init__(self, session: ort.InferenceSession, done: Conversion, frames: int):
        self.frames = frames
        self._session = session
        inputs = make_inputs(done.batch, frames, np.random.default_rng(0))
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(_contiguous(array)))
        for name, array in zip([o.name for o in session.get_outputs()], session.run(None, inputs)):
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(_contiguous(array)))
        self._binding = binding

    @staticmethod
    def open(done: Conversion) -> ort.InferenceSession:
        """The batch model in onnxruntime, one thread."""
        return batch_session(done.source, done.batch)

    def step(self) -> None:
        """One run."""
        self._session.run_with_iobinding(self._binding)


def window(manifest: Mapping[str, Any], frames: int) -> int | None:
    """The least legal stretch of a stream, no shorter than ``frames``, whose last pulse sees all that it depends on.

    None where an output depends on the whole past.
    """
    reach = [o["receptive_field"] for o in manifest["outputs"] if o["axis"] is not None or o.get("settle") is not None]
    if not reach or None in reach:
        return None
    stream = manifest["stream"]
    conditions = stream["conditions"] or ()
    first = max(frames + max(reach) - 1, stream["least"])
    period = math.lcm(1, *(c["modulus"] for c in conditions))
    fits = (s for s in range(first, first + period) if all(s % c["modulus"] == c["remainder"] for c in conditions))
    found, most = next(fits, None), stream.get("most")
    return None if found is None or (most is not None and found > most) else found


class Tract:
    """tract on the same batch model: optimised as ``into_runnable`` does, its input made once, called without the layer of
    Python around its C interface. ``buffer_bytes`` is what it reports as the size of its delays; ``nodes`` counts those
    that compute.

    Raises ``tract.TractError`` where it refuses the model or fails on it.
    """

    def __init__(self, request: Mapping[str, Any], done: Conversion):
        from tract import Tensor
        from tract.bindings import check, lib

        model, names, _ = pulsed(dict(request))
        runnable = model.into_runnable()
        profile = json.loads(runnable.profile_json(None))["nodes"]
        self.nodes = sum(n["op_name"] not in ("Const", "Source") for n in profile)
        self.buffer_bytes = sum(
            int(count) * _BYTES[kind.removeprefix("Buffer(").removesuffix(")")]
            for n in profile
            for kind, count in (n.get("cost") or {}).items()
            if kind.startswith("Buffer(")
        )
        inputs = _pulse_inputs(done)
        self._state = runnable.spawn_state()
        self._tensors = [Tensor.from_numpy(_contiguous(inputs[n])) for n in names]
        self._state.run(self._tensors)  # raises where it fails
        self._inputs = (ctypes.c_void_p * len(names))(*(t.ptr.value for t in self._tensors))
        count = self._state.output_count()
        outputs = (ctypes.c_void_p * count)()
        places = [ctypes.c_void_p.from_buffer(outputs, i * ctypes.sizeof(ctypes.c_void_p)) for i in range(count)]
        refs = [ctypes.byref(p) for p in places]
        ptr, run, drop, inputs_ = self._state.ptr, lib.tract_state_run, lib.tract_tensor_destroy, self._inputs

        def step() -> None:
            if run(ptr, inputs_, outputs):
                check(1)
            for ref in refs:
                drop(ref)

        self.step = step


"""Recordings streamed through a client in any way hypothesis thinks of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import strategies as st

from pulsify import StreamBatch, StreamSession
from pulsify.api import Conversion
from tests.contract_check import _compare, check

__all__ = ["Recording", "chunked", "drive", "on_frames"]


@dataclass
class Recording:
    """Whole inputs (batch of 1), static inputs of its own, how much of it was fed, and what came back."""

    inputs: dict[str, np.ndarray]
    length: int
    static: dict[str, np.ndarray] = field(default_factory=dict)
    at: int = 0
    parts: list[dict[str, np.ndarray]] = field(default_factory=list)

    def chunk(self, c: Conversion, n: int) -> dict[str, np.ndarray]:
        """The next ``n`` frames of the stream symbol."""
        out = {}
        for i in c.manifest["inputs"]:
            if i["axis"] is not None:
                ratio = self.inputs[i["name"]].shape[i["axis"]] // self.length
                out[i["name"]] = np.take(self.inputs[i["name"]], range(self.at * ratio, (self.at + n) * ratio), axis=i["axis"])
        self.at += n
        return out

    def check(self, c: Conversion, session: ort.InferenceSession) -> None:
        """What came back is the batch model's output."""
        want = dict(zip([o.name for o in session.get_outputs()], session.run(None, self.inputs), strict=True))
        got = {}
        for o in c.manifest["outputs"]:
            rows = [p[o["name"]] for p in self.parts if o["name"] in p]
            got[o["name"]] = rows[-1] if o["axis"] is None else np.concatenate(rows, axis=o["axis"])
        _compare(c, want, got, self.length, "of a client")


def chunked(data: st.DataObject, client: StreamSession, c: Conversion, recording: Recording) -> Recording:
    """One recording through a session, which is saved and loaded on the way."""
    client.reset()
    while recording.at < recording.length:
        n = min(recording.length - recording.at, data.draw(st.integers(0, 13), "frames"))
        recording.parts.append(client.feed(recording.chunk(c, n)))
        if data.draw(st.integers(0, 4), "save") == 0:
            saved = client.save()
            client.reset()
            client.load(saved)
            assert client.save() == saved
    recording.parts.append(client.finish())
    return recording


def drive(data: st.DataObject, client: StreamBatch, c: Conversion, waiting: list[Recording]) -> list[Recording]:
    """Recordings join, are fed, pause, move, are cut off and end in any order. Returns those that ended.

    A row that is not fed does not change in a single bit.
    """
    live: dict[int, Recording] = {}
    done = []
    while waiting or live:
        if waiting and (not live or data.draw(st.booleans(), "join")):
            recording = waiting.pop()
            live[client.add(static=recording.static)] = recording
        if data.draw(st.integers(0, 9), "leave") == 0:
            row = data.draw(st.sampled_from(sorted(live)), "gone")
            client.remove(row)
            del live[row]
        if live and data.draw(st.integers(0, 4), "move") == 0:
            row = data.draw(st.sampled_from(sorted(live)), "moves")
            saved = client.save(row)
            client.remove(row)
            live[client.add(state=saved)] = live.pop(row)
        fed = {r: min(x.length - x.at, data.draw(st.integers(0, 13), "frames")) for r, x in live.items() if data.draw(st.booleans(), "fed")}
        idle = {r: client.save(r) for r in live if r not in fed}
        ends = [r for r, n in fed.items() if live[r].at + n == live[r].length]
        out = client.feed({r: live[r].chunk(c, n) for r, n in fed.items() if n or r not in ends}, ends)
        assert set(out) == set(fed)
        for r, frames in out.items():
            live[r].parts.append(frames)
        assert {r: client.save(r) for r in idle} == idle
        assert not any(r in client for r in ends)
        done += [live.pop(r) for r in ends]
    assert len(client) == 0
    return done


def on_frames(model: onnx.ModelProto, pulse: int, **inputs: np.ndarray) -> None:
    """The model streams these frames, which are not what :func:`check` makes up."""
    stream = StreamSession(check(model, pulses=(pulse,)).model.SerializeToString())
    got = [stream.feed(inputs), stream.finish()]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for o in stream.manifest["outputs"]:
        (expected,) = session.run([o["name"]], inputs)
        joined = np.concatenate([part[o["name"]] for part in got], axis=o["axis"])
        assert np.abs(joined - expected).max() <= 1e-5 * np.abs(expected).max()

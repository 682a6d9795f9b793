"""The models of models/real.py: converted, verified, or refused as the table has it; every wire's law as onnxruntime's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from models.real import CASES, Case, available, path_of
from pulsify import Refusal, convert
from pulsify.adapt import adapt
from pulsify.errors import PulsifyError
from pulsify.explain import explain
from pulsify.rewrites import causal_convs
from pulsify.runtime import open_session
from pulsify.source import Source, read
from pulsify.stages.load import AxisSpec, load
from pulsify.stages.type import infer_types
from pulsify.stages.verify import batch_session, make_inputs, run_stream
from tests.test_type_oracle import compare

pytestmark = pytest.mark.real

#: Seconds a conversion may take.
LIMIT = 2.0

#: Lengths tried, in pulses; each with frames left over.
LENGTHS = (1, 2, 3, 4, 5, 7, 9, 16, 40)

streaming = pytest.mark.parametrize("case", [c for c in CASES if c.streams], ids=lambda c: c.id)
refused = pytest.mark.parametrize("case", [c for c in CASES if c.said and not c.steps], ids=lambda c: c.id)
steps = pytest.mark.parametrize("case", [c for c in CASES if c.steps], ids=lambda c: c.id)


def model(case: Case) -> Path:
    why = available(case)
    if why:
        pytest.skip(why)
    return path_of(case)


@streaming
def test_streams(case: Case) -> None:
    path = model(case)
    done = convert(path, axis=case.along, pulse=case.by, changes=case.changes)
    delays = [o["delay"] for o in done.manifest["outputs"] if o["axis"] is not None]
    got = (max(delays, default=None), len(done.manifest["states"]), done.manifest["state_bytes"])
    assert got == (case.delay, case.states, case.bytes)
    assert done.verify().worst <= 1e-5
    again = [done.seconds] + [convert(path, axis=case.along, pulse=case.by, changes=case.changes).seconds for _ in range(2)]
    assert statistics.median(again) < LIMIT, again


@pytest.mark.parametrize("case", [c for c in CASES if c.name == "pulsevad" or (c.name == "fsmn_vad" and c.carry)], ids=lambda c: c.id)
def test_streams_by_operators_of_a_runtime(case: Case) -> None:
    """Depthwise convolutions over time: of signals, and of pictures one pixel wide with a state that the author exposed."""
    with mock.patch.object(causal_convs, "_pays", lambda g, node, conv: True):
        done = convert(model(case), axis=case.along, pulse=case.by, changes=case.changes, target="onnxruntime")
    assert sum(n.op_type == "CausalConvWithState" for n in done.model.graph.node) >= 3
    assert done.manifest["state_bytes"] == case.bytes and done.verify().worst <= 1e-5


@pytest.mark.parametrize("case", [c for c in CASES if c.name == "nsnet2_48k"], ids=lambda c: c.id)
def test_streams_by_blocked_convolutions(case: Case) -> None:
    """Recurrences and products of megabytes: at two frames both, at four the products."""
    for frames, left in ((1, 0), (2, 0), (4, 2)):
        done = convert(model(case), axis=case.along, pulse=frames, target="onnxruntime-native")
        assert sum(n.op_type == "GRU" for n in done.model.graph.node) == left
        assert sum(n.op_type == "Conv" for n in done.model.graph.node) >= 3
        assert done.manifest["state_bytes"] == case.bytes and done.verify().worst <= 1e-5


@streaming
def test_streams_at_any_pulse(case: Case) -> None:
    done = convert(model(case), axis=case.along, changes=case.changes)
    assert case.by % done.manifest["pulse_multiple"] == 0
    assert done.verify().worst <= 1e-5


#: Loudness over time, from the first frame (0) to the last (1).
LOUDNESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "noise": np.ones_like, "quiet": lambda t: 0.01 + 0 * t, "silence": np.zeros_like, "rising": lambda t: np.exp(5 * t - 4),
}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if c.streams and c.delay is None], ids=lambda c: c.id)
def test_summaries_tell_inputs_apart(case: Case) -> None:
    """Scores saturate on plain noise, and two saturated scores agree whatever was heard: inputs that move them, too."""
    c = convert(model(case), axis=case.along, pulse=case.by, changes=case.changes)
    batch, session = batch_session(c.source, c.batch), open_session(c.model.SerializeToString())
    rng = np.random.default_rng(0)
    least = max(1, c.manifest["stream"]["least"]) + 20 * case.by
    length = next(s for s in range(least, 2 * least + c.batch.assume.modulus) if c.batch.assume.allows(s))
    scores = []
    for loudness in LOUDNESS.values():
        inputs = make_inputs(c.batch, length, rng)
        for v in c.batch.graph.inputs:
            array = inputs[v.name]
            for axis in c.batch.time_axes(v) if array.dtype.kind == "f" else ():
                shape = [-1 if a == axis else 1 for a in range(array.ndim)]
                inputs[v.name] = (array * loudness(np.linspace(0, 1, array.shape[axis])).reshape(shape)).astype(array.dtype)
        want = dict(zip([o.name for o in batch.get_outputs()], batch.run(None, inputs), strict=True))
        got = run_stream(session, c.manifest, inputs, rng)
        for name, array in want.items():
            assert np.abs(got[name] - array).max() <= 1e-5 * max(1e-3, np.abs(array).max()), name
        scores.append(np.concatenate([a.reshape(-1) for a in want.values()]))
    spread = np.ptp(np.stack(scores), axis=0)
    assert spread.max() > 0.05, "these inputs say nothing"


@refused
def test_is_refused_by_name(case: Case) -> None:
    start = time.perf_counter()
    with pytest.raises(Refusal) as e:
        convert(model(case), axis=case.along, pulse=case.by, changes=case.changes)
    assert case.said in str(e.value)
    assert "node '" in e.value.what
    assert time.perf_counter() - start < 3 * LIMIT


@steps
def test_already_steps(case: Case) -> None:
    found = explain(_source(case))
    assert any(case.said in note for note in found.notes), found.notes


def _source(case: Case) -> Source:
    return adapt(read(model(case)), case.changes, AxisSpec.parse(case.along))


def _typed(case: Case) -> Source | None:
    source = _source(case)
    try:
        g = infer_types(load(source, AxisSpec.parse(case.along)))
    except PulsifyError:
        return None
    return None if any(n.domain == "pulsify" for n in g.graph) else source


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_every_wire(case: Case) -> None:
    """Every dimension and known value of every wire, at seven or more lengths that the model runs at."""
    source = _typed(case)
    if source is None:
        pytest.skip("not every wire has a law, or onnxruntime does not know the operator that stands for several")
    allows = infer_types(load(source, AxisSpec.parse(case.along))).assume.allows
    unit = max(case.by, 4)
    fit = [s for k in LENGTHS for s in range(k * unit + k % 3, (k + 2) * unit) if allows(s)][:: max(1, unit // 2)]
    far = [s for s in range(10, 200) if allows(s * unit)]
    lengths = sorted({*fit[:4], *fit[-4:], *(s * unit for s in far[:: max(1, len(far) // 8)])})[:14]
    assert len(lengths) >= 7, lengths
    assert compare(source, case.along, lengths, batch=1, least=7) > 0


@pytest.mark.parametrize("name", sorted({c.name for c in CASES}))
def test_explain_is_quick(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    source = read(model(case))
    start = time.perf_counter()
    found = explain(source)
    assert found.candidates and time.perf_counter() - start < LIMIT

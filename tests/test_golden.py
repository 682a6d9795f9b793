"""The reference WaveNet at every stage, as text (``--update-golden`` rewrites it) and in exact numbers."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

from models import wavenet
from pulsify.dump import dump
from pulsify.graph import Graph, Pulse
from pulsify.pipeline import STAGES, Options, run
from pulsify.stages.load import AxisSpec
from tests.contract_check import check

GOLDEN = Path(__file__).parent / "golden"


@lru_cache(maxsize=1)
def dumps() -> dict[str, str]:
    out: dict[str, str] = {}

    def look(g: Graph) -> None:
        out[g.stage] = dump(g)

    run(wavenet.build(), Options(AxisSpec.parse(["S"]), Pulse(4)), observe=look)
    return out


@lru_cache(maxsize=8)
def at(stage: str, pulse: int = 4) -> Graph:
    return run(wavenet.build(), Options(AxisSpec.parse(["S"]), Pulse(pulse)), until=stage)


@pytest.mark.parametrize("stage", [s.name for s in STAGES])
def test_dump(stage: str, update_golden: bool) -> None:
    path = GOLDEN / f"wavenet.{stage}.txt"
    text = dumps()[stage]
    if update_golden:
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; look at the difference, then run with --update-golden"


def test_no_golden_file_is_left_over() -> None:
    assert {p.name for p in GOLDEN.glob("wavenet.*.txt")} == {f"wavenet.{s.name}.txt" for s in STAGES}


def test_pulse_v2_in_numbers() -> None:
    g = at("pulse-v2")
    ops = Counter(n.op_type for n in g.graph)
    timed = [n for n in g.graph if n.op_type == "Conv" and n.inputs[1] is not None and n.inputs[1].shape[2] > 1]
    assert ops["PulseV2Buffer"] == 49
    assert len(timed) == 49
    assert ops["PulseV2Slice"] == 46


def test_pulse_v2_declutter_in_numbers() -> None:
    g = at("pulse-v2-declutter")
    ops = Counter(n.op_type for n in g.graph)
    assert ops["Delay"] == 25
    assert not {"Slice", "PulseV2Slice", "PulseV2Buffer", "PulseV2Pad", "Mask"} & set(ops)
    source = Counter(n.op_type for n in at("declutter").graph)
    del source["Slice"]
    assert ops == source + Counter(Delay=25)
    elements = 0
    for slot in g.slots:
        size = 1
        for d in slot.state.shape:
            assert isinstance(d, int)
            size *= d
        elements += size
    assert elements == 2920


@pytest.mark.parametrize("pulse", [1, 4, 8, 16, 64])
def test_every_frame_equals_batch(pulse: int) -> None:
    c = check(wavenet.build(), "S", [pulse], lengths=(183, 184, 200, 311))
    (out,) = c.manifest["outputs"]
    assert (out["axis"], out["delay"], out["length"], out["receptive_field"]) == (0, 182, "S - 182", 183)
    assert c.manifest["valid"] is None and c.manifest["state_bytes"] == 4 * 2920

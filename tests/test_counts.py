"""What a model becomes, in counts that do not depend on the machine: nodes, states, their bytes, masks, operators.

One line per model and level of optimization in tests/golden/counts.txt; ``--update-golden`` rewrites it, and its difference
is reviewed like code: a number that grows is a slower or a larger stream.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from benchmarks.cases import OWN
from pulsify import Refusal, contract
from pulsify.api import parse_pulse
from pulsify.graph import Graph
from pulsify.pipeline import LEVELS, Level, Options, run
from pulsify.stages.load import AxisSpec
from tests.test_exported import FILES, case_of

GOLDEN = Path(__file__).parent / "golden" / "counts.txt"

PULSE = 4


def counts(model: onnx.ModelProto | str, axis: str, pulse: int | str, level: Level) -> str:
    """Of the emitted graph, and the masks as they are before emit spells them in standard operators."""
    masks = 0

    def look(g: Graph) -> None:
        nonlocal masks
        if g.stage == "optimize":
            masks = sum(n.op_type == "Mask" for n in g.graph)

    g = run(model, Options(AxisSpec.parse([axis]), parse_pulse(pulse), level), observe=look)
    m = json.loads(g.model.metadata_props[contract.KEY])
    ops = Counter(n.op_type for n in g.graph)
    spelled = ", ".join(f"{n} {op}" for op, n in sorted(ops.items()))
    return f"nodes={sum(ops.values())} states={len(m['states'])} bytes={m['state_bytes']} masks={masks}: {spelled}"


def lines() -> Iterator[str]:
    """The models of the benchmarks, then what exporters write."""
    for entry in OWN:
        model = entry.batch()
        for level in LEVELS:
            yield f"{entry.name} pulse={PULSE} {level}: {counts(model, 'S', PULSE, level)}"
    for name in FILES:
        path, axis, case = case_of(name)
        # What the exporter folded or not leaves little to see at other levels.
        levels: tuple[Level, ...] = ("speed",) if "-raw" in name else ("speed", "size")
        for level in levels:
            try:
                yield f"{name} pulse={case.pulses[0]} {level}: {counts(path, axis, case.pulses[0], level)}"
            except Refusal:
                yield f"{name}: refused"
                break


def test_golden_counts(update_golden: bool) -> None:
    text = "\n".join(lines()) + "\n"
    if update_golden:
        GOLDEN.write_text(text)
    golden = GOLDEN.read_text()
    assert text.splitlines() == golden.splitlines(), "look at the difference, then run with --update-golden (make golden)"


def test_what_is_counted() -> None:
    """The counts tell a model that needs a mask from one that does not, and see a state more."""
    found = dict(line.split(": ", 1) for line in GOLDEN.read_text().splitlines())
    assert " masks=0:" in found["wavenet pulse=4 none"] and "states=25 bytes=11680" in found["wavenet pulse=4 none"]
    assert " masks=0:" not in found["hifigan pulse=4 none"]
    assert "states=30 bytes=95232" in found["chain-64 pulse=4 none"] and "states=1 bytes=95232" in found["chain-64 pulse=4 size"]

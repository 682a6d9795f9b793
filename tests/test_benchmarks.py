"""The harness measures what it says, and its models are exact."""

from __future__ import annotations

import time

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.cases import OWN, entries
from benchmarks.contenders import Bound, window
from benchmarks.pulses import main, rows_of
from benchmarks.tables import brief, full, lines, summary
from benchmarks.targets import native_rows
from benchmarks.targets import rows as targets
from benchmarks.timing import take_turns
from pulsify.api import convert
from pulsify.runtime import open_session
from pulsify.stages.verify import make_inputs


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_ratios_are_of_cpu_time_within_a_round() -> None:
    samples = take_turns({"a": lambda: _busy(2e-4), "b": lambda: _busy(1e-4), "c": lambda: time.sleep(2e-3)}, 0.1, frozenset({"c"}))
    assert samples.ratio("a", "b") == pytest.approx(2, rel=0.3)
    assert samples.least("a") <= samples.median("a")
    assert samples.median("c") < 1e-3, "waiting is not work"
    assert sum(t is not None for t in samples.rounds["c"]) < sum(t is not None for t in samples.rounds["a"])


@pytest.mark.parametrize("name", ["chain-64", "crn", "crn-ahead", "hifigan"])
def test_models_of_the_harness_are_exact(name: str) -> None:
    assert convert(entries([name])[0].batch(), axis="S", pulse=4).verify().worst <= 1e-5
    done = convert(entries([name])[0].batch(), axis="S", pulse=4, optimize="none")
    assert done.verify().worst <= 1e-5
    expected = {"chain-64": (30, 372), "crn": (5, 0), "crn-ahead": (6, 1), "hifigan": (58, 2249)}[name]
    assert (len(done.manifest["states"]), done.manifest["outputs"][0]["delay"]) == expected


def test_bound_states_are_fed_back() -> None:
    """What the bound session gives after seven pulses is what feeding arrays back by hand gives."""
    done = convert(entries(["crn-ahead"])[0].batch(), axis="S", pulse=1)
    bound, session = Bound(done.model, done), open_session(done.model.SerializeToString())
    feeds = make_inputs(done.batch, 1, np.random.default_rng(0))
    feeds |= {s["input"]: np.zeros(s["shape"], s["dtype"]) for s in done.manifest["states"]}
    feeds |= {done.manifest["valid"]["input"]: np.array([1])} if done.manifest["valid"] else {}
    seen = []
    for _ in range(Bound.CHECKED + 7):
        results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))
        feeds |= {s["input"]: results[s["output"]] for s in done.manifest["states"]}
        seen.append(results[done.manifest["outputs"][0]["name"]])
    for _ in range(7):
        bound.step()
    (got,) = bound.outputs().values()
    np.testing.assert_array_equal(got, seen[-1])
    assert not np.array_equal(seen[-1], seen[0])


def test_tract_streams_beside() -> None:
    pytest.importorskip("tract")
    (row,) = rows_of("wavenet", [4], ["speed"], 0.05, with_tract=True)
    assert row["tract"]["buffer_bytes"] == row["levels"]["speed"]["buffer_bytes"] == 11_680
    assert row["levels"]["speed"]["to_tract"] > 0


def test_window_of_a_receptive_field() -> None:
    stream = {"least": 3, "conditions": [{"modulus": 4, "remainder": 1, "node": "n"}], "most": 40}
    static = {"axis": None, "receptive_field": None, "settle": None}
    manifest = {"outputs": [{"axis": 2, "receptive_field": 9}, static], "stream": stream}
    assert window(manifest, 4) == 13
    assert window(manifest, 34) is None
    assert window({**manifest, "outputs": [{"axis": 2, "receptive_field": None}]}, 4) is None
    assert window({**manifest, "outputs": [{**static, "settle": 0}]}, 4) is None


def test_rows() -> None:
    (row,) = rows_of("crn", [2], ["speed"], 0.05, with_tract=False)
    (line,) = lines([row])
    counts = row["levels"]["speed"]
    assert row["pulse"] == 2 and counts["states"] == 5 and counts["buffer_bytes"] == 15_620 < counts["state_bytes"]
    assert 0 < row["us"]["bound speed"] < 2 * row["us"]["client speed"] and counts["to_tract"] is None
    assert line.startswith("| crn | 2 | speed |")
    assert any("client to bound" in said for said in summary([row]))
    kept = {"machine": {"cpu": "one"}, "rows": [row]}
    assert line in full(kept) and "- cpu one" in full(kept)
    assert next(brief(kept)) == "| model (speed) | state bytes | tract's delays | 2 |"


def test_entries_for_a_target() -> None:
    plain, native = entries(["crn", "crn/native"])
    assert (plain.target, native.name, native.target) == ("onnx", "crn/native", "onnxruntime-native")
    with pytest.raises(ValueError, match="no model crn/other"):
        entries(["crn/other"])


def test_command_names_what_it_has() -> None:
    listed = CliRunner().invoke(main, ["--list", "--no-real"])
    assert listed.output.split() == [e.name for e in OWN]
    wrong = CliRunner().invoke(main, ["--model", "wavenets"])
    assert wrong.exit_code == 2 and "no model wavenets; there are wavenet, " in wrong.output


def test_operators_of_a_runtime_are_compared() -> None:
    name, pulse, _, chosen, everywhere = next(targets(0.02, (1,)))
    assert (name, pulse) == ("tcn, 64 channels", "1") and (chosen == "-" or float(chosen) > 0) and float(everywhere) > 0
    name, pulse, us, ratio = next(native_rows(0.02, (1,)))
    assert (name, pulse) == ("conformer, 512 channels", "1") and float(us) > 0 and float(ratio) > 0

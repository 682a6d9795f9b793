"""``pulsify diff``: two stages, two dumps, wire by wire."""

from __future__ import annotations

from pathlib import Path

from pulsify.diff import hunks, records
from tests.cli.conftest import Cli, failed


def test_two_stages(cli: Cli, model: Path) -> None:
    done = cli("diff", "model.onnx", "declutter", "pulse-v2", "--axis", "S", "--pulse", "4")
    assert (done.code, done.err) == (0, "")
    assert done.lines[:3] == ["--- declutter", "+++ pulse-v2", "@@ graph @@"]
    assert any(line.startswith("+node ") and "PulseV2Buffer" in line for line in done.lines)
    assert any(line.startswith("-  -> %conv_2 ") for line in done.lines) and any(line.startswith("+  -> %conv_2 ") for line in done.lines)
    assert " output %conv_2" in done.lines


def test_two_dumps_and_the_same_in_json(cli: Cli, model: Path) -> None:
    for pulse, name in (("4", "a.txt"), ("8", "b.txt")):
        cli("model.onnx", "--pulse", pulse, "--pass", "pulse-v2", "-o", name)
    text = cli("diff", "a.txt", "b.txt", "--context", "0").lines
    assert "-pulsify 1 stage=pulse-v2 symbol=S pulse=4" in text and not any(line.startswith(" ") and "const" in line for line in text)
    found = cli("diff", "a.txt", "b.txt", "--json", "--context", "0").json
    lines = [{"same": " ", "removed": "-", "added": "+"}[c["kind"]] + line for h in found["hunks"] for c in h["changes"] for line in c["lines"]]
    assert lines == [line for line in text if line[:2] not in ("--", "++", "@@")]
    assert next(h["wire"] for h in found["hunks"]) == "graph"
    assert cli("diff", "a.txt", "b.txt", "--exit-code").code == 1
    same = cli("diff", "a.txt", "a.txt", "--exit-code")
    assert (same.code, same.out) == (0, "")


def test_a_diff_takes_one_dump_to_the_other() -> None:
    """Whatever is not removed, and what is added, in order, is the second dump."""
    head = "pulsify 1 stage=type symbol=S"
    before = f"{head}\ninput %x f32[S]\nnode a = Relu(%x)\n  -> %y f32[S]\nnode b = Abs(%y)\n  -> %z f32[S]\noutput %z\n"
    after = f"{head}\ninput %x f32[S]\nnode c = Neg(%x)\n  -> %w f32[S]\nnode b = Abs(%w)\n  -> %z f32[S]\nnode a = Relu(%z)\n  -> %y f32[S]\noutput %y\n"
    for a, b in ((before, after), (after, before), (before, before)):
        changes = [c for h in hunks(records(a), records(b), context=99) for c in h.changes] or None
        for kinds, whole in ((("same", "removed"), a), (("same", "added"), b)):
            lines = a.splitlines() if changes is None else [line for c in changes if c.kind in kinds for line in c.lines]
            assert lines == whole.splitlines()


def test_what_cannot_be_compared(cli: Cli, model: Path) -> None:
    cli("model.onnx", "--pass", "type", "-o", "a.txt")
    failed(cli("diff", "a.txt", "gone.txt"), 2, "cannot read 'gone.txt'")
    failed(cli("diff", "model.onnx", "a.txt"), 2, "'model.onnx' is no dump")
    Path("b.txt").write_text("hello\n")
    failed(cli("diff", "a.txt", "b.txt"), 2, "'b.txt' is no dump", "it begins with 'hello'", "--pass NAME -o FILE")
    failed(cli("diff", "model.onnx", "type", "pulse-v3"), 2, "no stage 'pulse-v3'", "did you mean")

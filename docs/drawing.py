"""The drawing of what pulsing is, ``docs/pulsing.svg``: ``python -m docs.drawing`` writes it.

It shows a window of five frames, ``y[j] = f(x[j], ..., x[j + 4])``, on a stream of 14 frames: at once, and four frames per
call. A call reads the four frames before its own from the state, so its output is four frames late, and the first
call's output and the end of the last one's are no frames of the batch model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).with_name("pulsing.svg")

TOTAL, PULSE, SPAN = 14, 4, 5
DELAY = SPAN - 1
CALLS = -(-TOTAL // PULSE)

CELL, ROW, TOP = 19, 62, 66
X = 76 + DELAY * CELL
BOX, BOX_WIDTH = X + CALLS * PULSE * CELL + 34, 74
Y = BOX + BOX_WIDTH + 34 + DELAY * CELL
WIDTH, HEIGHT = Y + (TOTAL - DELAY + 2) * CELL + 20, TOP + (CALLS + 1) * ROW + 12

#: Colours that read on white and that differ in lightness, not only in hue.
INK, SOFT = "#1f2933", "#7b8794"
NEW = ("#2f6fde", "#7aa7f0")
OUT = ("#1d8a5b", "#74c69d")


def cell(x: float, y: float, kind: str, text: str = "", fill: str = "none") -> str:
    """A frame: ``new`` (filled), ``old`` (from the state), ``drop`` (not one of the batch model's)."""
    style = {
        "new": f'fill="{fill}" stroke="#ffffff"',
        "old": f'fill="#ffffff" stroke="{fill}" stroke-dasharray="3 2"',
        "drop": 'fill="url(#hatch)" stroke="#b8c1cc"',
    }[kind]
    box = f'<rect x="{x + 1:g}" y="{y + 1:g}" width="{CELL - 2}" height="{CELL - 2}" rx="3" {style}/>'
    if not text:
        return box
    ink = "#ffffff" if kind == "new" and fill in (NEW[0], OUT[0]) else INK
    return box + f'<text x="{x + CELL / 2:g}" y="{y + CELL / 2 + 3.5:g}" class="n" fill="{ink}">{text}</text>'


def label(x: float, y: float, text: str, kind: str = "t", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{text}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{INK}" fill="none" marker-end="url(#tip)"/>'


def model(y: float) -> str:
    """The box between what goes in and what comes out of one call."""
    box = f'<rect x="{BOX}" y="{y - 7}" width="{BOX_WIDTH}" height="{CELL + 14}" rx="6" fill="#f0f4f8" stroke="{INK}"/>'
    inner = label(BOX + BOX_WIDTH / 2, y + 14, "model", "m", "middle")
    middle = y + CELL / 2
    return box + inner + arrow(BOX - 26, middle, BOX - 4, middle) + arrow(BOX + BOX_WIDTH + 4, middle, BOX + BOX_WIDTH + 26, middle)


def batch(y: float) -> Iterator[str]:
    yield label(16, y + 14, "batch", "b")
    for i in range(TOTAL):
        yield cell(X + i * CELL, y, "new", str(i), NEW[i // PULSE % 2])
    yield model(y)
    for j in range(TOTAL - DELAY):
        yield cell(Y + j * CELL, y, "new", str(j), OUT[j // PULSE % 2])


def call(t: int, y: float) -> Iterator[str]:
    """One pulse: the state's frames before it, its own, and what comes out."""
    yield label(16, y + 14, f"call {t + 1}", "b")
    for i in range(t * PULSE - DELAY, t * PULSE):
        yield cell(X + i * CELL, y, "old", str(i) if i >= 0 else "", NEW[i // PULSE % 2] if i >= 0 else SOFT)
    for i in range(t * PULSE, (t + 1) * PULSE):
        real = i < TOTAL
        yield cell(X + i * CELL, y, "new" if real else "drop", str(i) if real else "", NEW[t % 2])
    yield model(y)
    for j in range(t * PULSE - DELAY, (t + 1) * PULSE - DELAY):
        real = 0 <= j < TOTAL - DELAY
        yield cell(Y + j * CELL, y, "new" if real else "drop", str(j) if real else "", OUT[j // PULSE % 2])
    if t + 1 < CALLS:
        middle = BOX + BOX_WIDTH / 2
        yield arrow(middle, y + CELL + 9, middle, y + ROW - 11)
        yield label(middle + 7, y + ROW / 2 + 14, "state", "s")


def legend(y: float) -> Iterator[str]:
    entries = (
        ("new", NEW[0], "frames of this call"),
        ("old", NEW[0], "kept from the call before, zeros at first"),
        ("new", OUT[0], "the batch model's frames"),
        ("drop", "", "warm-up, or past the end: dropped"),
    )
    x = 16.0
    for kind, fill, text in entries:
        yield cell(x, y, kind, "", fill)
        yield label(x + CELL + 5, y + 14, text, "s")
        x += CELL + 24 + 6.15 * len(text)


def render() -> str:
    """The text of the SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>A batch model, and the same model a pulse at a time</title>",
        "<style>text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
        f".n{{font-size:10px;text-anchor:middle}}.t,.s{{font-size:12px;fill:{INK}}}.s{{fill:#52606d}}"
        f".b{{font-size:13px;font-weight:600;fill:{INK}}}.m{{font-size:13px;fill:{INK}}}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.6L7.4 4L0 7.4z" fill="{INK}"/></marker>'
        '<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="5" height="5" fill="#f5f7fa"/><path d="M0 0V5" stroke="#cbd2d9" stroke-width="2"/></pattern></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        label(X, TOP - 30, f"what goes in: {TOTAL} frames", "t"),
        label(Y, TOP - 30, f"what comes out: {TOTAL - DELAY} frames", "t"),
        *batch(TOP - 16),
        f'<path d="M16 {TOP + ROW - 36}H{WIDTH - 16}" stroke="#cbd2d9"/>',
    ]
    for t in range(CALLS):
        parts += call(t, TOP + ROW - 16 + t * ROW)
    parts += [
        *legend(HEIGHT - 34),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())

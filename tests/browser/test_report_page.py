"""The report in a real browser: nothing asked of a network, nothing wider than the screen, both colour schemes."""

from __future__ import annotations

import html
import json
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest

from models import wavenet
from pulsify import convert
from pulsify.bench import measure
from pulsify.pages.report import report, sample
from tests.cli.test_report import network
from tests.runtimes.tools import chromium, chromium_args

pytestmark = pytest.mark.browser

#: What a probe finds: run in a page that holds the report in a frame as wide as the screen in question.
PROBE = """
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth, body = page.body;
  const style = (e, k) => frame.contentWindow.getComputedStyle(e)[k];
  const inside = (e) => e.closest(".scroll, pre, details:not([open])") !== null;
  const wide = [...page.querySelectorAll("main *")].filter((e) => !inside(e) && e.getBoundingClientRect().right > width + 1);
  const texts = [...page.querySelectorAll("main p, main li, main dd, main text")];
  const drawn = [...page.querySelectorAll("svg")].map((e) => e.getBoundingClientRect());
  document.title = JSON.stringify({
    scroll: page.documentElement.scrollWidth - width,
    wide: wide.map((e) => e.outerHTML.slice(0, 120)),
    asked: frame.contentWindow.performance.getEntriesByType("resource").map((r) => r.name),
    paper: style(body, "backgroundColor"), ink: style(body, "color"),
    headings: [...page.querySelectorAll("h2")].map((e) => e.textContent),
    smallest: Math.min(...[...page.querySelectorAll(".chart text")].map((e) => e.getBoundingClientRect().height)),
    empty: drawn.filter((r) => r.width < 20 || r.height < 5).length,
    pictures: drawn.length,
    tall: page.documentElement.scrollHeight,
    overlaps: [...page.querySelectorAll(".rows li")].filter((li) => {
      const a = li.querySelector(".name").getBoundingClientRect(), b = li.querySelector(".figure").getBoundingClientRect();
      return a.right > b.left + 1 && a.bottom > b.top + 1 && b.bottom > a.top + 1;
    }).length,
  });
};
frame.srcdoc = document.querySelector("template").innerHTML;
"""


def browse(page: str, folder: Path, width: int, dark: bool = False) -> dict[str, Any]:
    """Open a page on a screen of that width; what the probe says of it."""
    holder = folder / "holder.html"
    source = html.escape(page, quote=True)
    holder.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><title>loading</title><iframe style="border:0;width:{width}px;height:900px"></iframe>'
        f'<textarea hidden>{source}</textarea><script>{PROBE.replace("template", "textarea").replace("innerHTML", "value")}</script>'
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [chromium(), *chromium_args(folder / "profile"), scheme, "--virtual-time-budget=8000", "--dump-dom", holder.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    assert title and title != "loading", done.stderr[-500:]
    found: dict[str, Any] = json.loads(html.unescape(title))
    return found


@pytest.fixture(scope="module", params=["network", "wavenet"])
def page(request: pytest.FixtureRequest) -> str:
    model: onnx.ModelProto = network() if request.param == "network" else wavenet.build()
    done = convert(model, axis="S", pulse=8)
    costs = measure([convert(model, axis="S", pulse=p) for p in (2, 8)], 0.05)
    return report(done, "a-model-with-a-rather-long-name-that-has-to-be-broken-somewhere.onnx", sample(done), costs, 100.0)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_the_screen(page: str, tmp_path: Path, width: int) -> None:
    found = browse(page, tmp_path, width)
    assert (found["scroll"], found["wide"], found["overlaps"]) == (0, [], 0)
    assert found["asked"] == []
    assert found["headings"][:3] == ["What each layer reaches", "Where the latency comes from", "Where the memory goes"]
    assert found["pictures"] > 5 and found["empty"] == 0 and found["tall"] > 1000
    assert found["smallest"] >= 9, "text of a chart is too small to read"


def test_light_and_dark(page: str, tmp_path: Path) -> None:
    def light(colour: str) -> float:
        r, g, b = (int(v) for v in colour[4:-1].split(","))
        return (r + g + b) / 765

    day, night = browse(page, tmp_path, 800), browse(page, tmp_path, 800, dark=True)
    assert light(day["paper"]) > 0.9 > 0.2 > light(day["ink"])
    assert light(night["paper"]) < 0.2 < 0.8 < light(night["ink"])

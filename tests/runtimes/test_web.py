"""The client of examples/ in a browser: onnxruntime-web (WebAssembly) in headless Chromium, served on localhost."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.runtimes.cases import CASES, Prepared, joined
from tests.runtimes.tools import chromium, chromium_args, node_modules

pytestmark = pytest.mark.runtimes

ROOT = Path(__file__).parents[2]
SECONDS = 300
PAGE = '<!doctype html><meta charset="utf-8"><script type="module" src="/tests/runtimes/web.mjs"></script>'


class Handler(SimpleHTTPRequestHandler):
    """Serves the page, the scripts of the repository, the npm packages and the cases; collects results."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}

    def __init__(self, *args: object, streams: Path, posted: queue.Queue[tuple[str, str]], **kwargs: object):
        self.streams, self.posted = streams, posted
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        path = path.split("?")[0]
        if path.startswith("/node_modules/"):
            return str(node_modules() / path[1:])
        if path.startswith("/cases/"):
            return str(self.streams / path.removeprefix("/cases/"))
        return str(ROOT / path[1:])

    def do_GET(self) -> None:
        texts = {"/": ("text/html", PAGE), "/cases": ("application/json", json.dumps([c.name for c in CASES]))}
        if self.path not in texts:
            return super().do_GET()
        kind, text = texts[self.path]
        self._answer(kind, text.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.posted.put((self.path, body))
        self._answer("text/plain", b"")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def results(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the page posted, by case."""
    posted: queue.Queue[tuple[str, str]] = queue.Queue()
    node_modules()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, streams=streams, posted=posted))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = tmp_path_factory.mktemp("browser") / "log"
    with log.open("wb") as out:
        url = f"http://127.0.0.1:{server.server_port}/"
        args = chromium_args(log.parent / "profile")
        browser = subprocess.Popen(
            [chromium(), *args, "--enable-logging=stderr", "--remote-debugging-port=0", url], stdout=out, stderr=out
        )
        try:
            found: dict[str, str] = {}
            while True:
                path, body = posted.get(timeout=SECONDS)
                if path == "/done":
                    break
                found[path.removeprefix("/results/")] = body
            yield found
        except queue.Empty:
            pytest.fail(f"the page did not finish; the browser said: {log.read_text()[-2000:]}")
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize("name", [c.name for c in CASES])
def test_equals_batch(name: str, prepared: dict[str, Prepared], results: dict[str, str]) -> None:
    assert not results[name].startswith("failed"), results[name]
    pieces = [(n, d, bytes.fromhex(x)) for n, d, x in map(json.loads, results[name].splitlines())]
    prepared[name].check(joined(prepared[name], pieces))

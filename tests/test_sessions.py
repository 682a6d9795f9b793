"""How a pulsed model is opened: what its file says of itself before it is loaded, and which options follow from that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models import chain
from pulsify import contract
from pulsify.api import convert
from pulsify.runtime import StreamSession, open_session


@pytest.fixture(scope="module")
def data() -> bytes:
    done: bytes = convert(chain.build(16, 3), axis="S", pulse=4).model.SerializeToString()
    return done


def test_the_manifest_is_found_without_parsing_the_model(data: bytes, tmp_path: Path) -> None:
    model = onnx.load_from_string(data)
    want = contract.loads({p.key: p.value for p in model.metadata_props})
    assert contract.peek(data) == want
    model.metadata_props.add(key="later", value="x" * 300)
    model.metadata_props.sort(key=lambda p: p.key)
    assert contract.peek(model.SerializeToString()) == want, "whatever else is there"


@pytest.mark.parametrize(
    "data", [b"", b"pulsify.manifest", b"pulsify.manifest\x12", b"pulsify.manifest\x12\x05{}", b"pulsify.manifest\x12\x02[]", b"\xff" * 99]
)
def test_no_manifest(data: bytes) -> None:
    assert contract.peek(data) is None


def test_small_wires_have_a_place_each(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for model in (data, path, str(path)):
        assert not open_session(model).get_session_options().enable_mem_reuse
    wide = convert(chain.build(64, 3), axis="S", pulse=8192)
    assert wide.manifest["wire_bytes"] > 4 << 20
    assert open_session(wide.model.SerializeToString()).get_session_options().enable_mem_reuse
    batch = chain.build(16, 3).SerializeToString()
    assert open_session(batch).get_session_options().enable_mem_reuse, "no pulsed model"
    assert convert(chain.build(16, 3), axis="S", pulse="P").manifest["wire_bytes"] is None
    own = ort.SessionOptions()
    assert open_session(data, own).get_session_options().enable_mem_reuse, "options given are taken as they are"


def test_same_numbers(data: bytes) -> None:
    x = np.random.default_rng(0).standard_normal((1, 16, 40)).astype(np.float32)
    shared, apart = (StreamSession(data, options=o).feed({"x": x}) for o in (ort.SessionOptions(), None))
    assert shared.keys() == apart.keys() and all(np.array_equal(shared[k], apart[k]) for k in shared)

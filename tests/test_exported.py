"""Networks as exporters of PyTorch and Keras write them (``models/exporters``): they stream, or are refused by name.

Every spelling of one network has the same delay. Dimensions that an exporter names, ``T`` or ``s53``, name the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check
from tests.test_type_oracle import compare

FOLDER = Path(__file__).parent / "fixtures" / "exported"

#: A file's size, and that of all files, in bytes.
SIZE, TOTAL = 60_000, 1_500_000


@dataclass(frozen=True)
class Case:
    """How a network streams: the time axis of its input, pulses, output delay (None: static) or why it cannot."""

    axis: int
    pulses: tuple[int | str, ...] = (1, 3)
    delay: int | None = 0
    refused: str | None = None


CASES = {
    "bc_resnet": Case(3, (1, 4), 5),
    "bilstm": Case(2, refused="one of its two directions runs backwards"),
    "codec_decoder": Case(2, (1, 3)),
    "codec_encoder": Case(2, (8, 16)),
    "codec_encoder_aligned": Case(2, (8, 24)),
    "conformer_conv": Case(1, (1, 5, "P")),
    "conv_stft": Case(1, (4, 12, "P"), 2),
    "conv_tasnet": Case(1, (4, 8), 4),
    "conv_tasnet_cumulative": Case(1, (4,), 4),
    "crn": Case(2, (1, 5)),
    "demucs": Case(2, (8, 16), 16),
    "ds_cnn": Case(1, (2, 6), None),
    "hifigan": Case(2, (1, 4), 87),
    "keras_causal_tcn": Case(1, (1, 3, "P")),
    "keras_crnn": Case(1, (1, 4)),
    "keras_ds_cnn": Case(1, (2, 6), None),
    "keras_stft_mask": Case(1, (8, 24), 1),
    "keras_time_distributed": Case(1, refused="it is not a loop over frames"),
    "keras_unet": Case(1, (4, 12), 7),
    "logmel": Case(1, (4, 8, "P"), 3),
    "logmel_centered": Case(1, (4, 8, "P"), 2),
    "squeeze_excite": Case(2, refused="summarises the whole stream"),
    "tcn": Case(2, (1, 4), 14),
    "tcn_causal": Case(2, (1, 3, "P")),
    "wavenet": Case(2, (2, 5)),
}

#: Files that are refused although their network streams.
REFUSED = {
    # The exporter unrolled the LSTM over the frames of its example.
    "codec_decoder.dynamo": "the time axis is baked in",
}

FILES = sorted(f.name.removesuffix(".onnx") for f in FOLDER.glob("*.onnx"))

#: Lengths at which every wire is compared with onnxruntime: the first eight of these that the network is defined for.
WIRE_LENGTHS = (1, 3, 4, 8, 12, 23, 64, 101, 16, 24, 32, 40, 80, 96, 128, 160, 48, 56, 212, 244, 276, 308, 340, 404)


def case_of(name: str) -> tuple[str, str, Case]:
    """Path, how the axis is told, and the case of a file. Those whose dimensions are named by the exporter tell it by
    position."""
    stem, exporter = name.split(".")
    case = CASES[stem.removesuffix("-raw")]
    return str(FOLDER / f"{name}.onnx"), f"x:{case.axis}" if stem.endswith("-raw") or exporter == "tf2onnx" else "T", case


@pytest.mark.parametrize("name", FILES)
def test_streams_or_is_refused(name: str) -> None:
    path, axis, case = case_of(name)
    refused = REFUSED.get(name, case.refused)
    if refused:
        with pytest.raises(Refusal, match=refused):
            convert(path, axis=axis)
        return
    # What the exporter folded or not, and whether the batch has a name, says little about pulses: fewer of them.
    pulses = case.pulses[:1] if "-raw" in name else case.pulses
    c = check(path, axis, pulses)
    assert [o["delay"] for o in c.manifest["outputs"]] == [case.delay]


@pytest.mark.parametrize("name", [n for n in FILES if "baked" not in REFUSED.get(n, "") and "loop" not in (case_of(n)[2].refused or "")])
def test_every_wire(name: str) -> None:
    """Shape arithmetic leaves no wire without its law; names in the files are not believed."""
    path, axis, _ = case_of(name)
    assert compare(path, axis, WIRE_LENGTHS, least=7, most=8) > 0


def test_every_network_is_there() -> None:
    """PyTorch's by both of its exporters, Keras's by tf2onnx."""
    have = {(n.split(".")[0].removesuffix("-raw"), n.split(".")[1]) for n in FILES}
    keras = {n for n in CASES if n.startswith("keras_")}
    want = {(n, e) for n in set(CASES) - keras for e in ("dynamo", "torchscript")} | {(n, "tf2onnx") for n in keras}
    # PyTorch's newer exporter fails on this one: it unrolls the LSTM over time.
    assert have == want - {("demucs", "dynamo")}


def test_files_are_small_and_clean() -> None:
    sizes = [f.stat().st_size for f in FOLDER.glob("*.onnx")]
    assert max(sizes) < SIZE and sum(sizes) < TOTAL
    for name in FILES:
        data = Path(case_of(name)[0]).read_bytes()
        assert not any(word in data for word in (b".py", b"/work", b"/tmp", b"/home", b"/root", b"site-packages")), name
        assert not onnx.load_from_string(data).metadata_props

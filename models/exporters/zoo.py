"""What is exported: name, module, example inputs, time axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models.exporters import generators as g
from models.exporters import spectral as s
from models.exporters import timedomain as t

__all__ = ["ZOO", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One module. ``shape`` is that of its input ``x``, 0 for the batch; ``time`` the axis of the stream."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    time: int
    codes: int = 0

    def example(self, batch: int) -> torch.Tensor:
        """An input of that batch: random numbers, or codes below ``codes``."""
        shape = tuple(d or batch for d in self.shape)
        return torch.randint(0, self.codes, shape) if self.codes else torch.randn(shape)


#: Entries of a codebook.
CODES = 104

ZOO = {
    "tcn_causal": Entry(lambda: t.TCN(causal=True), (0, 4, 50), 2),
    "tcn": Entry(lambda: t.TCN(causal=False), (0, 4, 50), 2),
    "wavenet": Entry(t.WaveNet, (0, 1, 50), 2),
    "conv_tasnet": Entry(lambda: t.ConvTasNet(cumulative=False), (0, 80), 1),
    "conv_tasnet_cumulative": Entry(lambda: t.ConvTasNet(cumulative=True), (0, 80), 1),
    "demucs": Entry(g.DemucsNet, (0, 1, 212), 2),
    "crn": Entry(s.CRN, (0, 1, 30, 9), 2),
    "ds_cnn": Entry(s.DSCNN, (0, 30, 10), 1),
    "bc_resnet": Entry(s.BCResNet, (0, 1, 8, 20), 3),
    "hifigan": Entry(g.HiFiGAN, (0, 5, 20), 2),
    "codec_encoder": Entry(g.CodecEncoder, (0, 1, 80), 2),
    "codec_encoder_aligned": Entry(lambda: g.CodecEncoder(align=True), (0, 1, 80), 2),
    "codec_decoder": Entry(g.CodecDecoder, (0, 2, 14), 2, codes=CODES),
    "squeeze_excite": Entry(t.SqueezeExcite, (0, 4, 50), 2),
    "bilstm": Entry(t.BiLSTMTagger, (0, 4, 70), 2),
    "logmel": Entry(lambda: s.LogMel(center=False), (0, 80), 1),
    "logmel_centered": Entry(lambda: s.LogMel(center=True), (0, 80), 1),
    "conv_stft": Entry(s.ConvSTFT, (0, 80), 1),
    "conformer_conv": Entry(t.ConformerConv, (0, 50, 8), 1),
}

"""Networks on waveforms and feature sequences, ``[batch, channels, time]``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TCN", "BiLSTMTagger", "ConformerConv", "ConvTasNet", "SqueezeExcite", "WaveNet"]


class TemporalBlock(nn.Module):
    """Two dilated convolutions and a residual; causal by padding both sides and cropping the right one."""

    def __init__(self, width: int, kernel: int, dilation: int, causal: bool):
        super().__init__()
        reach = (kernel - 1) * dilation
        self.crop = reach if causal else 0
        padding = reach if causal else reach // 2
        self.first = nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, norm in ((self.first, self.norm), (self.second, nn.Identity())):
            y = conv(y)
            if self.crop:
                y = y[:, :, : -self.crop].contiguous()
            y = F.relu(norm(y))
        return F.relu(x + y)


class TCN(nn.Module):
    """A temporal convolutional network."""

    def __init__(self, causal: bool, width: int = 8, kernel: int = 3, depth: int = 3):
        super().__init__()
        self.head = nn.Conv1d(4, width, 1)
        self.blocks = nn.Sequential(*(TemporalBlock(width, kernel, 2**i, causal) for i in range(depth)))
        self.tail = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.blocks(self.head(x)).transpose(1, 2))


class WaveNet(nn.Module):
    """Gated dilated convolutions with skip connections, padded on the left."""

    def __init__(self, width: int = 6, depth: int = 4):
        super().__init__()
        self.head = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(depth))
        self.outs = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in range(depth))
        self.tail = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 1), nn.ReLU(), nn.Conv1d(width, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        skips: Tensor | float = 0.0
        for gate, out in zip(self.gates, self.outs):
            a, b = gate(F.pad(x, (gate.dilation[0], 0))).chunk(2, dim=1)
            r, s = torch.split(out(torch.tanh(a) * torch.sigmoid(b)), x.shape[1], dim=1)
            x, skips = x + r, skips + s
        return self.tail(skips)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each frame."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class CumulativeNorm(nn.Module):
    """Layer norm over the channels of all frames so far."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(1, width, 1))
        self.bias = nn.Parameter(0.1 * torch.randn(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        _, channels, frames = x.shape
        total = x.sum(1).cumsum(dim=1)
        power = x.pow(2).sum(1).cumsum(dim=1)
        count = torch.arange(channels, channels * (frames + 1), channels, dtype=x.dtype, device=x.device).view(1, -1)
        mean = total / count
        var = (power - 2 * mean * total) / count + mean.pow(2)
        return self.gain * ((x - mean.unsqueeze(1)) / (var + self.eps).sqrt().unsqueeze(1)) + self.bias


class Separator(nn.Module):
    """One block of Conv-TasNet's separator."""

    def __init__(self, width: int, hidden: int, dilation: int, norm: type[nn.Module]):
        super().__init__()
        self.pad = 2 * dilation
        self.inner = nn.Sequential(nn.Conv1d(width, hidden, 1), nn.PReLU(), norm(hidden))
        self.depthwise = nn.Conv1d(hidden, hidden, 3, dilation=dilation, groups=hidden)
        self.outer = nn.Sequential(nn.PReLU(), norm(hidden), nn.Conv1d(hidden, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.depthwise(F.pad(self.inner(x), (self.pad, 0))))


class ConvTasNet(nn.Module):
    """Learned filter bank of stride 4, masks for two speakers, transposed convolution. ``[batch, time]`` in."""

    def __init__(self, cumulative: bool, width: int = 8, hidden: int = 12):
        super().__init__()
        norm = CumulativeNorm if cumulative else ChannelNorm
        self.encoder = nn.Conv1d(1, width, 8, stride=4, bias=False)
        self.norm = norm(width)
        self.blocks = nn.Sequential(*(Separator(width, hidden, 2**i, norm) for i in range(2)))
        self.masks = nn.Conv1d(width, 2 * width, 1)
        self.decoder = nn.ConvTranspose1d(width, 1, 8, stride=4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mix = F.relu(self.encoder(x.unsqueeze(1)))
        masks = torch.sigmoid(self.masks(self.blocks(self.norm(mix))))
        masks = masks.view(mix.shape[0], 2, mix.shape[1], mix.shape[2])
        sources = (mix.unsqueeze(1) * masks).view(-1, mix.shape[1], mix.shape[2])
        return self.decoder(sources).view(mix.shape[0], 2, -1)


class ConformerConv(nn.Module):
    """The convolution module of a conformer, causal. ``[batch, time, width]``."""

    def __init__(self, width: int = 8, kernel: int = 7):
        super().__init__()
        self.pad = kernel - 1
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.leave = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.enter(self.norm(x).transpose(1, 2)), dim=1)
        y = F.silu(self.batch_norm(self.depthwise(F.pad(y, (self.pad, 0)))))
        return x + self.leave(y).transpose(1, 2)


class SqueezeExcite(nn.Module):
    """Channels weighted by their mean over all of time: cannot stream."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.conv = nn.Conv1d(4, width, 5, padding=2)
        self.squeeze = nn.AdaptiveAvgPool1d(1)
        self.excite = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.excite(self.squeeze(x).squeeze(-1)).unsqueeze(-1)


class BiLSTMTagger(nn.Module):
    """A convolution and an LSTM that reads time in both directions: cannot stream."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.conv = nn.Conv1d(4, width, 3, padding=1)
        self.lstm = nn.LSTM(width, 5, batch_first=True, bidirectional=True)
        self.tail = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(F.relu(self.conv(x)).transpose(1, 2))
        return self.tail(y)

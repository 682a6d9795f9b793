"""Networks that change the rate of time: encoders, decoders, vocoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["CodecDecoder", "CodecEncoder", "DemucsNet", "HiFiGAN"]


class DemucsNet(nn.Module):
    """A U-Net on the waveform, strides of 4 and 2, an LSTM at the bottom; skips are cropped to the decoder."""

    def __init__(self, width: int = 6):
        super().__init__()
        shapes = [(1, width, 8, 4), (width, 2 * width, 4, 2)]
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv1d(i, o, k, s), nn.ReLU(), nn.Conv1d(o, 2 * o, 1), nn.GLU(1)) for i, o, k, s in shapes
        )
        self.lstm = nn.LSTM(2 * width, 2 * width, 2)
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.Conv1d(o, 2 * o, 1), nn.GLU(1), nn.ConvTranspose1d(o, i, k, s))
            for i, o, k, s in reversed(shapes)
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        x, _ = self.lstm(x.permute(2, 0, 1))
        x = x.permute(1, 2, 0)
        for i, block in enumerate(self.decoder):
            x = block(x + skips.pop()[..., : x.shape[-1]])
            if i + 1 < len(self.decoder):
                x = F.relu(x)
        return x


class ResBlock(nn.Module):
    """HiFi-GAN's residual block: dilated and plain 'same' convolutions."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.dilated = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=(kernel - 1) * d // 2)) for d in dilations
        )
        self.plain = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2)) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, 0.1)), 0.1))
        return x


class HiFiGAN(nn.Module):
    """Mel frames to waveform: transposed convolutions and multi-receptive-field fusion. Twelve samples per frame."""

    def __init__(self, mels: int = 5, width: int = 8):
        super().__init__()
        self.pre = weight_norm(nn.Conv1d(mels, width, 7, padding=3))
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in ((4, 8), (3, 7)):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            width //= 2
            self.blocks.append(nn.ModuleList((ResBlock(width, 3, (1, 3)), ResBlock(width, 5, (1, 2)))))
        self.post = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        for up, blocks in zip(self.ups, self.blocks):
            x = up(F.leaky_relu(x, 0.1))
            total = None
            for block in blocks:
                total = block(x) if total is None else total + block(x)
            x = total / len(blocks)
        return torch.tanh(self.post(F.leaky_relu(x)))


class CausalConv(nn.Module):
    """A convolution padded on the left, and on the right to a whole number of strides."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, align: bool = False):
        super().__init__()
        self.conv = nn.Conv1d(into, out, kernel, stride=stride, dilation=dilation)
        self.left = (kernel - 1) * dilation + 1 - stride
        self.stride = stride if align else 1

    def forward(self, x: Tensor) -> Tensor:
        extra = -x.shape[-1] % self.stride if self.stride > 1 else 0
        return self.conv(F.pad(x, (self.left, extra)))


class CausalUp(nn.Module):
    """A transposed convolution whose right end is cropped."""

    def __init__(self, into: int, out: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.ConvTranspose1d(into, out, kernel, stride)
        self.crop = kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y[..., : y.shape[-1] - self.crop]


class Residual(nn.Module):
    """SEANet's residual unit."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.ELU(), CausalConv(width, width // 2, 3, dilation=2), nn.ELU(), CausalConv(width // 2, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class SkipLSTM(nn.Module):
    """An LSTM over time with a residual connection. ``[batch, channels, time]``."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        y, _ = self.lstm(x)
        return (y + x).permute(1, 2, 0)


class CodecEncoder(nn.Module):
    """SEANet encoder (strides 2 and 4) and a residual vector quantiser of two codebooks: ``[batch, 2, frames]`` codes."""

    def __init__(self, width: int = 4, codes: int = 12, align: bool = False):
        super().__init__()
        self.net = nn.Sequential(
            CausalConv(1, width, 7),
            *(Residual(width), nn.ELU(), CausalConv(width, 2 * width, 4, 2, align=align)),
            *(Residual(2 * width), nn.ELU(), CausalConv(2 * width, 4 * width, 8, 4, align=align)),
            SkipLSTM(4 * width),
            *(nn.ELU(), CausalConv(4 * width, 6, 3)),
        )
        self.books = nn.Parameter(torch.randn(2, codes, 6))

    def forward(self, x: Tensor) -> Tensor:
        rest = self.net(x).transpose(1, 2)
        picked = []
        for book in self.books:
            score = 2 * rest @ book.t() - book.pow(2).sum(-1) - rest.pow(2).sum(-1, keepdim=True)
            index = score.max(dim=-1).indices
            rest = rest - F.embedding(index, book)
            picked.append(index)
        return torch.stack(picked, 1)


class CodecDecoder(nn.Module):
    """Codes ``[batch, 2, frames]`` to waveform: eight samples per frame."""

    def __init__(self, width: int = 4, codes: int = 104):
        super().__init__()
        self.books = nn.ModuleList(nn.Embedding(codes, 6) for _ in range(2))
        self.net = nn.Sequential(
            CausalConv(6, 4 * width, 3),
            SkipLSTM(4 * width),
            *(nn.ELU(), CausalUp(4 * width, 2 * width, 8, 4), Residual(2 * width)),
            *(nn.ELU(), CausalUp(2 * width, width, 4, 2), Residual(width)),
            *(nn.ELU(), CausalConv(width, 1, 7)),
        )

    def forward(self, codes: Tensor) -> Tensor:
        total = sum(book(codes[:, i]) for i, book in enumerate(self.books))
        return self.net(total.transpose(1, 2))

"""Networks on spectrograms, and the front-ends that make them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CRN", "DSCNN", "BCResNet", "ConvSTFT", "LogMel"]


class CRN(nn.Module):
    """Convolutional recurrent network for a mask: ``[batch, 1, time, 9]`` in and out, causal."""

    def __init__(self, width: int = 4):
        super().__init__()
        sizes = [(1, width), (width, 2 * width)]
        self.encoder = nn.ModuleList(nn.Conv2d(i, o, (2, 3), (1, 2), (1, 0)) for i, o in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in sizes)
        self.gru = nn.GRU(2 * width, 2 * width, batch_first=True)
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(2 * o, i, (2, 3), (1, 2), output_padding=(0, 1 if i > 1 else 0))
            for i, o in reversed(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for conv, norm in zip(self.encoder, self.norms):
            x = F.elu(norm(conv(x)[:, :, :-1, :]))
            skips.append(x)
        b, c, t, f = x.shape
        y, _ = self.gru(x.permute(0, 2, 1, 3).reshape(b, t, c * f))
        x = x + y.reshape(b, t, c, f).permute(0, 2, 1, 3)
        for conv in self.decoder:
            x = F.elu(conv(torch.cat([x, skips.pop()], dim=1))[:, :, :-1, :])
        return torch.sigmoid(x)


class DSCNN(nn.Module):
    """Keyword spotting by depthwise separable convolutions; one set of logits for the whole clip. ``[batch, time, 10]``."""

    def __init__(self, width: int = 6):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, (5, 4), (2, 2), (2, 1)), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        self.net = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.tail = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.flatten(self.pool(self.net(x.unsqueeze(1))), 1))


class SubSpectralNorm(nn.Module):
    """Batch norm of each band of frequencies by itself."""

    def __init__(self, width: int, bands: int):
        super().__init__()
        self.bands = bands
        self.norm = nn.BatchNorm2d(width * bands)

    def forward(self, x: Tensor) -> Tensor:
        n, c, f, t = x.shape
        return self.norm(x.reshape(n, c * self.bands, f // self.bands, t)).reshape(n, c, f, t)


class BroadcastBlock(nn.Module):
    """Two-dimensional features plus a temporal convolution of their mean over frequency."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.frequency = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=width)
        self.norm = SubSpectralNorm(width, 2)
        self.temporal = nn.Conv2d(width, width, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=width)
        self.mix = nn.Sequential(nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.norm(self.frequency(x))
        return F.relu(x + wide + self.mix(self.temporal(wide.mean(dim=2, keepdim=True))))


class BCResNet(nn.Module):
    """Broadcasted residual network, logits per frame. ``[batch, 1, 8, time]``."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.head = nn.Conv2d(1, width, 5, (2, 1), 2)
        self.blocks = nn.Sequential(BroadcastBlock(width, 1), BroadcastBlock(width, 2))
        self.tail = nn.Conv2d(width, 3, (4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.blocks(self.head(x))).squeeze(2).log_softmax(dim=1)


class LogMel(nn.Module):
    """Log-mel features by ``torch.stft``: window 16, hop 4. ``[batch, time]``."""

    def __init__(self, center: bool):
        super().__init__()
        self.center = center
        self.register_buffer("window", torch.hann_window(16))
        self.register_buffer("filters", torch.rand(9, 5))

    def forward(self, x: Tensor) -> Tensor:
        z = torch.stft(x, 16, 4, window=self.window, center=self.center, return_complex=False)
        power = z.pow(2).sum(-1)
        return torch.log(torch.matmul(power.transpose(1, 2), self.filters) + 1e-3)


class ConvSTFT(nn.Module):
    """Magnitude spectrum by a strided convolution, padded by reflection. ``[batch, time]``."""

    def __init__(self, size: int = 16, hop: int = 4):
        super().__init__()
        self.size, self.hop = size, hop
        at = torch.arange(size)
        angle = 2 * math.pi * torch.arange(size // 2 + 1).unsqueeze(1) * at / size
        basis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * torch.hann_window(size)
        self.register_buffer("basis", basis.unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x.unsqueeze(1), (self.size // 2, self.size // 2), mode="reflect")
        real, imag = F.conv1d(y, self.basis, stride=self.hop).chunk(2, dim=1)
        return torch.sqrt(real**2 + imag**2 + 1e-6)

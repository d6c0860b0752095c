"""Layers of the PyTorch peers."""

import torch
import torch.nn.functional as F
from torch import nn


def drop_rates(rate: float, depths: tuple[int, ...]) -> list[float]:
    return torch.linspace(0, rate, sum(depths)).tolist()


class DropPath(nn.Module):
    """Drops a residual branch for whole images in training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(1 - self.rate) / (1 - self.rate)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW map."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DepthwiseConv(nn.Module):
    """A depthwise 3x3 convolution of tokens `[B, N, C]`."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x, height: int, width: int):
        maps = x.transpose(1, 2).reshape(x.shape[0], -1, height, width)
        return self.dwconv(maps).flatten(2).transpose(1, 2)


class ConvMLP(nn.Module):
    """`residual` adds the input of the depthwise convolution, as ClusTR does."""

    def __init__(self, dim: int, hidden: int, residual: bool):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.residual = residual

    def forward(self, x, height: int, width: int):
        u = self.fc1(x)
        y = self.dwconv(u, height, width)
        return self.fc2(F.gelu(u + y if self.residual else y))


class PatchEmbed(nn.Module):
    def __init__(self, inputs, dim, size, stride, padding):
        super().__init__()
        self.proj = nn.Conv2d(inputs, dim, size, stride, padding)
        self.norm = nn.LayerNorm(dim)

"""ClusTR in plain PyTorch, see `torch_peer.py`."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.torch_layers import ConvMLP, DropPath, PatchEmbed, drop_rates


def cluster_tokens(x, counts, num_neighbors):
    """DPC-KNN of tokens `[B, N, C]`: for each of `counts` an assignment `[B, N]`."""
    tokens = x.shape[1]
    distances = torch.cdist(x, x) / x.shape[-1] ** 0.5
    nearest = distances.topk(num_neighbors, dim=-1, largest=False).values
    density = (-(nearest**2).mean(dim=-1)).exp()
    denser = density[:, None, :] > density[:, :, None]
    farthest = distances.flatten(1).max(dim=1).values[:, None, None]
    delta = torch.where(denser, distances, farthest).min(dim=-1).values
    centers = (density * delta).topk(max(counts), dim=-1).indices
    for count in counts:
        chosen = centers[:, :count]
        rows = distances.gather(1, chosen[..., None].expand(-1, -1, tokens))
        index = rows.argmin(dim=1)
        own = torch.arange(count, device=x.device).expand(len(x), -1)
        yield index.scatter(1, chosen, own)


class ClusteredAttention(nn.Module):
    def __init__(self, dim, heads, reduction, scales, num_neighbors):
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.scales, self.num_neighbors = scales, num_neighbors
        self.q, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        if reduction == 1:
            self.kv = nn.Linear(dim, 2 * dim)
        else:
            self.weight_layer = nn.Linear(dim, 1)
            for i in range(len(scales)):
                setattr(self, f"kv{i + 1}", nn.Linear(dim, 2 * dim))

    def _split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _attend(self, query, both):
        key, value = both.chunk(2, dim=-1)
        return F.scaled_dot_product_attention(query, self._split(key), self._split(value))

    def forward(self, x):
        batch, tokens, dim = x.shape
        query = self._split(self.q(x))
        if self.reduction == 1:
            out = self._attend(query, self.kv(x))
        else:
            base = max(tokens // self.reduction**2, 1)
            counts = [min(base * scale, tokens) for scale in self.scales]
            weight = self.weight_layer(x).exp()
            with torch.no_grad():
                indices = list(cluster_tokens(x, counts, min(self.num_neighbors, tokens)))
            out = 0
            for i, (index, count) in enumerate(zip(indices, counts, strict=True)):
                mass = x.new_zeros(batch, count, 1).scatter_add(1, index[..., None], weight)
                total = x.new_zeros(batch, count, dim)
                total = total.scatter_add(1, index[..., None].expand_as(x), weight * x)
                merged = total / (mass + 1e-6)
                out = out + self._attend(query, getattr(self, f"kv{i + 1}")(merged))
        return self.proj(out.transpose(1, 2).flatten(2))


class ClusTRBlock(nn.Module):
    def __init__(self, dim, attention, mlp_ratio, drop_path):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.mlp = ConvMLP(dim, dim * mlp_ratio, residual=True)
        self.drop = DropPath(drop_path)

    def forward(self, x, height, width):
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x), height, width))


class ClusTR(nn.Module):
    """`sizes` are the fields of `cluenet_jax.models.backbones.clustr.ClusTR`; images are NCHW."""

    def __init__(self, sizes: dict, num_classes: int):
        super().__init__()
        rates = iter(drop_rates(sizes["drop_path"], sizes["depths"]))
        inputs = 3
        for stage, dim in enumerate(sizes["dims"]):
            size, stride = sizes["patch"] if stage == 0 else (3, 2)
            embed = PatchEmbed(inputs, dim, size, stride, size // 2)
            blocks = []
            for _ in range(sizes["depths"][stage]):
                attention = ClusteredAttention(
                    dim,
                    sizes["num_heads"][stage],
                    sizes["sr_ratios"][stage],
                    sizes["cluster_scales"],
                    sizes["num_neighbors"],
                )
                blocks.append(ClusTRBlock(dim, attention, sizes["mlp_ratios"][stage], next(rates)))
            setattr(self, f"patch_embed{stage + 1}", embed)
            setattr(self, f"block{stage + 1}", nn.ModuleList(blocks))
            setattr(self, f"norm{stage + 1}", nn.LayerNorm(dim, eps=1e-6))
            inputs = dim
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, images):
        x = images
        for number in range(1, 5):
            embed = getattr(self, f"patch_embed{number}")
            x = embed.proj(x)
            height, width = x.shape[2:]
            x = embed.norm(x.flatten(2).transpose(1, 2))
            for block in getattr(self, f"block{number}"):
                x = block(x, height, width)
            x = getattr(self, f"norm{number}")(x)
            if number < 4:
                x = x.transpose(1, 2).unflatten(2, (height, width))
        return self.head(x.mean(dim=1))

"""CLUENet in plain PyTorch, see `torch_peer.py`."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.torch_layers import ChannelNorm, ConvMLP, DropPath, PatchEmbed, drop_rates


class HeadLinear(nn.Module):
    """A linear map of its own for every head."""

    def __init__(self, heads: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(heads, outputs))

    def forward(self, x):  # [B, G, M, inputs]
        return torch.einsum("bgmi,goi->bgmo", x, self.weight) + self.bias[:, None]


class Gate(nn.Module):
    def __init__(self, heads: int, dim: int):
        super().__init__()
        self.fc1 = HeadLinear(heads, 2 * dim, dim // 2)
        self.fc2 = HeadLinear(heads, dim // 2, 1)

    def forward(self, centers, local):
        gate = torch.sigmoid(self.fc2(F.gelu(self.fc1(torch.cat([centers, local], -1)))))
        return (1 - gate) * centers + gate * local


class ClusterAttention(nn.Module):
    def __init__(self, dim, heads, head_dim, grid, min_temperature, first, tuned):
        super().__init__()
        self.tuned = tuned
        inner = heads * head_dim
        self.heads, self.grid = heads, grid
        self.least = torch.tensor(min_temperature).log().item()
        self.attn_alpha = nn.Parameter(torch.tensor(2.13).log())
        if first:
            self.sim_alpha = nn.Parameter(torch.ones(1))
            self.sim_beta = nn.Parameter(torch.zeros(1))
            self.q = nn.Linear(inner, inner)
        self.k, self.v = nn.Conv2d(dim, inner, 1), nn.Conv2d(dim, inner, 1)
        self.proj = nn.Conv2d(inner, dim, 1)
        self.gate = Gate(heads, head_dim)

    def _split(self, x):  # [B, G*D, h, w] to [B, G, h*w, D]
        return x.unflatten(1, (self.heads, -1)).flatten(3).transpose(2, 3)

    def forward(self, x, assignment):
        key, value = self.k(x), self.v(x)
        key_centers = self._split(F.adaptive_avg_pool2d(key, self.grid))
        local = self._split(F.adaptive_avg_pool2d(value, self.grid))
        key, value = F.normalize(self._split(key), dim=-1), self._split(value)
        temperature = self.attn_alpha.clamp(min=self.least).exp()
        query = F.normalize(key_centers, dim=-1) / temperature
        centers = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        centers = self.gate(centers, local)
        if assignment is None:
            query = self.q(centers.transpose(1, 2).flatten(2))
            query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
            cosine = F.normalize(query, dim=-1) @ key.transpose(2, 3)
            scores = torch.sigmoid(self.sim_beta + self.sim_alpha * cosine)
            weight, index = scores.max(dim=2, keepdim=True)
            if self.tuned:
                assignment = index, weight
            else:
                assignment = scores * torch.zeros_like(scores).scatter_(2, index, 1.0)
        if self.tuned:
            index, weight = (x.transpose(2, 3) for x in assignment)
            out = weight * centers.gather(2, index.expand(-1, -1, -1, centers.shape[-1]))
        else:
            out = (centers.unsqueeze(3) * assignment.unsqueeze(-1)).sum(dim=2)
        out = out.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
        return self.proj(out), assignment


class CLUENetBlock(nn.Module):
    def __init__(self, dim, attention, mlp_ratio, drop_path):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(dim), nn.LayerNorm(dim)
        self.token_mixer = attention
        self.mlp = ConvMLP(dim, dim * mlp_ratio, residual=False)
        self.drop = DropPath(drop_path)

    def forward(self, x, assignment):
        y, assignment = self.token_mixer(self.norm1(x), assignment)
        x = x + self.drop(y)
        tokens = x.flatten(2).transpose(1, 2)
        y = self.mlp(self.norm2(tokens), *x.shape[2:])
        return x + self.drop(y.transpose(1, 2).unflatten(2, x.shape[2:])), assignment


class Stage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        assignment = None
        for block in self.blocks:
            x, assignment = block(x, assignment)
        return x


class ClusterPooling(nn.Module):
    def __init__(self, dim, features, norm_after, tuned):
        super().__init__()
        self.tuned = tuned
        self.norm1 = nn.LayerNorm(dim)
        if norm_after:
            self.norm2 = nn.LayerNorm(features)
        self.norm_after = norm_after
        self.conv_f = nn.Conv2d(dim, dim, 1)
        self.conv_v = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU(), nn.Conv2d(dim, features, 1))
        self.conv_skip = nn.Conv2d(dim, features, 3, stride=2, padding=1)

    def forward(self, x):
        skip = self.conv_skip(x)
        values = self.conv_f(x)
        centers = F.adaptive_avg_pool2d(values, skip.shape[2:]).flatten(2).transpose(1, 2)
        points = values.flatten(2).transpose(1, 2)
        with torch.no_grad():
            cosine = F.normalize(centers, dim=-1) @ F.normalize(points, dim=-1).transpose(1, 2)
            index = cosine.argmax(dim=1, keepdim=True)
        if self.tuned:
            index = index.transpose(1, 2)
            count = torch.ones_like(centers[..., :1])
            count = count.scatter_add(1, index, torch.ones_like(points[..., :1]))
            total = centers.scatter_add(1, index.expand_as(points), points)
        else:
            mask = torch.zeros_like(cosine).scatter_(1, index, 1.0)
            count = mask.sum(dim=2, keepdim=True) + 1
            total = mask @ points + centers
        y = self.norm1(total / count).transpose(1, 2).unflatten(2, skip.shape[2:])
        y = self.conv_v(y)
        if self.norm_after:
            y = self.norm2(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return skip + y


class PositionalConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim))

    def forward(self, x):
        return x + self.proj(x)


class CLUENet(nn.Module):
    """`sizes` are the fields of `cluenet_jax.models.backbones.cluenet.CLUENet`; images are NCHW."""

    def __init__(self, sizes: dict, num_classes: int, tuned: bool):
        super().__init__()
        dims, depths = sizes["dims"], sizes["depths"]
        self.patch_embed = PatchEmbed(5, dims[0], *sizes["patch"])
        self.pos_embed = PositionalConv(dims[0])
        rates = iter(drop_rates(sizes["drop_path"], depths))
        network = []
        for stage, dim in enumerate(dims):
            blocks = []
            for block in range(depths[stage]):
                attention = ClusterAttention(
                    dim,
                    sizes["num_heads"][stage],
                    sizes["head_dim"],
                    tuple(sizes["center_grid"]),
                    sizes["min_temperature"],
                    block == 0,
                    tuned,
                )
                ratio = sizes["mlp_ratios"][stage]
                blocks.append(CLUENetBlock(dim, attention, ratio, next(rates)))
            network.append(Stage(blocks))
            if stage < 3:
                norm_after = sizes["norm_after_pooling"]
                network.append(ClusterPooling(dim, dims[stage + 1], norm_after, tuned))
        self.network = nn.ModuleList(network)
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)

    def forward(self, images):
        batch, _, height, width = images.shape
        rows = torch.arange(height, device=images.device) / max(height - 1, 1) - 0.5
        columns = torch.arange(width, device=images.device) / max(width - 1, 1) - 0.5
        plane = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        plane = plane.to(images.dtype).expand(batch, -1, -1, -1)
        x = self.patch_embed.proj(torch.cat([images, plane], dim=1))
        x = self.patch_embed.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.pos_embed(x)
        for part in self.network:
            x = part(x)
        return self.head(self.norm(x.flatten(2).transpose(1, 2)).mean(dim=1))

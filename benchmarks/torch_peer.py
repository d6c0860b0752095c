"""The same models in plain PyTorch, NCHW, as a peer to measure against.

Written from the equations in `cluenet_jax/models`, in the manner of the field: 1x1
convolutions on NCHW maps, tokens for the MLPs, `scaled_dot_product_attention`. A cluster's
members are chosen by a mask over all pixels and centers, as Context Cluster and its
successors do; `tuned=True` gathers and scatters instead, which is faster.
Parameters have the published names, so `cluenet_jax.weights.to_torch` fills them;
`tests/benchmarks/test_torch_peer.py` compares both forms with the recorded cases.
"""

import torch
import torch.nn.functional as F
from torch import nn


def _drop_rates(rate: float, depths: tuple[int, ...]) -> list[float]:
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


class PatchEmbed(nn.Module):
    def __init__(self, inputs, dim, size, stride, padding):
        super().__init__()
        self.proj = nn.Conv2d(inputs, dim, size, stride, padding)
        self.norm = nn.LayerNorm(dim)


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
        rates = iter(_drop_rates(sizes["drop_path"], depths))
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
        rates = iter(_drop_rates(sizes["drop_path"], sizes["depths"]))
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


def create_model(
    name: str, num_classes: int | None = None, tuned: bool = False, **options
) -> nn.Module:
    """The peer of `cluenet_jax.create_model(name, num_classes, **options)`.

    Args:
      name: A name of `cluenet_jax.list_models()`.
      num_classes: Number of outputs; the published classifier's if None.
      tuned: Whether clusters are gathered and scattered instead of chosen by masks.
      **options: Options of the backbone that differ from the variant's own.
    """
    from cluenet_jax.models import find_family, model_options

    sizes = {**model_options(name), **options}
    if num_classes is None:
        num_classes = find_family(name).variants[name].num_classes
    if name.startswith("clustr"):
        return ClusTR(sizes, num_classes)
    return CLUENet(sizes, num_classes, tuned)

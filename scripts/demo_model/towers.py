"""Two small towers in SigLIP's form (arXiv:2303.15343), and the loss that trains them.

The picture tower is a residual convolutional stem under an attention-pooling head; the text tower
is two transformer layers over SentencePiece ids. Both return unit vectors. Attention is written as
an explicit softmax: on CPUs its backward pass is faster than the fused one, and it exports plainly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors of shape (n, d) to length one."""
    return vectors / (vectors.pow(2).sum(-1, keepdim=True) + 1e-8).sqrt()


class Attention(nn.Module):
    """Multi-head attention from queries to the same or other tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend; shapes (b, q, d) and (b, n, d), bias broadcastable to (b, heads, q, n)."""
        each = queries.shape[-1] // self.heads
        q = self.query(queries).unflatten(-1, (self.heads, each)).transpose(1, 2)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, each)).unbind(2)
        scores = q @ k.permute(0, 2, 3, 1) / math.sqrt(each)
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ v.transpose(1, 2)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class AttentionPool(nn.Module):
    """SigLIP's pooling head: a learned probe attends to the tokens, then a residual MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.attention = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Pool tokens of shape (b, n, d) to (b, d)."""
        pooled = self.attention(self.probe.expand(tokens.shape[0], -1, -1), tokens, bias)
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        hidden = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(hidden)))


class VisionTower(nn.Module):
    """Pixels (b, 3, h, w) in [-1, 1] to unit vectors (b, dim). Any h and w of 16 n pixels."""

    def __init__(self, dim: int, widths: list[int], blocks: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            kernel = 5 if stage == 0 else 3
            layers += [
                nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                *(Residual(width) for _ in range(count)),
            ]
            before = width
        self.stem = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(before)
        self.pool = AttentionPool(before, 4)
        self.project = nn.Linear(before, dim)
        self.width = before

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return pooled features (b, width), before the projection."""
        tokens = self.stem(pixel_values).flatten(2).transpose(1, 2)
        return self.pool(self.norm(tokens))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed pictures."""
        return unit(self.project(self.features(pixel_values)).float())


class TextLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return a tensor of the same shape (b, n, d)."""
        inner = self.norm_attention(x)
        x = x + self.attention(inner, inner, bias)
        return x + self.mlp(self.norm_mlp(x))


class TextTower(nn.Module):
    """Ids (b, n) padded with `pad_id` to unit vectors (b, dim).

    Padding is seen from the ids themselves and attended by nothing, so n may be any length up to
    `length`: the embedding does not change with it.
    """

    def __init__(
        self, dim: int, *, vocabulary: int, width: int, layers: int, length: int, pad_id: int
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.position = nn.Parameter(torch.randn(length, width) * 0.01)
        self.layers = nn.ModuleList(TextLayer(width, 4) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pool = AttentionPool(width, 4)
        self.project = nn.Linear(width, dim)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embed texts."""
        bias = (input_ids == self.pad_id).float()[:, None, None, :] * -1e4
        x = self.embed(input_ids) + self.position[: input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias)
        return unit(self.project(self.pool(self.norm(x), bias)).float())


class DualTower(nn.Module):
    """Both towers with the learned scale and bias."""

    def __init__(self, vision: VisionTower, text: TextTower, scale: float, bias: float) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Return scale * cosine + bias of unit vectors, shape (pictures, texts)."""
        return pictures @ texts.T * self.log_scale.exp() + self.bias


def sigmoid_loss(logits: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """SigLIP's pairwise loss with a truth of three values, summed over pairs per picture.

    Args:
        logits: Shape (pictures, texts).
        truth: 1 match, 0 no match, 0.5 neither right nor wrong (left out).
        weight: Weight of each text, shape (texts,).
    """
    sign = truth * 2 - 1  # 0 where it does not matter.
    loss = -functional.logsigmoid(sign * logits) * sign.abs()
    if weight is not None:
        loss = loss * weight
    return loss.sum() / logits.shape[0]

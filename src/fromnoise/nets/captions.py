"""A small Transformer that reads captions, trained along with what it conditions.

The first position stands for the whole caption: its output is the pooled vector. It is never masked, so
that the empty caption (all padding), which means "no caption" in guidance, has a vector too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = 2  # layers: self-attention without padding, then an MLP (Vaswani et al. 2017, pre-norm)


class CaptionEncoder(nn.Module):
    """Tokens (B, L), 0: padding -> pooled (B, width), sequence (B, 1 + L, width), zero for padding.

    length, vocabulary: L and V, as ``DataSpec.caption`` has them.
    """

    def __init__(self, length: int, vocabulary: int, width: int, heads: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        places = torch.empty(1 + length, width)  # "red left of blue" is not "blue left of red"
        self.places = nn.Parameter(nn.init.normal_(places, std=0.5))
        self.layers = nn.ModuleList(CaptionLayer(width, heads) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mask = F.pad(tokens != 0, (1, 0), value=True)  # (B, 1 + L)
        x = F.pad(self.words(tokens), (0, 0, 1, 0)) + self.places  # (B, 1 + L, width)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x) * mask[..., None]
        return x[:, 0], x


class CaptionLayer(nn.Module):
    """x (B, T, width), mask (B, T) -> (B, T, width)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        qkv = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, width / heads)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        x = x + self.out(read.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))

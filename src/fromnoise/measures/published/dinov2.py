"""DINOv2 vision transformers (Oquab et al. 2023, arXiv 2304.07193): the features of FD-DINOv2
(Stein et al. 2023, arXiv 2306.04675).

Modules carry the names of the Hugging Face files, in which query, key and value stand apart. Images
come as dgm-eval, the code of Stein et al., brings them: Pillow's bicubic to 224 x 224, ImageNet's
mean and standard deviation. That makes 16 x 16 patches, for which the stored embeddings of
positions, a 37 x 37 grid, are interpolated bicubically without antialias at the scale (16 + 0.1) /
37 instead of 16 / 37: the 0.1 once guarded the size of the result against rounding, also moves
where the grid is read, and stands in the network of facebookresearch/dinov2, which dgm-eval runs.
Hugging Face's own code (transformers 5) has dropped it and gives slightly other features for the
same file.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inception import pil_bicubic

PATCH, SIDE, HEAD = 14, 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {384: ("vits14", 12), 768: ("vitb14", 12), 1024: ("vitl14", 24)}  # width: name, layers


class Embeddings(nn.Module):
    """(B, 3, 14 h, 14 h) -> tokens (B, 1 + h h, width), the class token first."""

    def __init__(self, width: int, grid: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, PATCH, PATCH)})
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](x)  # B width h h
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(2).mT], 1)
        return tokens + self.positions(patches.shape[-1])

    def positions(self, h: int) -> Tensor:
        """(1, 1 + h h, width): those of a h x h grid; the class token's is untouched."""
        if h == self.grid:
            return self.position_embeddings
        first, rest = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        rest = rest.mT.unflatten(2, (self.grid, self.grid))  # 1 width grid grid
        rest = F.interpolate(rest, scale_factor=(h + 0.1) / self.grid, mode="bicubic")
        return torch.cat([first, rest.flatten(2).mT], 1)


class DINOv2Layer(nn.Module):
    """h + a attention(norm(h)), then h + b mlp(norm(h)), with a and b learned for each channel."""

    def __init__(self, width: int):
        super().__init__()

        def linear(a=1, b=1):
            return nn.Linear(a * width, b * width)

        def scale():
            return nn.ParameterDict({"lambda1": torch.ones(width)})

        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        projections = nn.ModuleDict({"query": linear(), "key": linear(), "value": linear()})
        self.attention = nn.ModuleDict(
            {"attention": projections, "output": nn.ModuleDict({"dense": linear()})}
        )
        self.mlp = nn.ModuleDict({"fc1": linear(1, 4), "fc2": linear(4, 1)})
        self.layer_scale1, self.layer_scale2 = scale(), scale()

    def attend(self, h: Tensor) -> Tensor:
        def heads(name):
            return self.attention["attention"][name](h).unflatten(2, (-1, HEAD)).transpose(1, 2)

        # B heads T 64
        mixed = F.scaled_dot_product_attention(heads("query"), heads("key"), heads("value"))
        return self.attention["output"]["dense"](mixed.transpose(1, 2).flatten(2))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.layer_scale1["lambda1"] * self.attend(self.norm1(h))
        return h + self.layer_scale2["lambda1"] * self.mlp["fc2"](
            F.gelu(self.mlp["fc1"](self.norm2(h)))
        )


class DINOv2(nn.Module):
    """(B, 3, 224, 224), normalised -> (B, width): the class token after the last norm. grid: side
    of the stored positions.

    unused: shapes of what a file may hold beside it.
    """

    def __init__(self, width: int, grid: int = 37):
        super().__init__()
        self.dims, self.unused = width, {"embeddings.mask_token": (1, width)}
        self.embeddings = Embeddings(width, grid)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(DINOv2Layer(width) for _ in range(SIZES[width][1]))}
        )
        self.layernorm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embeddings(x)
        for layer in self.encoder["layer"]:
            h = layer(h)
        return self.layernorm(h[:, 0])


def in_bytes(levels: Tensor) -> Tensor:
    """Pillow's bicubic on 8-bit images, dgm-eval's default: rounded to levels again."""
    return pil_bicubic(levels.byte(), SIDE).float()


def clean(levels: Tensor) -> Tensor:
    """The same on float levels, cut to 0 .. 255: dgm-eval's option --clean_resize."""
    return pil_bicubic(levels, SIDE).clamp(0, 255)


RESIZES = {"pil-bicubic": in_bytes, "clean": clean}


def prepare(levels: Tensor, resize: str) -> Tensor:
    """Levels 0 .. 255 as float32 (B, 1 or 3, H, W) -> the network's input (B, 3, 224, 224). Grey is
    repeated.
    """

    def per_channel(values):
        return torch.tensor(values).view(3, 1, 1)

    return (RESIZES[resize](levels) / 255 - per_channel(MEAN)) / per_channel(STD)

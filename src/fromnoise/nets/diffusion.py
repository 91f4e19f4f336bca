"""The network of a diffusion model, by its name."""

from torch import nn

from ..core.errors import UsageError
from ..core.spec import DataSpec
from .denoiser import MLPDenoiser, PatchTransformer, attention_heads
from .unet import UNet


def make_network(
    name: str,
    spec: DataSpec,
    width: int | None,
    depth: int | None,
    middle: int | None,
    heads: int | None,
    patch: int | None,
    waves: int,
    **inputs,
) -> nn.Module:
    """name: unet, transformer, mlp or auto; None: a default. inputs: condition_size, two_levels,
    guess. Raises UsageError.
    """
    if name == "auto":
        name = "unet" if spec.kind == "image" else "mlp"
    if name != "mlp" and spec.kind != "image":
        raise UsageError(f"--network {name} is for images: use mlp for this data")
    width = width or (64 if name == "unet" else 128)
    depth = depth or (1 if name == "unet" else 4)
    if name == "mlp":
        return MLPDenoiser(spec.dims, width, depth, waves=waves, **inputs)
    if name == "unet":
        return UNet(spec.shape, width, depth, middle=middle, **inputs)
    heads = heads or attention_heads(width)
    if width % heads:
        raise UsageError(f"--heads {heads} does not divide --width {width}")
    return PatchTransformer(spec.shape, width, depth, heads, patch or default_patch(spec), **inputs)


def default_patch(spec: DataSpec) -> int:
    """Side of a patch in pixels."""
    side = max(spec.shape[1:])
    if side < 16:
        return 2
    return 4 if side < 64 else 8

"""The feature networks that published numbers are measured with, for those who have their weights
on disk.

Nothing is downloaded and no pickle is read. A .pth file becomes a safetensors file by this command,
which its owner runs:

    python -c "from torch import load; from safetensors.torch import save_file; save_file(
        {k: v.contiguous() for k, v in
         load('weights.pth', map_location='cpu', weights_only=True).items()}, 'weights.safetensors')"

Which network a file holds is read off the names of its tensors:

    inception-2015   FID's Inception-v3 of 2015-12-05, (n, 2048); resize: tf1-bilinear
                     (torch-fidelity), clean (clean-fid)
    dinov2-vitX14    DINOv2 with X = s, b or l, (n, 384), (n, 768) or (n, 1024); resize: pil-bicubic
                     (dgm-eval), clean

The resize changes the numbers, so that it is part of the map's name, as are the first digits of the
file's sha256.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...core.errors import DataError, UsageError, did_you_mean
from ...core.files import sha256
from . import dinov2, inception

BATCH = 16  # images at once: fixed, since kernels round differently for different sizes


@dataclass(frozen=True)
class PublishedNet:
    """A feature map (see features.py). name: "inception-2015/tf1-bilinear/0123456789ab"; prepare:
    levels -> net's input.
    """

    name: str
    dims: int
    net: nn.Module
    prepare: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Images (n, 1 or 3, H, W) in [-1, 1] -> features (n, dims), float64.

        Published numbers are of image files, so pixels are cut to [-1, 1] and rounded to the
        nearest of 256 levels. Raises UsageError for other shapes and DataError for pixels that are
        not finite.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UsageError(
                f"{self.name} sees images (n, 1 or 3, H, W), not {tuple(x.shape)}: choose another "
                "feature map"
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError(
                f"some images have pixels that are not finite: {self.name} has no features for them"
            )
        levels = (127.5 * (x.float().cpu().clamp(-1, 1) + 1)).round()
        features = torch.empty(len(x), self.dims, dtype=torch.float64)
        for i in range(0, len(x), BATCH):
            features[i : i + BATCH] = self.net(self.prepare(levels[i : i + BATCH]))
        return features


def load_published(
    path: Path, expected_sha256: str | None, resize: str | None = None
) -> PublishedNet:
    """The network in a safetensors file whose sha256 is the expected one.

    resize: None for the first of its kind in the table above. Raises UsageError (no such file, no
    digest or resize given) and DataError (another digest, damaged, not one of the networks), in one
    line.
    """
    path = Path(path)
    digest = _checked_digest(path, expected_sha256)
    try:
        with safe_open(path, framework="pt") as file:
            name, module, net = _read_network(path, file)
    except SafetensorError as error:
        raise DataError(
            f"{path} is damaged or no safetensors file ({error}): "
            "fromnoise/measures/published/networks.py says how to make one"
        ) from None
    resize = resize or next(iter(module.RESIZES))
    if resize not in module.RESIZES:
        raise UsageError(
            f"{name} has no resize '{resize}': choose from "
            f"{', '.join(module.RESIZES)}.{did_you_mean(resize, module.RESIZES)}"
        )
    full_name = f"{name}/{resize}/{digest[:12]}"
    prepare = partial(module.prepare, resize=resize)
    return PublishedNet(full_name, net.dims, net.eval(), prepare)


def _checked_digest(path: Path, expected_sha256: str | None) -> str:
    """The sha256 of the file. Raises UsageError, DataError if it is not the expected one."""
    if not path.is_file():
        raise UsageError(
            f"there is no weights file {path}: this package downloads none, name one that you have"
        )
    digest = sha256(path)
    if expected_sha256 is None:
        raise UsageError(
            f"no sha256 given for {path}: if you trust where it comes from, give {digest}"
        )
    if expected_sha256.lower() != digest:
        raise DataError(
            f"{path} is not the file that was asked for: expected sha256 {expected_sha256}, found "
            f"{digest}"
        )
    return digest


def _read_network(path: Path, file) -> tuple:
    """Name, module, and the network with its weights, of an open safetensors file. Raises DataError."""
    # files of Hugging Face may hold a head beside the network, which has a prefix then
    prefix = "dinov2." if any(key.startswith("dinov2.") for key in file.keys()) else ""
    keys = {key.removeprefix(prefix): key for key in file.keys() if key.startswith(prefix)}
    shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in keys.items()}
    name, module, net = _recognise(path, shapes)
    weights = {}
    for key in _match(path, name, shapes, net):
        weights[key] = file.get_tensor(keys[key]).to(torch.float32, copy=True)
    net.load_state_dict(weights, assign=True)
    return name, module, net


def _recognise(path: Path, shapes: dict) -> tuple:
    """Name, module, and the network on the meta device. Raises DataError."""
    positions = shapes.get("embeddings.position_embeddings", ())
    with torch.device("meta"):
        if "Conv2d_1a_3x3.conv.weight" in shapes:
            return "inception-2015", inception, inception.Inception()
        if len(positions) == 3 and positions[1] > 1 and positions[2] in dinov2.SIZES:
            _, tokens, width = positions
            return (
                f"dinov2-{dinov2.SIZES[width][0]}",
                dinov2,
                dinov2.DINOv2(width, grid=math.isqrt(tokens - 1)),
            )
    some = ", ".join(sorted(shapes)[:3]) or "no tensor"
    raise DataError(
        f"{path} holds neither FID's Inception-v3 nor a DINOv2 of 384, 768 or 1024 channels, but "
        f"{some} ..."
    )


def _match(path: Path, name: str, shapes: dict, net: nn.Module) -> list[str]:
    """The names of the tensors to read. Raises DataError naming the first that is missing,
    misshapen or too much.
    """

    def counter(key):
        # of training; some files have them, nothing reads them
        return key.endswith(".num_batches_tracked")

    wanted = {
        key: tuple(value.shape) for key, value in net.state_dict().items() if not counter(key)
    }
    known = wanted | net.unused
    wrong = {
        "lacks": [key for key in wanted if key not in shapes],
        "has another shape of": [
            f"{key} {shapes[key]} instead of {known[key]}"
            for key in known
            if shapes.get(key, known[key]) != known[key]
        ],
        "has beyond it": [key for key in sorted(shapes) if key not in known and not counter(key)],
    }
    for what, those in wrong.items():
        if those:
            more = f" and {len(those) - 1} more" if len(those) > 1 else ""
            raise DataError(f"{path} is no {name}: it {what} {those[0]}{more}")
    return list(wanted)

"""Reconstructions of test images or of the user's images.

For a decoder without an encoder, the latent vector of each image is found by optimisation (invert.py).
"""

from pathlib import Path

import torch
from torch import Tensor

from ..core.capabilities import Reconstructs, has
from ..core.config import build
from ..core.errors import UsageError
from ..core.files import make_folder, write_atomic
from ..core.images import image_grid, png_bytes, stack_rows
from ..core.rng import Rng
from ..core.spec import Batch, Labels
from ..data.config import FolderOptions
from ..runs.load import LoadedRun
from .invert import invert, why_not

COLUMNS = 16


@torch.no_grad()
def reconstruct(
    loaded: LoadedRun, n: int, images: Path | None = None, out: Path | None = None
) -> tuple[Path, float, int, str]:
    """Writes an image of inputs above their reconstructions.

    Returns its path, the mean squared error per pixel in [0, 1], the number of examples, and the
    method of the reconstruction ("by the encoder"). Raises UsageError, DataError.
    """
    dataset = loaded.dataset
    if dataset.spec.kind != "image":
        raise UsageError("reconstruct draws images: for this data use run.reconstruct(x) in Python")
    check_reconstructs(loaded)
    if loaded.model.conditional and images is not None:
        raise UsageError(
            "this model needs labels, and pictures of your own have none: leave --images out"
        )
    if images is None:
        batch = dataset.batch("test", slice(0, n), device=loaded.device)
    else:
        batch = Batch(own_images(loaded, images, n).to(loaded.device))
    x = batch.x
    x_hat, method = reconstruct_batch(loaded, x, batch.y)
    mse = float((0.5 * (x_hat - x)).square().mean())
    rows = stack_rows([dataset.to_pixels(x), dataset.to_pixels(x_hat)], COLUMNS)
    target = out or loaded.run.path / "samples" / f"reconstruct-step-{loaded.step}.png"
    if target.suffix.lower() != ".png":
        raise UsageError(f"-o {target}: the picture is written as .png")
    make_folder(target.parent)
    write_atomic(target, png_bytes(image_grid(rows, min(COLUMNS, len(x)))))
    loaded.run.record_outputs([target])
    return target, mse, len(x), method


def check_reconstructs(loaded: LoadedRun) -> None:
    """Raises UsageError unless the model has an encoder, or can be inverted."""
    if not has(loaded.model, Reconstructs) and (reason := why_not(loaded.model)):
        raise UsageError(
            f"the family {loaded.run.record.family} does not reconstruct: it has no encoder, and "
            f"{reason}"
        )


def reconstruct_batch(loaded: LoadedRun, x: Tensor, y: Labels) -> tuple[Tensor, str]:
    """Reconstructions of x (B, *shape) with labels y, and the method in words. Raises UsageError."""
    check_reconstructs(loaded)
    model = loaded.model
    if has(model, Reconstructs):
        return model.reconstruct(x, y), "by the encoder"
    rng = Rng(0, ("reconstruct",), device=loaded.device)
    inversion = invert(model, x, y, loaded.family.Options(), rng)
    return inversion.x_hat, inversion.how


def own_images(loaded: LoadedRun, folder: Path, n: int) -> Tensor:
    """The first n images of a folder in the size and range of the run's data, (n, *shape)."""
    from ..data.sources.folder import read_images

    channels, height, width = loaded.dataset.spec.shape
    if height != width:
        raise UsageError(
            "this run's images are not square, and pictures of a folder are brought to squares: "
            "leave --images out"
        )
    settings = loaded.run.record.data.settings
    known = {name: settings[name] for name in settings if name in FolderOptions.model_fields}
    options = build(FolderOptions, known)
    x = torch.from_numpy(read_images(folder, n, height, channels, options)).float() / 127.5 - 1
    return torch.where(x > 0, 1.0, -1.0) if loaded.dataset.spec.levels == 2 else x

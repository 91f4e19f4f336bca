"""From a run and images, its own or the user's, to rows of inputs and reconstructions.

A model that decodes but does not encode reconstructs too: the z of each image is searched for
(invert.py).
"""

from pathlib import Path

import torch

from ..core.capabilities import Reconstructs, has
from ..core.config import build
from ..core.errors import UsageError
from ..core.files import make_folder, write_atomic
from ..core.images import image_grid, png_bytes, stack_rows
from ..core.rng import Rng
from ..data.config import FolderOptions
from ..runs.load import LoadedRun
from .invert import invert, why_not

COLUMNS = 16


@torch.no_grad()
def reconstruct(
    loaded: LoadedRun, n: int, images: Path | None = None, out: Path | None = None
) -> tuple[Path, float, int, str]:
    """Writes a picture with inputs above their reconstructions. Returns it, the mean squared error
    per pixel in [0, 1], the number of examples, and in words how they were found ("by the
    encoder"). Raises UsageError, DataError.
    """
    dataset, model = loaded.dataset, loaded.model
    if dataset.spec.kind != "image":
        raise UsageError("reconstruct draws images: for this data use run.reconstruct(x) in Python")
    if not has(model, Reconstructs) and (reason := why_not(model)):
        raise UsageError(
            f"the family {loaded.run.record.family} does not reconstruct: it has no encoder, and "
            f"{reason}"
        )
    if model.conditional and images is not None:
        raise UsageError(
            "this model needs labels, and pictures of your own have none: leave --images out"
        )
    if images is None:
        batch = dataset.batch("test", slice(0, n), device=loaded.device)
        x, y = batch.x, batch.y
    else:
        x, y = own_images(loaded, images, n).to(loaded.device), None
    if has(model, Reconstructs):
        x_hat, how = model.reconstruct(x, y), "by the encoder"
    else:
        found = invert(
            model, x, y, loaded.family.Options(), Rng(0, ("reconstruct",), device=loaded.device)
        )
        x_hat, how = found.x_hat, found.how
    mse = float((0.5 * (x_hat - x)).square().mean())
    rows = stack_rows([dataset.to_pixels(x), dataset.to_pixels(x_hat)], COLUMNS)
    target = out or loaded.run.path / "samples" / f"reconstruct-step-{loaded.step}.png"
    if target.suffix.lower() != ".png":
        raise UsageError(f"-o {target}: the picture is written as .png")
    make_folder(target.parent)
    write_atomic(target, png_bytes(image_grid(rows, min(COLUMNS, len(x)))))
    loaded.run.record_outputs([target])
    return target, mse, len(x), how


def own_images(loaded: LoadedRun, folder: Path, n: int) -> torch.Tensor:
    """The first n pictures of a folder, brought to the form of the run's data, in model form."""
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

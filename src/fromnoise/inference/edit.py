"""Examples changed by a model: parts of them filled in, redrawn from a share of noise, varied, one
turned into another.

What comes of example i in its draw k depends on the example, (seed, i, k) and its label only.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.capabilities import Completes, Denoises, has
from ..core.config import build
from ..core.errors import DataError, UsageError
from ..core.files import make_folder, write_atomic
from ..core.limits import refuse_larger
from ..core.picture import image_grid, png_bytes, under_each_other
from ..core.rng import Rng
from ..data.dataset import DataConfig
from ..data.formats.pictures import FORMATS, attempted, size_of
from ..probability.diffusion.editing import slerp
from ..runs.load import LoadedRun
from .reconstruct import own_images
from .sample import in_own_units, write

# examples that are changed together, the last block filled up: kernels round differently for other
# batch sizes
BLOCK = 16
STEPS = 40  # that carry an example to noise and back so that it is the same to the eye
PARTS = {  # of an image of height H and width W, what is filled in: rows, columns
    "left": lambda H, W: (slice(None), slice(0, W // 2)),
    "right": lambda H, W: (slice(None), slice(W // 2, None)),
    "top": lambda H, W: (slice(0, H // 2), slice(None)),
    "bottom": lambda H, W: (slice(H // 2, None), slice(None)),
    "centre": lambda H, W: (slice(H // 4, H - H // 4), slice(W // 4, W - W // 4)),
}


# -- the four edits ------------------------------------------------------------------------------------------


def complete(
    loaded: LoadedRun,
    x: Tensor,
    fill,
    y: Tensor | None = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """x (N, *shape) with what ``fill`` names (``open_part``) filled in anew, the rest as it was:
    (N, draws, *shape).

    All of these: y (N,) labels of a conditional model; options of its sampler. Raises UsageError,
    DataError.
    """
    needs(loaded, Completes, "fills nothing in: diffusion and auto-regressive models do")
    known = ~open_part(fill, loaded.dataset.spec).to(x.device)

    def change(x, y, given, rng):
        return loaded.model.complete(x, known.expand(x.shape), y, given, rng)

    return changed(loaded, x, y, draws, seed, options, change)


def redraw(
    loaded: LoadedRun,
    x: Tensor,
    strength: float,
    y: Tensor | None = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """x brought to the share ``strength`` of noise, in (0, 1], and denoised again: near 0 it stays,
    at 1 nothing of it is left.
    """
    needs_noise(loaded)
    share_of(strength, "strength")

    def change(x, y, given, rng):
        z = rng.normal("z", x.shape)
        return loaded.model.denoised(loaded.model.noised(x, strength, z), strength, y, given, rng)

    return changed(loaded, x, y, draws, seed, options, change)


def vary(
    loaded: LoadedRun,
    x: Tensor,
    amount: float,
    y: Tensor | None = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """The noise that belongs to x turned by ``amount`` in (0, 1] towards fresh noise, and back: 1
    is a new sample.

    Unlike ``redraw`` it keeps no pixels: what looks like x lies in noise near that of x.
    """
    needs_noise(loaded)
    share_of(amount, "amount")
    options = exact(loaded, options)
    z = changed(
        loaded,
        x,
        y,
        1,
        seed,
        options,
        lambda x, y, given, rng: loaded.model.to_noise(x, y, given),
    )[:, 0]

    def change(z, y, given, rng):
        fresh = rng.normal("z", z.shape)
        turned = torch.stack(
            [slerp(a.flatten(), b.flatten(), a.new_tensor([amount]))[0] for a, b in zip(z, fresh)]
        )
        return from_noise(loaded.model, turned.view(z.shape), y, given, rng)

    return changed(loaded, z, y, draws, seed, options, change)


def between(
    loaded: LoadedRun,
    a: Tensor,
    b: Tensor,
    n: int,
    y: Tensor | None = None,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """From a to b (N, *shape) along a great circle of the noise that belongs to them: (N, n,
    *shape), both ends included.
    """
    needs_noise(loaded)
    if n < 2:
        raise UsageError(
            f"between two images there are 2 pictures or more, their own included, not {n}"
        )
    refuse_larger(16 * a.numel() * n, f"{n} pictures between each two of {len(a)}", "ask for fewer")
    t = torch.linspace(0, 1, n, device=a.device)

    def change(ends, y, given, rng):
        z = loaded.model.to_noise(
            ends.flatten(0, 1), None if y is None else y.repeat_interleave(2, 0), given
        ).view(ends.shape)
        way = torch.stack([slerp(*pair.flatten(1), t) for pair in z]).view(len(z), n, *a.shape[1:])
        made = [from_noise(loaded.model, way[:, i], y, given, rng.at(i)) for i in range(n)]
        return torch.stack(made, 1)

    return changed(loaded, torch.stack([a, b], 1), y, 1, seed, exact(loaded, options), change)[:, 0]


# -- what they share -----------------------------------------------------------------------------------------


@torch.no_grad()
def changed(
    loaded: LoadedRun,
    x: Tensor,
    y: Tensor | None,
    draws: int,
    seed: int,
    options: dict | None,
    change: Callable,
) -> Tensor:
    """change(x, y, options, rng) for blocks of x (N, ...), ``draws`` times: (N, draws, ...)."""
    if draws < 1:
        raise UsageError(f"--draws takes a number from 1 on, not {draws}")
    if not len(x):
        raise UsageError("no examples were given to change: give one or more")
    refuse_larger(
        16 * x.numel() * draws, f"{draws} draws of each of {len(x)} examples", "ask for fewer"
    )
    given, made = build(loaded.family.Options, options or {}), []
    rng = Rng(seed, ("edit",), device=loaded.device)
    for start in range(0, len(x), BLOCK):
        # the last one again and again
        rows = torch.arange(start, start + BLOCK).clamp(max=len(x) - 1)
        labels = None if y is None else y[rows]
        each = [
            change(x[rows], labels, given, rng.at(k).per_row(range(start, start + BLOCK)))
            for k in range(draws)
        ]
        made.append(torch.stack(each, 1)[: len(x) - start])
    return torch.cat(made)


def exact(loaded: LoadedRun, options: dict | None) -> dict:
    """Options with enough steps and a sampler without noise, unless they are given, to carry an
    example to noise and back as it was.
    """
    known = loaded.family.Options.model_fields
    return {
        name: value for name, value in (("steps", STEPS), ("sampler", "dpm")) if name in known
    } | (options or {})


def from_noise(model: Denoises, z: Tensor, y: Tensor | None, options, rng: Rng) -> Tensor:
    return model.denoised(model.noised(torch.zeros_like(z), 1.0, z), 1.0, y, options, rng)


def needs(loaded: LoadedRun, capability, said: str) -> None:
    if not has(loaded.model, capability):
        if loaded.family.second:
            raise UsageError(
                f"{loaded.run.path} works on the codes of another run, and only a model of the "
                "images themselves can edit them: give a run that was trained without --within"
            )
        raise UsageError(f"the family {loaded.run.record.family} {said}")


def needs_noise(loaded: LoadedRun) -> None:
    needs(loaded, Denoises, "does not see through noise: diffusion and flow models do")


def share_of(value: float, name: str) -> None:
    if not 0 < value <= 1:  # NaN too
        raise UsageError(f"{name} is a share of noise above 0 and up to 1, not {value}")


def open_part(fill, spec) -> Tensor:
    """What is to be filled in, True, in the form of one example.

    fill  of images: left, right, top, bottom, centre, the path of a picture whose white part it is,
          or (H, W) bool; of vectors (D,) bool
    Raises UsageError, DataError (a picture that cannot be read).
    """
    side = spec.shape[1:] if spec.kind == "image" else spec.shape
    if isinstance(fill, str) and fill in PARTS and spec.kind == "image":
        mask = np.zeros(side, bool)
        mask[PARTS[fill](*side)] = True
    elif isinstance(fill, str | Path) and spec.kind == "image":
        mask = white_part(Path(fill))
    else:
        mask = np.asarray(fill)
    if mask.shape != side:
        said = " x ".join(map(str, mask.shape[::-1])) if mask.ndim else str(fill)
        raise UsageError(
            f"the mask has the size {said}, and the data {' x '.join(map(str, side[::-1]))}: bring "
            "it to that size"
        )
    if mask.dtype != bool:
        raise UsageError("a mask is an array of True, what is to be filled in, and False")
    if not mask.any():
        raise UsageError(
            "the mask leaves nothing to fill in: what is white in it, or True, is filled in"
        )
    return torch.from_numpy(mask).expand(spec.shape)


def white_part(path: Path) -> np.ndarray:
    """(H, W) bool of a picture. Raises UsageError, DataError."""
    if not path.is_file():
        raise UsageError(
            f"there is no mask {path}: name {', '.join(PARTS)}, or a picture whose white part is "
            "to be filled in"
        )

    def read(path: Path) -> np.ndarray:
        size_of(path, DataConfig().max_pixels)
        with Image.open(path, formats=FORMATS) as image:
            visible = image.convert("RGBA")  # what is transparent is not white
            return (
                np.asarray(
                    Image.alpha_composite(
                        Image.new("RGBA", visible.size, "black"), visible
                    ).convert("L")
                )
                >= 128
            )

    found = attempted(read, path)
    if isinstance(found, str):
        raise DataError(f"the mask {path} cannot be read ({found}): name another picture")
    return found


# -- from and to disk ----------------------------------------------------------------------------------------


def chosen(
    loaded: LoadedRun, n: int, images: Path | None = None, label: str | None = None
) -> tuple[Tensor, Tensor | None]:
    """Images to change, the first of a folder or of the test split, and what a conditional model is
    told: their labels, or one for all.

    label: a class's name or number. Test images of a class that has no training example are passed
    over where a model would be told their labels. Raises UsageError, DataError.
    """
    dataset, spec = loaded.dataset, loaded.dataset.spec
    if spec.kind != "image":
        raise UsageError(
            "edit changes images: for other data use run.complete, run.redraw, run.vary and "
            "run.between in Python"
        )
    conditional = loaded.model.conditional
    if label is not None and not (conditional and spec.classes):
        raise UsageError("this model was not trained with labels: leave --label out")
    if images is not None and conditional and label is None:
        raise UsageError(
            (
                "this model needs to be told what to draw, and pictures of your own have no labels: "
                "add --label"
            )
            if spec.classes
            else "this model needs captions, and pictures of your own have none: leave --images out"
        )
    if images is None:
        rows = slice(0, n)
        if (
            conditional and label is None and spec.classes
        ):  # a label that was never learned says nothing to the model
            learned = np.flatnonzero(np.isin(dataset.split("test").labels, dataset.learned_classes))
            rows = learned[:n].tolist()
            if not rows:
                raise UsageError(
                    "no test image is of a class that has training examples: add --label"
                )
        batch = dataset.batch("test", rows, device=loaded.device)
        x, y = batch.x, batch.y if conditional else None
    else:
        x, y = own_images(loaded, images, n).to(loaded.device), None
    if label is not None:
        number = dataset.class_number(label)
        dataset.require_learned_classes([number])
        y = torch.full((len(x),), number, device=loaded.device)
    return x, y


def save(
    loaded: LoadedRun, x: Tensor, made: Tensor, target: Path, fill=None, columns: int = 16
) -> list[Path]:
    """Writes images made of x: .png as a sheet, other endings as ``sample.write`` does. Returns the
    files.

    x     (N, *shape): a column each, on top, what is filled in grey, above its draws ``made`` (N,
          draws, *shape); (N, 2, *shape): a line for each pair, its way ``made`` between the two
    """
    dataset = loaded.dataset
    if target.suffix.lower() != ".png":
        return write(dataset, made.flatten(0, 1), target)
    if x.ndim == made.ndim:
        way = torch.cat([x[:, :1], made, x[:, 1:]], 1)
        picture = image_grid(in_own_units(dataset, way.flatten(0, 1)), way.shape[1])
    else:
        above = in_own_units(dataset, x)
        if fill is not None:
            hidden = open_part(fill, dataset.spec)[0].numpy()
            above = np.where(hidden if above.ndim == 3 else hidden[..., None], np.uint8(128), above)
        rows = under_each_other(
            [above, *(in_own_units(dataset, made[:, k]) for k in range(made.shape[1]))], columns
        )
        picture = image_grid(rows, min(columns, len(x)))
    make_folder(target.parent)
    write_atomic(target, png_bytes(picture))
    return [target]

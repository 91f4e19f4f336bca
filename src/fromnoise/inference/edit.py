"""Editing examples with a model: parts filled in, redrawn from noise, varied, interpolated.

The result for example i in draw k depends on the example, (seed, i, k) and its label only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.capabilities import Completes, Denoises, has
from ..core.config import build
from ..core.errors import UsageError
from ..core.limits import check_memory
from ..core.rng import Rng
from ..core.spec import Labels
from ..probability.diffusion.editing import slerp
from ..runs.load import LoadedRun
from .batches import fixed_blocks
from .masks import build_mask

BLOCK = 16  # examples that are edited together
# Options with which an example that goes to noise and back looks the same as before.
ROUND_TRIP = {"steps": 40, "sampler": "dpm"}


def complete(
    loaded: LoadedRun,
    x: Tensor,
    fill,
    y: Labels = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """Fills in the part ``fill`` (see ``build_mask``) of x (N, *shape): (N, draws, *shape).

    y (N,): labels for a conditional model; options: of its sampler. These are the same for all
    edits. Raises UsageError, DataError.
    """
    require(loaded, Completes, "fills nothing in: diffusion and auto-regressive models do")
    known = ~build_mask(fill, loaded.dataset.spec).to(x.device)

    def edit(x, y, options, rng):
        return loaded.model.complete(x, known.expand(x.shape), y, options, rng)

    return edit_in_blocks(loaded, x, y, draws, seed, options, edit)


def redraw(
    loaded: LoadedRun,
    x: Tensor,
    strength: float,
    y: Labels = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """Adds noise to x up to the level ``strength`` in (0, 1] and denoises it again (SDEdit).

    Near 0 x hardly changes, at 1 nothing of it is left. Returns (N, draws, *shape).
    """
    require_denoiser(loaded)
    check_level(strength, "strength")

    def edit(x, y, options, rng):
        z = rng.normal("z", x.shape)
        noisy = loaded.model.noised(x, strength, z)
        return loaded.model.denoised(noisy, strength, y, options, rng)

    return edit_in_blocks(loaded, x, y, draws, seed, options, edit)


def vary(
    loaded: LoadedRun,
    x: Tensor,
    amount: float,
    y: Labels = None,
    draws: int = 1,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """Rotates the noise that x encodes to by ``amount`` in (0, 1] towards fresh noise; 1: a new sample.

    Unlike ``redraw`` it keeps no pixels: examples that look like x have noise near that of x.
    Returns (N, draws, *shape).
    """
    require_denoiser(loaded)
    check_level(amount, "amount")
    options = round_trip_options(loaded, options)

    def encode(x, y, options, rng):
        return loaded.model.to_noise(x, y, options)

    def edit(z, y, options, rng):
        fresh = rng.normal("z", z.shape)
        turned = []
        for a, b in zip(z, fresh):
            turned.append(slerp(a.flatten(), b.flatten(), a.new_tensor([amount]))[0])
        return from_noise(loaded.model, torch.stack(turned).view(z.shape), y, options, rng)

    z = edit_in_blocks(loaded, x, y, 1, seed, options, encode)[:, 0]
    return edit_in_blocks(loaded, z, y, draws, seed, options, edit)


def between(
    loaded: LoadedRun,
    a: Tensor,
    b: Tensor,
    n: int,
    y: Labels = None,
    seed: int = 0,
    options: dict | None = None,
) -> Tensor:
    """Interpolates from a to b (N, *shape) along a great circle of their noise, ends included.

    Returns (N, n, *shape).
    """
    require_denoiser(loaded)
    if len(a) != len(b):
        raise UsageError(
            f"{len(a)} examples a and {len(b)} examples b were given: give as many of both"
        )
    if n < 2:
        raise UsageError(
            f"between two images there are 2 images or more, their own included, not {n}"
        )
    check_memory(16 * a.numel() * n, f"{n} images between each two of {len(a)}", "ask for fewer")
    t = torch.linspace(0, 1, n, device=a.device)

    def edit(ends, y, options, rng):
        labels = None if y is None else y.repeat_interleave(2, 0)
        z = loaded.model.to_noise(ends.flatten(0, 1), labels, options).view(ends.shape)
        path = torch.stack([slerp(*pair.flatten(1), t) for pair in z])
        path = path.view(len(z), n, *a.shape[1:])
        images = []
        for i in range(n):
            images.append(from_noise(loaded.model, path[:, i], y, options, rng.at(i)))
        return torch.stack(images, 1)

    ends = torch.stack([a, b], 1)
    options = round_trip_options(loaded, options)
    return edit_in_blocks(loaded, ends, y, 1, seed, options, edit)[:, 0]


# -- shared by all edits ---------------------------------------------------------------------------


@torch.no_grad()
def edit_in_blocks(
    loaded: LoadedRun,
    x: Tensor,
    y: Labels,
    draws: int,
    seed: int,
    options: dict | None,
    edit: Callable,
) -> Tensor:
    """edit(x, y, options, rng) of blocks of x (N, ...), ``draws`` times: (N, draws, ...)."""
    if draws < 1:
        raise UsageError(f"--draws takes a number from 1 on, not {draws}")
    if not len(x):
        raise UsageError("no examples were given to change: give one or more")
    check_memory(
        16 * x.numel() * draws, f"{draws} draws of each of {len(x)} examples", "ask for fewer"
    )
    options = build(loaded.family.Options, options or {})
    rng = Rng(seed, ("edit",), device=loaded.device)
    results = []
    for numbers, count in fixed_blocks(len(x), BLOCK):
        rows = torch.tensor(numbers).clamp(max=len(x) - 1)  # the last row fills the block
        labels = None if y is None else y[rows]
        edits = []
        for k in range(draws):
            edits.append(edit(x[rows], labels, options, rng.at(k).per_row(numbers)))
        results.append(torch.stack(edits, 1)[:count])
    return torch.cat(results)


def round_trip_options(loaded: LoadedRun, options: dict | None) -> dict:
    """Options with ROUND_TRIP as defaults, as far as the family has them."""
    names = loaded.family.Options.model_fields
    defaults = {name: value for name, value in ROUND_TRIP.items() if name in names}
    return defaults | (options or {})


def from_noise(model: Denoises, z: Tensor, y: Labels, options, rng: Rng) -> Tensor:
    """The samples that the noise z (B, *shape) is denoised to."""
    return model.denoised(model.noised(torch.zeros_like(z), 1.0, z), 1.0, y, options, rng)


def require(loaded: LoadedRun, capability: type, problem: str) -> None:
    """Raises UsageError unless the model has the capability. problem: "does not ..."."""
    if has(loaded.model, capability):
        return
    if loaded.family.second:
        raise UsageError(
            f"{loaded.run.path} works on the codes of another run, and only a model of the images "
            "themselves can edit them: give a run that was trained without --within"
        )
    raise UsageError(f"the family {loaded.run.record.family} {problem}")


def require_denoiser(loaded: LoadedRun) -> None:
    require(loaded, Denoises, "does not remove noise: diffusion and flow models do")


def check_level(value: float, name: str) -> None:
    """Raises UsageError unless the value is a level of noise in (0, 1]; NaN is none."""
    if not 0 < value <= 1:
        raise UsageError(f"{name} is a share of noise above 0 and up to 1, not {value}")

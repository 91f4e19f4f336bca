"""Editing examples with a model: parts filled in, redrawn from noise, varied, interpolated.

The result for example i in draw k depends on the example, (seed, i, k) and its label only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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


@dataclass(frozen=True)
class Editor:
    """Edits examples x (N, *shape) with the model of a run: (N, draws, *shape).

    y (N,): labels for a conditional model; options: of its sampler. Raises UsageError, DataError.
    """

    loaded: LoadedRun
    y: Labels = None
    draws: int = 1
    seed: int = 0
    options: dict | None = None

    @property
    def model(self) -> Any:
        return self.loaded.model

    def complete(self, x: Tensor, fill) -> Tensor:
        """Fills in the part ``fill`` (see ``build_mask``)."""
        problem = "fills nothing in: diffusion and auto-regressive models do"
        require(self.loaded, Completes, problem)
        known = ~build_mask(fill, self.loaded.dataset.spec).to(x.device)

        def edit(x, y, options, rng):
            return self.model.complete(x, known.expand(x.shape), y, options, rng)

        return self.in_blocks(x, edit)

    def redraw(self, x: Tensor, strength: float) -> Tensor:
        """Adds noise to x up to the level ``strength`` in (0, 1] and denoises it again (SDEdit).

        Near 0 x hardly changes, at 1 nothing of it is left.
        """
        require_denoiser(self.loaded)
        check_level(strength, "strength")
        model = self.model

        def edit(x, y, options, rng):
            noisy = model.noised(x, strength, rng.normal("z", x.shape))
            return model.denoised(noisy, strength, y, options, rng)

        return self.in_blocks(x, edit)

    def vary(self, x: Tensor, amount: float) -> Tensor:
        """Rotates the noise that x encodes to by ``amount`` in (0, 1] towards fresh noise; 1: a new sample.

        Unlike ``redraw`` it keeps no pixels: examples that look like x have noise near that of x.
        """
        require_denoiser(self.loaded)
        check_level(amount, "amount")
        round_trip = self.for_round_trip()

        def encode(x, y, options, rng):
            return self.model.to_noise(x, y, options)

        def edit(z, y, options, rng):
            fresh = rng.normal("z", z.shape)
            turned = []
            for a, b in zip(z, fresh):
                turned.append(slerp(a.flatten(), b.flatten(), a.new_tensor([amount]))[0])
            return from_noise(self.model, torch.stack(turned).view(z.shape), y, options, rng)

        z = replace(round_trip, draws=1).in_blocks(x, encode)[:, 0]
        return round_trip.in_blocks(z, edit)

    def between(self, a: Tensor, b: Tensor, n: int) -> Tensor:
        """Interpolates from a to b (N, *shape) along a great circle of their noise: (N, n, *shape),
        ends included."""
        require_denoiser(self.loaded)
        if len(a) != len(b):
            raise UsageError(
                f"{len(a)} examples a and {len(b)} examples b were given: give as many of both"
            )
        if n < 2:
            raise UsageError(
                f"between two images there are 2 images or more, their own included, not {n}"
            )
        check_memory(
            16 * a.numel() * n, f"{n} images between each two of {len(a)}", "ask for fewer"
        )
        t = torch.linspace(0, 1, n, device=a.device)
        model = self.model

        def edit(ends, y, options, rng):
            labels = None if y is None else y.repeat_interleave(2, 0)
            z = model.to_noise(ends.flatten(0, 1), labels, options).view(ends.shape)
            path = torch.stack([slerp(start.flatten(), end.flatten(), t) for start, end in z])
            path = path.view(len(z), n, *a.shape[1:])
            images = []
            for i in range(n):
                images.append(from_noise(model, path[:, i], y, options, rng.at(i)))
            return torch.stack(images, 1)

        return self.for_round_trip().in_blocks(torch.stack([a, b], 1), edit)[:, 0]

    @torch.no_grad()
    def in_blocks(self, x: Tensor, edit: Callable) -> Tensor:
        """edit(x, y, options, rng) of blocks of x (N, ...), ``draws`` times: (N, draws, ...)."""
        draws = self.draws
        if draws < 1:
            raise UsageError(f"--draws takes a number from 1 on, not {draws}")
        if not len(x):
            raise UsageError("no examples were given to change: give one or more")
        check_memory(
            16 * x.numel() * draws, f"{draws} draws of each of {len(x)} examples", "ask for fewer"
        )
        options = build(self.loaded.family.Options, self.options or {})
        rng = Rng(self.seed, ("edit",), device=self.loaded.device)
        results = []
        for numbers, count in fixed_blocks(len(x), BLOCK):
            rows = torch.tensor(numbers).clamp(max=len(x) - 1)  # the last row fills the block
            labels = None if self.y is None else self.y[rows]
            edits = []
            for k in range(draws):
                edits.append(edit(x[rows], labels, options, rng.at(k).per_row(numbers)))
            results.append(torch.stack(edits, 1)[:count])
        return torch.cat(results)

    def for_round_trip(self) -> "Editor":
        """The same with ROUND_TRIP as defaults of its options, as far as the family has them."""
        names = self.loaded.family.Options.model_fields
        defaults = {name: value for name, value in ROUND_TRIP.items() if name in names}
        return replace(self, options=defaults | (self.options or {}))


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

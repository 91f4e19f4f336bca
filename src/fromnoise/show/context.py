"""What a figure is drawn from: a trained model and the user's options. Runs the model in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import EncodesDistribution, has
from ..core.errors import UsageError
from ..core.rng import Rng
from ..core.spec import Batch, check_labels
from ..data.stream import in_order
from ..evaluate.quality_reference import QualityReference
from ..runs.load import LoadedRun, load_run
from .image_rows import squared_error
from .style import plain

MAX_EXAMPLES = 5000  # from which a figure is computed
BLOCK = 500  # examples that go through the model at once


@dataclass(frozen=True)
class FigureContext:
    """A trained model and the options of `fromnoise show`.

    dims     the two latent dimensions of planes
    sampled  z is drawn from q(z | x) instead of being its mean
    label    the class that a conditional model decodes
    other    the model to compare with
    """

    loaded: LoadedRun
    seed: int = 0
    split: str = "test"
    dims: tuple[int, int] = (0, 1)
    command: str = ""
    sampled: bool = False
    label: int | None = None
    other: LoadedRun | None = None

    @property
    def name(self) -> str:
        """Of the run, for titles."""
        return plain(self.loaded.run.name)

    @property
    def model(self) -> Any:
        """The family's model; which capabilities it has, the condition of a figure checks."""
        return self.loaded.model

    @property
    def dataset(self):
        return self.loaded.dataset

    @property
    def tokenizer(self) -> Any:
        """Of models of text only."""
        return self.loaded.dataset.tokenizer

    @property
    def spec(self):
        return self.loaded.dataset.spec

    @property
    def conditional(self) -> bool:
        return self.model.conditional

    @property
    def trained(self) -> str:
        return f"step {self.loaded.step:,}" if self.loaded.step else "closed form"

    @property
    def options(self) -> Any:
        """The default sampling options of the family."""
        return self.loaded.family.Options()

    def rng(self, *path) -> Rng:
        return Rng(self.seed, ("show", *path), device=self.loaded.device)

    def caption(self, name: str) -> list[str]:
        """What is needed to draw the figure again: run, checkpoint, data, seed, and the command."""
        run = self.loaded.run
        command = self.command or f"fromnoise show {run.path} {name} --seed {self.seed}"
        data = f"{plain(self.dataset.name, 60)} ({self.split})"
        return [
            f"run {plain(run.name)} · {self.trained} · data {data} · seed {self.seed}",
            f"$ {plain(command, 400)}",
        ]

    def batches(
        self, limit: int = MAX_EXAMPLES, size: int = BLOCK
    ) -> Iterator[tuple[Batch, range]]:
        """Batches of the first ``limit`` examples of the split, with their rows."""
        start = 0
        for batch in in_order(self.dataset, self.split, size, limit, self.loaded.device):
            yield batch, range(start, start + len(batch))
            start += len(batch)

    def first(self, n: int) -> Batch:
        """The first n examples of the split, or all if it has fewer."""
        return self.rows(range(min(n, len(self.dataset.split(self.split)))))

    def rows(self, rows) -> Batch:
        return self.dataset.batch(self.split, list(rows), device=self.loaded.device)

    @cached_property
    def quality_reference(self) -> QualityReference:
        """The reference data that samples are compared with."""
        return QualityReference(self.dataset)

    @cached_property
    def raw(self) -> LoadedRun:
        """The same checkpoint with its raw weights instead of their average.

        Generator and discriminator are trained against each other with their raw weights.
        """
        run = self.loaded
        raw = load_run(
            run.run,
            str(run.step),
            weights="model",
            device=str(run.device),
            with_data=False,
            trust=run.trust,
        )
        return replace(raw, dataset=run.dataset)

    @cached_property
    def codes(self) -> "Codes":
        return compute_codes(self)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.model.reconstruct(x, y)

    def reconstruction_errors(self) -> np.ndarray:
        """Squared error of each of the first examples of the split (N,), float64."""
        errors = []
        for batch, _ in self.batches():
            errors.append(squared_error(batch.x, self.reconstruct(batch.x, batch.y)))
        return torch.cat(errors).cpu().double().numpy()

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_dim) -> x (N, *shape), in blocks.

        Without y a conditional model decodes ``label``, its first class or the first caption.
        """
        z = z.to(self.loaded.device)
        if y is None:
            y = self.same_condition(len(z))
        return in_blocks(self.model.decode, z, y)

    def labels(self, n: int) -> Tensor | None:
        """``label`` n times, or classes in turn (n,), or captions (n, L); None: not conditional."""
        if not self.conditional:
            return None
        if self.label is not None:
            check_labels([self.label], 1, self.spec.classes)
            self.dataset.require_learned_classes([self.label])
            return torch.full((n,), self.label, device=self.loaded.device)
        return self.dataset.default_conditions(range(n)).to(self.loaded.device)

    def same_condition(self, n: int) -> Tensor | None:
        """``label``, the first class or the first caption, n times; None: not conditional."""
        y = self.labels(1)
        return None if y is None else y.expand(n, *y.shape[1:])

    def row_names(self, y: Tensor | None, n: int, word: str) -> list[str]:
        """The class of each of n examples, or ``word`` and its number."""
        if y is None or y.ndim > 1:
            return [f"{word} {i + 1}" for i in range(n)]
        return [self.class_name(int(label)) for label in y[:n]]

    @torch.no_grad()
    def latents(self, n: int, rng: Rng, y: Tensor | None = None) -> Tensor:
        """z (n, latent_dim) as the model draws them by default."""
        model = self.model
        is_hierarchy = getattr(model, "standard_dims", model.latent_dim) < model.latent_dim
        return model.draw_latents(n, self.options, rng, *([y] if is_hierarchy else []))

    def of_class(self) -> str:
        """For notes: the class or caption that a conditional model decodes, or ""."""
        if not self.conditional:
            return ""
        if self.spec.caption:
            return f" of '{self.dataset.caption_codec.examples[0]}'"
        return f" of class '{self.class_name(int(self.labels(1)))}'"

    def class_name(self, y: int) -> str:
        names = self.dataset.class_names
        return plain(names[y], 24) if y < len(names) else str(y)

    def pixels(self, x: Tensor) -> np.ndarray:
        return self.dataset.to_pixels(x)

    def training_pixels(self, rows) -> np.ndarray:
        return self.pixels(self.dataset.batch("train", rows.tolist()).x)


def in_blocks(
    function: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    y: Tensor | None,
    rows: int = BLOCK,
) -> Tensor:
    """function(x, y) of so many rows at once."""
    parts = []
    for i in range(0, len(x), rows):
        parts.append(function(x[i : i + rows], None if y is None else y[i : i + rows]))
    return torch.cat(parts)


@dataclass(frozen=True)
class Codes:
    """Latent codes of examples.

    z     (N, D) float64
    y     (N,) or None
    kind  what z is, in words
    std   (N, D) of q(z | x), or None
    """

    z: np.ndarray
    y: np.ndarray | None
    kind: str
    std: np.ndarray | None

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each dimension: of the aggregate posterior where there is one."""
        variance = self.z.var(0)
        if self.std is not None:
            variance = variance + (self.std**2).mean(0)
        return np.sqrt(variance)


@torch.no_grad()
def compute_codes(context: FigureContext, limit: int = MAX_EXAMPLES) -> Codes:
    """Codes of the first ``limit`` examples.

    Raises UsageError when sampled codes are asked of a deterministic encoder.
    """
    model = context.model
    has_posterior = has(model, EncodesDistribution)
    if context.sampled and not has_posterior:
        raise UsageError(
            f"{context.loaded.family.name} has one code for each x and nothing to sample: "
            "leave --sampled out"
        )
    z, y, stds = [], [], []
    for batch, rows in context.batches(limit):
        y.append(batch.labels)
        if not has_posterior:
            z.append(model.encode(batch.x, batch.y))
            continue
        mean, std = model.posterior(batch.x, batch.y)
        stds.append(std)
        if context.sampled:
            eps = context.rng("codes").per_row(rows).normal("eps", mean.shape)
            z.append(mean + std * eps)
        else:
            z.append(mean)
    kind = "codes z of the encoder (one point for each x)"
    if has_posterior:
        kind = "posterior means μ of q(z|x), not sampled z"
    if context.sampled:
        kind = "sampled z ~ q(z|x)"
    labels = None if y[0] is None else torch.cat(y).cpu().numpy()
    std = _to_numpy(stds) if stds and not context.sampled else None
    return Codes(_to_numpy(z), labels, kind, std)


def _to_numpy(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).cpu().double().numpy()

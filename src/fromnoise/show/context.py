"""What a figure is drawn of: a trained model, and what the user asked for. Batches go through the model here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import EncodesDistribution, has
from ..core.errors import UsageError
from ..core.rng import Rng
from ..core.spec import Batch, check_labels
from ..data.stream import in_order
from ..evaluate.quality import QualityReference
from ..runs.load import LoadedRun, restore
from .style import plain

MOST = 5000  # examples that a figure is computed from


@dataclass(frozen=True)
class FigureContext:
    """dims: the two latent dimensions of planes; sampled: z drawn from q(z | x) instead of its mean;
    label: the class that a conditional model decodes; other: the model beside this one."""

    loaded: LoadedRun
    seed: int = 0
    split: str = "test"
    dims: tuple[int, int] = (0, 1)
    command: str = ""
    sampled: bool = False
    label: int | None = None
    other: LoadedRun | None = None

    @property
    def model(self):
        return self.loaded.model

    @property
    def dataset(self):
        return self.loaded.dataset

    @property
    def spec(self):
        return self.loaded.dataset.spec

    @property
    def conditional(self) -> bool:
        return self.model.conditional

    @property
    def trained(self) -> str:
        return f"step {self.loaded.step:,}" if self.loaded.step else "closed form"

    def rng(self, *path) -> Rng:
        return Rng(self.seed, ("show", *path), device=self.loaded.device)

    def caption(self, name: str) -> list[str]:
        """Enough to make the figure again: run, checkpoint, data, seed, and the command."""
        r = self.loaded
        command = self.command or f"fromnoise show {r.run.path} {name} --seed {self.seed}"
        return [
            f"run {plain(r.run.name)} · {self.trained} · data {plain(self.dataset.name, 60)} ({self.split}) · seed {self.seed}",
            f"$ {plain(command, 400)}",
        ]

    # -- through the model -----------------------------------------------------------------------------------

    def batches(self, limit: int = MOST, size: int = 500) -> Iterator[tuple[Batch, range]]:
        """The first examples of the split, with their rows."""
        start = 0
        for batch in in_order(self.dataset, self.split, size, limit, self.loaded.device):
            yield batch, range(start, start + len(batch))
            start += len(batch)

    def first(self, n: int) -> Batch:
        """At most n examples: the first rows of the split."""
        return self.rows(range(min(n, len(self.dataset.split(self.split)))))

    def rows(self, rows) -> Batch:
        return self.dataset.batch(self.split, list(rows), device=self.loaded.device)

    @cached_property
    def quality_reference(self) -> QualityReference:
        """By which samples are compared with training examples."""
        return QualityReference(self.dataset)

    @cached_property
    def raw(self) -> LoadedRun:
        """The same checkpoint with the weights that are trained, not their average: the two of a duel know each other."""
        r = self.loaded
        found = restore(
            r.run,
            str(r.step),
            weights="model",
            device=str(r.device),
            with_data=False,
            trust=r.trust,
        )
        return replace(found, dataset=r.dataset)

    @cached_property
    def codes(self) -> "Codes":
        return codes_of(self)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (N, latent_dim) -> x, in blocks; a conditional model decodes ``label`` (its first class when not given), or the first caption."""
        z = z.to(self.loaded.device)
        if y is None and self.conditional:
            y = self.labels(1).to(z.device)
            y = y.expand(len(z), *y.shape[1:])
        parts = [
            self.model.decode(z[i : i + 500], None if y is None else y[i : i + 500])
            for i in range(0, len(z), 500)
        ]
        return torch.cat(parts)

    def labels(self, n: int) -> Tensor | None:
        """For a conditional model its classes in turn (n,), or ``label`` n times where one was asked for; captions (n, L); else None."""
        if not self.conditional:
            return None
        if self.label is not None:
            check_labels([self.label], 1, self.spec.classes)
            self.dataset.require_learned_classes([self.label])
            return torch.full((n,), self.label, device=self.loaded.device)
        return self.dataset.default_conditions(range(n)).to(self.loaded.device)

    @torch.no_grad()
    def latents(self, n: int, rng: Rng, y: Tensor | None = None) -> Tensor:
        """z (n, latent_dim) as the model draws them by default."""
        model, options = self.model, self.loaded.family.Options()
        hierarchy = getattr(model, "standard_dims", model.latent_dim) < model.latent_dim
        return model.draw_latents(n, options, rng, *([y] if hierarchy else []))

    def of_class(self) -> str:
        """Said in notes: which class, or caption, a conditional model decodes."""
        if self.conditional and self.spec.caption:
            return f" of '{self.dataset.caption_codec.examples[0]}'"
        return f" of class '{self.class_name(int(self.labels(1)))}'" if self.conditional else ""

    def class_name(self, y: int) -> str:
        names = self.dataset.class_names
        return plain(names[y], 24) if y < len(names) else str(y)

    def pixels(self, x: Tensor) -> np.ndarray:
        return self.dataset.to_pixels(x)


@dataclass(frozen=True)
class Codes:
    """z (N, D) float64 as asked for, y (N,) or None; kind: what z is, in words; std (N, D) of q(z | x) or None."""

    z: np.ndarray
    y: np.ndarray | None
    kind: str
    std: np.ndarray | None

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each dimension over the data: of the aggregate posterior where there is one."""
        variance = self.z.var(0) + (0 if self.std is None else (self.std**2).mean(0))
        return np.sqrt(variance)


@torch.no_grad()
def codes_of(subject: FigureContext, limit: int = MOST) -> Codes:
    """Codes of the first ``limit`` examples. Raises UsageError when sampled codes are asked of a deterministic encoder."""
    model, has_posterior = subject.model, has(subject.model, EncodesDistribution)
    if subject.sampled and not has_posterior:
        raise UsageError(
            f"{subject.loaded.family.name} has one code for each x and nothing to sample: leave --sampled out"
        )
    z, y, stds = [], [], []
    for batch, rows in subject.batches(limit):
        if not has_posterior:
            z.append(model.encode(batch.x, batch.y))
        else:
            mean, std = model.posterior(batch.x, batch.y)
            eps = (
                subject.rng("codes").per_row(rows).normal("eps", mean.shape)
                if subject.sampled
                else 0
            )
            z.append(mean + std * eps), stds.append(std)
        y.append(batch.labels)
    kind = "codes z of the encoder (one point for each x)"
    if has_posterior:
        kind = (
            "sampled z ~ q(z|x)"
            if subject.sampled
            else "posterior means μ of q(z|x), not sampled z"
        )

    def to_numpy(parts):
        return torch.cat(parts).cpu().double().numpy()

    labels = None if y[0] is None else torch.cat(y).cpu().numpy()
    return Codes(
        to_numpy(z), labels, kind, to_numpy(stds) if stds and not subject.sampled else None
    )

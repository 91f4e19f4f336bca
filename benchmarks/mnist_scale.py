"""What the benchmarks of MNIST samples share: the shipped evaluator's Fréchet distance, beside what real images score."""

from pathlib import Path

import torch

from fromnoise import data
from fromnoise.core.images import image_grid, png_bytes
from fromnoise.core.rng import Rng
from fromnoise.measures.estimate import Estimate
from fromnoise.measures.evaluator import shipped_for
from fromnoise.measures.features import extract, of_split
from fromnoise.measures.frechet import frechet

SAMPLES, REFERENCE = 10_000, 20_000


class Scale:
    """MNIST's evaluator, the features of training examples, and what the official test set scores. x (n, 1, 28, 28) in [-1, 1]."""

    def __init__(self):
        self.dataset = data.load("mnist")
        self.evaluator = shipped_for(self.dataset)
        self.train = of_split(self.evaluator, self.dataset, "train", REFERENCE)
        test = of_split(self.evaluator, self.dataset, "test")
        self.real = frechet(test, self.train).value
        self.right = self._agreement(test, torch.from_numpy(self.dataset.splits["test"].y))

    def _agreement(self, features: torch.Tensor, y: torch.Tensor) -> float:
        return float((self.evaluator.logits(features).argmax(1) == y).double().mean()) * 100

    def __call__(self, x: torch.Tensor) -> tuple[Estimate, list[float]]:
        """Debiased distance to the training examples, shares of the ten classes in percent."""
        features = extract(self.evaluator, x.split(1000))
        shares = self.evaluator.logits(features).argmax(1).bincount(minlength=10) / len(x) * 100
        return frechet(features, self.train), shares.tolist()

    def agreement(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Share in percent of the images whose class, by the evaluator, is y (n,); ``right`` is that of the test set."""
        return self._agreement(extract(self.evaluator, x.split(1000)), y)

    def said(self, found: Estimate) -> str:
        low, high = found.interval
        return f"{found.value:.3f} (95 %: {low:.3f} to {high:.3f}) = {found.value / self.real:.1f} times real"

    def line(self, what: str, x: torch.Tensor) -> str:
        found, shares = self(x)
        return f"{what}: {self.said(found)}; classes {min(shares):.1f} to {max(shares):.1f} %"

    def noise(self) -> str:
        u = Rng(0, ("benchmark",)).uniform("noise", (SAMPLES, 1, 28, 28)) * 2 - 1
        return self.line("uniform noise", u)

    def as_files(self, x: torch.Tensor) -> torch.Tensor:
        """x as it would come back from image files: cut to [-1, 1], rounded to 256 levels."""
        return torch.from_numpy(self.dataset.to_store(x)).float() / 127.5 - 1

    def save_grid(self, x: torch.Tensor, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(image_grid(self.dataset.to_pixels(x), gap=0)))

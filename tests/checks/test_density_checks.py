"""An exact likelihood is a density, and that of the samples: closed forms, and a flow with a wrong sign."""

import math

import pytest
import torch

from fromnoise import families
from fromnoise.checks.conformance import CHECKS
from fromnoise.checks.density_checks import (
    check_density,
    compare,
)
from fromnoise.checks.suite import Suite
from fromnoise.core.rng import Rng

RNG = Rng(0)
FLOW = '''"""An affine map of N(0, I)."""
import math
import torch
from torch import nn
from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase

class Config(BaseConfig):
    pass

class Options(BaseConfig):
    pass

PRESETS = {"default": {}}

class Affine(Family):
    bound, continuous, reason = "exact", True, ""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.layer = nn.Linear(spec.dims, 2)
        with torch.no_grad():
            self.layer.weight.fill_(0.7)

    def phases(self):
        return (Phase("all", trains=("layer",), lr=0.01),)

    def log_likelihood(self, x, y, rng, k=1):
        shift, log_scale = self.layer.weight
        z = (x.flatten(1) - shift) * log_scale.exp()
        return (-z.square() / 2 - math.log(2 * math.pi) / 2).sum(1) + log_scale.sum()

    def loss(self, batch, phase, rng):
        noise = rng.uniform("levels", batch.x.shape) * 2 / max(self.spec.levels - 1, 1)
        x = batch.x + noise * (self.spec.levels > 0)
        nll = -self.log_likelihood(x, None, rng).mean() + self.layer.bias.square().sum()
        return Loss(nll, {"nll": nll})

    def sample(self, n, y, options, rng):
        shift, log_scale = self.layer.weight
        x = shift + (-log_scale).exp() * rng.normal("z", (n, self.spec.dims))
        return (x.clamp(-1, 1) if self.spec.kind == "image" else x).view(n, *self.spec.shape)

FAMILY = Affine
'''


def suite_of(tmp_path, text) -> Suite:
    path = tmp_path / "affine.py"
    path.write_text(text)
    return Suite(families.load(str(path)), {})


def test_a_right_flow_passes(tmp_path):
    check_density(suite_of(tmp_path, FLOW))
    assert check_density in CHECKS


@pytest.mark.parametrize(
    "old,new,says",
    [
        ("+ log_scale.sum()", "- log_scale.sum()", "integrates to"),
        ("shift + (-log_scale).exp() *", "shift + 2 * (-log_scale).exp() *", "different distrib"),
    ],
)
def test_a_wrong_one_does_not(tmp_path, old, new, says):
    assert old in FLOW
    with pytest.raises(AssertionError, match=says):
        check_density(suite_of(tmp_path, FLOW.replace(old, new)))


def mixture_of(centres, std):
    """log p and 4,000 samples of equal round Gaussians."""
    centres = torch.tensor(centres).double()

    def log_p(x, shift=0.0):
        squares = torch.cdist(x - shift, centres).square()
        log_parts = -squares / (2 * std**2) - math.log(2 * math.pi * std**2 * len(centres))
        return log_parts.logsumexp(1)

    which = torch.arange(4000) % len(centres)
    return log_p, centres[which] + std * RNG.normal("x", (4000, 2)).double()


ANGLES = [2 * math.pi * i / 8 for i in range(8)]
RING = [[math.cos(a), math.sin(a)] for a in ANGLES]


@pytest.mark.parametrize("std", [1.0, 0.1, 0.01])
def test_exact_densities_pass_and_other_ones_do_not(std):
    log_p, x = mixture_of(RING, std)
    compare(log_p, x, RNG)
    with pytest.raises(AssertionError, match="integrates to 1.[12]"):
        compare(lambda points: log_p(points) + math.log(1.2), x, RNG)
    with pytest.raises(AssertionError, match="no samples|different distributions"):
        compare(lambda points: log_p(points, shift=max(std, 0.2)), x, RNG)


def test_samples_of_half_of_the_modes_are_of_another_distribution():
    log_p, x = mixture_of(RING, 0.1)
    half = x[torch.arange(len(x)) % 8 < 4]
    with pytest.raises(AssertionError, match="integrates|different distributions"):
        compare(log_p, half, RNG)


def test_overflow_far_away_is_no_fault_and_near_by_it_is():
    log_p, x = mixture_of([[0.0, 0.0]], 1.0)
    compare(lambda p: torch.where(p.norm(dim=1) > 40, math.nan, log_p(p)), x, RNG)
    with pytest.raises(AssertionError, match="no number at"):
        compare(lambda p: torch.where(p.norm(dim=1) > 4, math.nan, log_p(p)), x, RNG)

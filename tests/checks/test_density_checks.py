"""An exact likelihood is a density, and that of the samples: closed forms, and a flow with a wrong sign."""

import math

import pytest

from fromnoise import families
from fromnoise.checks.conformance import CHECKS
from fromnoise.checks.density_checks import (
    Proposal,
    check_density,
    check_entropy,
    check_integral,
)
from fromnoise.checks.suite import Suite
from fromnoise.core.rng import Rng

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


def normal_log_p(x, scale=1.0):
    return -(x / scale).square().sum(1) / 2 - math.log(2 * math.pi) - 2 * math.log(scale)


def test_a_normal_distribution_integrates_to_one_with_its_own_entropy():
    rng = Rng(0)
    x = rng.normal("x", (4000, 2)).double()
    proposal = Proposal.about(x)
    points = proposal.draw(100_000, rng)
    log_p = normal_log_p(points)
    weights = (log_p - proposal.log_density(points)).exp()
    check_integral(weights)
    check_entropy(weights, log_p, normal_log_p(x))
    with pytest.raises(AssertionError, match="integrates to 1.1"):
        check_integral(1.1 * weights)
    with pytest.raises(AssertionError, match="different distributions"):
        check_entropy(weights, log_p, normal_log_p(1.3 * x))

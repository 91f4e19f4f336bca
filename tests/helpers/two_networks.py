"""A family of two networks that are trained in alternation."""

from pydantic import Field
from torch import nn

from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase
from fromnoise.training.plan import make_plan
from fromnoise.training.settings import TrainConfig
from fromnoise.training.trainer import Trainer
from helpers.small_trainings import SMALL


class Duel(Family):
    """Two modules in alternation, each with a loss that depends on both: what a GAN will be."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.dropout = nn.Dropout(0.5)

    def phases(self):
        return (Phase("a", ("a",), lr=0.1, repeats=2), Phase("b", ("b",), lr=0.1, every=2))

    def loss(self, batch, phase, rng):
        noise = rng.normal("noise", (len(batch), 3))
        value = (self.b(self.dropout(self.a(noise))) - 1).square().mean()
        return Loss(value, {"value": value})


class DuelConfig(BaseConfig):
    lr: float = Field(0.1)


def duel(**train_options) -> Trainer:
    plan = make_plan("classical", **SMALL)
    config = TrainConfig(**SMALL | train_options)
    return Trainer(lambda: Duel(DuelConfig(), plan.dataset.spec), plan.dataset, config)

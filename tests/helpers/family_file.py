"""The text of a family file of a user."""

GOOD = '''"""A linear autoencoder with a standard normal on its codes."""
import torch
from pydantic import Field
from torch import nn
from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase

class Config(BaseConfig):
    size: int = Field(3, ge=1, description="of the code")
    lr: float = Field(1e-2, gt=0, description="learning rate")

class Options(BaseConfig):
    pass

PRESETS = {"default": {}}

class Mine(Family):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.down, self.up = nn.Linear(spec.dims, config.size), nn.Linear(config.size, spec.dims)
        self.extra = nn.Linear(2, 2)

    def phases(self):
        return (Phase("all", trains=("down", "up"), lr=self.config.lr),)

    def loss(self, batch, phase, rng):
        z = self.down(batch.x.flatten(1))
        z = z + 0.1 * rng.normal("eps", z.shape)
        error = (self.up(z) - batch.x.flatten(1)).square().mean()
        return Loss(error, {"error": error})

    def sample(self, n, y, options, rng):
        return self.up(rng.normal("z", (n, self.config.size))).view(n, *self.spec.shape).tanh()

FAMILY = Mine
'''

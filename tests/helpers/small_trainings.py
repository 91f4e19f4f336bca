"""Trainings of a second, and a record of a run."""

from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

SMALL = dict(steps=20, batch_size=32, intervals=4, validation_examples=50, threads=1)
INFO = {
    "family": "x",
    "preset": "default",
    "config": {},
    "train": {},
    "seed": 0,
    "steps": 20,
    "data": {"name": "x", "settings": {}, "spec": {"kind": "vector", "shape": [2]}, "digest": ""},
}
INTERVAL = {
    "kind": "interval",
    "steps": 20,
    "train": {},
    "validation": {"value": 1.0},
    "best": {"step": 5, "value": 1.0},
}
TINY_VAE = dict(hidden=(8,), latent_dim=2, **SMALL)


def train(path="run", family="vae", **options):
    options = {name: value for name, value in (TINY_VAE | options).items() if value is not None}
    return start_run(make_plan(family, **options), path)

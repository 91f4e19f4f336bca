"""What a model costs to sample is found without drawing much of it, however slow it is."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fromnoise.core.config import BaseConfig
from fromnoise.evaluate import cost
from fromnoise.evaluate.table import rich_table


class Slow(nn.Module):
    """Draws n samples in ``start + each n`` seconds of a clock that only it moves."""

    def __init__(self, start: float, each: float):
        super().__init__()
        self.start, self.each, self.now, self.drawn = start, each, 0.0, []

    def sample(self, n, y, options, rng):
        self.now += self.start + self.each * n
        self.drawn.append(n)
        return torch.zeros(n, 1)


def timed(monkeypatch, start: float, each: float, seconds=0.3, limit=3.0):
    model = Slow(start, each)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: model.now)
    model.conditional = False
    family = SimpleNamespace(Options=BaseConfig)
    loaded = SimpleNamespace(model=model, family=family, device=torch.device("cpu"), dataset=None)
    return cost.speeds(loaded, seconds, limit), model


@pytest.mark.parametrize(
    "start, each", [(0.0, 1.4), (0.5, 0.02), (0.2, 0.0), (2.0, 0.3), (0.0, 0.01), (0.001, 0.0)]
)
def test_no_sampler_takes_longer_than_the_limit(monkeypatch, start, each):
    found, model = timed(monkeypatch, start, each)
    assert model.now <= 3.0 + start + each  # one draw too many at most, of one sample
    assert model.drawn.count(256) <= 1 or 256 * each < 0.3
    for size, speed in found.items():
        assert speed == pytest.approx(size / (start + size * each))


def test_one_sample_that_takes_longer_than_the_limit_is_drawn_once(monkeypatch):
    found, model = timed(monkeypatch, 9.0, 0.0)
    assert model.drawn == [1] and list(found) == [1]


def test_a_fast_sampler_is_timed_at_256_again_and_again(monkeypatch):
    found, model = timed(monkeypatch, 0.01, 0.0)
    assert list(found) == [1, 256] and model.drawn.count(256) > 10


def report(**speeds) -> dict:
    return {
        "title": "m",
        "metrics": [],
        "cost": {"parameters": 1, "train_seconds": 1.0, "samples_per_second": speeds},
    }


def test_the_table_says_how_many_were_drawn_at_once():
    from rich.console import Console

    console = Console(width=150)
    with console.capture() as capture:
        console.print(
            rich_table([report(**{"1": 3.0, "256": 400.0}), report(**{"1": 0.04, "16": 0.5})])
        )
    assert (
        "0.5 (16 at once)" in capture.get() and "0.04" in capture.get() and "400" in capture.get()
    )

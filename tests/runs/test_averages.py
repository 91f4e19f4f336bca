"""Power-function averages of the weights: their profile in closed form, the choice by held-out value, exact resume."""

import json
import math

import pytest
import torch
from torch import nn

from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.core.errors import UsageError
from fromnoise.runs import checkpoint
from fromnoise.runs.averages import Ema, gamma_from_width, mixture_shares
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training import trainer as trainer_module
from fromnoise.training.launch import describe_run, start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run
from fromnoise.training.trainer import Trainer

SMALL = dict(steps=20, batch_size=32, intervals=4, validation_examples=50, threads=1)
TINY = dict(hidden=(8,), latent_dim=2, **SMALL)
WIDTHS = (0.05, 0.1, 0.2)
BOMB = '''"""A linear map whose loss is not finite at step 8, the first time."""
from torch import nn
from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase

class Config(BaseConfig):
    pass

class Options(BaseConfig):
    pass

PRESETS = {"default": {}}

class Bomb(Family):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Linear(spec.dims, spec.dims)

    def phases(self):
        return (Phase("a", ("net",), lr=1e-2),)

    def loss(self, batch, phase, rng):
        x, path = batch.x.flatten(1), rng.path
        error = (self.net(x + rng.normal("eps", x.shape)) - x).square().mean()
        if "step" in path and path[path.index("step") + 1] == 8 and "rollback" not in path:
            error = error * float("nan")
        return Loss(error, {"error": error})

    def sample(self, n, y, options, rng):
        return self.net(rng.normal("z", (n, self.spec.dims))).view(n, *self.spec.shape)

FAMILY = Bomb
'''


def averages_of(weights: list[torch.Tensor], widths) -> list[torch.Tensor]:
    """What ``Ema`` makes of weights (n,) after steps 1, 2, ..., from a start that may not matter."""
    model = nn.Linear(len(weights[0]), 1, bias=False).double()
    ema = Ema(model, 0.999, widths)
    for step, w in enumerate(weights):
        with torch.no_grad():
            model.weight.copy_(w[None])
        ema.update(model, step)
    return [mine[0][0] for mine in ema.weights]


@pytest.mark.parametrize("steps", [1, 2, 30, 1000])
def test_the_profile_is_a_power_of_time(steps):
    """Unit vectors for weights: the average shows the share of each step, the integral of tau^gamma over it."""
    edges = torch.arange(steps + 1, dtype=torch.float64) / steps
    for width, shares in zip(
        WIDTHS, averages_of(list(torch.eye(steps, dtype=torch.float64)), WIDTHS)
    ):
        torch.testing.assert_close(
            shares, (edges ** (gamma_from_width(width) + 1)).diff(), rtol=0, atol=1e-12
        )


def test_the_relative_width_is_as_asked():
    for width in (0.001, 0.01, 0.05, 0.1, 0.2, 0.28):
        gamma = gamma_from_width(width)
        assert math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(
            width, rel=1e-9
        )
    assert gamma_from_width(12**-0.5) == pytest.approx(0, abs=1e-12)  # equal weights
    assert gamma_from_width(0.05) == pytest.approx(16.97, abs=0.005) and gamma_from_width(
        0.1
    ) == pytest.approx(6.94, abs=0.005)  # of the paper
    tau = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    for width, p in zip(WIDTHS, averages_of(list(torch.eye(1000, dtype=torch.float64)), WIDTHS)):
        mean = float(p @ tau)
        assert float(p @ (tau - mean) ** 2) ** 0.5 == pytest.approx(
            width, rel=1e-3
        )  # of a training of any length


def test_widths_between_are_made_of_those_kept():
    tau = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    kept = torch.stack(averages_of(list(torch.eye(1000, dtype=torch.float64)), WIDTHS))
    for width, most in ((0.05, 1e-9), (0.1, 1e-9), (0.07, 0.04), (0.15, 0.06)):
        (exact,) = averages_of(list(torch.eye(1000, dtype=torch.float64)), (width,))
        shares = torch.tensor(mixture_shares(WIDTHS, width), dtype=torch.float64)

        def off(shares):
            return float((shares @ kept - exact).norm() / exact.norm())

        assert off(shares) < most and float(shares.sum()) == pytest.approx(1, abs=1e-12)
        for shift in (
            torch.tensor([[1.0, -1, 0], [0, 1, -1]], dtype=torch.float64) * 0.02
        ):  # nothing near is nearer
            assert off(shares) < off(shares + shift) and off(shares) < off(shares - shift)
    assert float(
        torch.tensor(mixture_shares((0.05, 0.1), 0.05)) @ tau[:2].float()
    ) == pytest.approx(float(tau[0]))
    assert mixture_shares((0.1,), 0.1) == pytest.approx([1.0])


def trainer(**options) -> Trainer:
    return make_plan("vae", **TINY | {"averages": WIDTHS} | options).trainer()


def test_the_average_in_use_is_one_memory_with_the_model_and_goes_on():
    t = trainer()
    t.ema.use(1)
    for _ in range(3):
        t.advance(20)
    alone = trainer(averages=(0.1,))
    for _ in range(3):
        alone.advance(20)
    for mine, other in zip(t.ema.model.parameters(), alone.ema.model.parameters()):
        assert torch.equal(mine, other) and not mine.requires_grad
    assert not any(torch.equal(p, q) for p, q in zip(t.ema.weights[0], t.ema.weights[1]))
    assert not any(torch.equal(p, q) for p, q in zip(t.ema.weights[2], t.ema.weights[1]))


@pytest.mark.parametrize(
    "values", [[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [math.nan, 2.0, 1.0], [2.0, 2.0, 2.0]]
)
def test_the_choice_takes_the_lowest_held_out_value(values, monkeypatch):
    t, seen = trainer(), []
    for _ in range(3):
        t.advance(20)

    def objective(model, dataset, examples, rng, device):
        seen.append((next(model.parameters()).clone(), rng.normal("same noise", (3,)).tolist()))
        return {"value": values[len(seen) - 1]}

    monkeypatch.setattr(trainer_module, "objective", objective)
    best = min(range(3), key=lambda i: (not values[i] == values[i], values[i]))
    assert t.validate() == {"value": values[best]} and len(seen) == 3
    for (weights, noise), average in zip(seen, t.ema.weights):
        assert torch.equal(weights, average[0]) and noise == seen[0][1]
    assert t.state.average == best and torch.equal(
        next(t.ema.model.parameters()), t.ema.weights[best][0]
    )
    held_out = {"0.05": values[0], "0.1": values[1], "0.2": values[2]}
    assert t.average_fields() == {
        "average": {
            "width": WIDTHS[best],
            "held_out": {k: v if v == v else None for k, v in held_out.items()},
        }
    }


def test_what_is_chosen_is_told_saved_and_restored(tmp_path):
    widths = (0.1, 0.05, 0.2)  # the best of which, after so few steps, is not the first
    run = start_run(make_plan("vae", **TINY | {"averages": widths}), tmp_path / "run")
    for event in run.events("interval"):
        chosen = event["average"]
        assert (
            list(chosen["held_out"]) == ["0.1", "0.05", "0.2"]
            and len(set(chosen["held_out"].values())) == 3
        )
        assert (
            event["validation"]["value"]
            == min(chosen["held_out"].values())
            == chosen["held_out"][str(chosen["width"])]
        )
    saved, last = checkpoint.find(run), run.events("interval")[-1]["average"]["width"]
    assert widths[saved.manifest.average] == last == 0.05
    left = {name.split("/")[0] for name in saved.tensors("optim") if name.startswith("average")}
    assert left == {f"average {width}" for width in widths if width != last}
    for width in widths:
        alone = start_run(make_plan("vae", **TINY | {"averages": (width,)}), tmp_path / f"{width}")
        assert "average" not in alone.events("interval")[-1]
        expected = load_run(alone).model.state_dict()
        for weights in ("ema", width) if width == last else (width,):
            found = load_run(run, weights=weights).model.state_dict()
            assert all(
                torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
                for name in expected
            )
    between = load_run(run, weights=0.07).model.state_dict()
    assert not any(
        torch.equal(between[name], t)
        for name, t in load_run(run).model.named_parameters()
        if t.numel() > 1
    )
    with pytest.raises(UsageError, match="no average of width 0.25: from 0.05 to 0.2"):
        load_run(run, weights=0.25)
    with pytest.raises(UsageError, match="trained without --averages"):
        load_run(start_run(make_plan("vae", **TINY), tmp_path / "old"), weights=0.1)


@pytest.mark.parametrize("family,options", [("vae", TINY), ("autoencoder", TINY)])
def test_resume_is_exact(family, options, tmp_path):
    def plan():
        return make_plan(family, **options | {"averages": WIDTHS})

    whole = start_run(plan(), tmp_path / "whole")
    for stops in ([1], [7], [5, 12, 19]):
        assert not first_difference(whole, interrupted(plan(), tmp_path / f"{stops}", stops))


def force_choices(monkeypatch, places: dict[int, int]) -> None:
    """At these steps the average of this place is the best: training must be exact whichever it is."""
    original = Trainer.validate_and_select_average

    def validate_and_select_average(self):
        original(self)
        self.state.average = places.get(self.state.step, 0)
        self.ema.use(self.state.average)
        return self.average_terms[self.state.average], {}

    monkeypatch.setattr(Trainer, "validate_and_select_average", validate_and_select_average)


def test_resume_and_rollback_are_exact_when_the_choice_changes(tmp_path, monkeypatch):
    (tmp_path / "bomb.py").write_text(BOMB)

    def plan():
        return make_plan(str(tmp_path / "bomb.py"), **SMALL | {"averages": WIDTHS})

    force_choices(monkeypatch, {5: 2, 10: 1, 15: 0, 20: 2})
    whole = start_run(plan(), tmp_path / "whole")
    assert [(e["step"], e["to"]) for e in whole.events("rollback")] == [(8, 5)]
    assert [e["average"]["width"] for e in whole.events("interval")] == [0.2, 0.1, 0.05, 0.2]
    for stops in ([3], [7, 6], [7, 12], [16, 17, 18]):
        assert not first_difference(whole, interrupted(plan(), tmp_path / f"{stops}", stops))


def test_a_rollback_takes_back_all_averages_and_the_choice(tmp_path, monkeypatch):
    (tmp_path / "bomb.py").write_text(BOMB)
    plan = make_plan(str(tmp_path / "bomb.py"), **SMALL | {"averages": WIDTHS})
    t = plan.trainer()
    run = Run.create(tmp_path / "run", describe_run(plan, "", 20, t))
    for _ in range(5):
        t.advance(20)
    t.ema.use(1)
    t.state.average, t.state.good = 1, 5
    t.save(run)
    before = [[p.clone() for p in mine] for mine in t.ema.weights]
    for _ in range(3):
        t.advance(20)
    t.ema.use(2)
    t.state.average = 2
    with pytest.raises(Exception, match="not finite") as error:
        t.advance(20)
    t.roll_back(run, error.value)
    assert t.state.average == t.ema.index == 1 and t.state.rollbacks == 1
    assert all(
        torch.equal(p, q) for mine, then in zip(t.ema.weights, before) for p, q in zip(mine, then)
    )
    assert all(torch.equal(p, q) for p, q in zip(t.ema.model.parameters(), before[1]))
    with t.rehearsal():
        assert t.ema.index == t.state.average == 0
    assert t.ema.index == t.state.average == 0


def test_what_is_fitted_at_the_end_belongs_to_the_average_that_is_taken(tmp_path, monkeypatch):
    """A density of codes is fitted to the codes of the weights that are kept, not of those used before."""
    from fromnoise.families.autoencoder import Autoencoder

    seen, original = [], Autoencoder.fit

    def fit(self, batches, rng):
        return seen.append([p.clone() for p in self.parameters()]) or original(self, batches, rng)

    monkeypatch.setattr(Autoencoder, "fit", fit)
    run = start_run(
        make_plan("autoencoder", **TINY | {"averages": WIDTHS[::-1], "intervals": 1}),
        tmp_path / "run",
    )
    assert (
        run.events("interval")[-1]["average"]["width"] != WIDTHS[-1]
    )  # the first one, or this shows nothing
    averaged = load_run(run).model
    assert all(torch.equal(p, q) for p, q in zip(averaged.parameters(), seen[-1]))
    other = load_run(run, weights=0.15).model  # fitted anew
    assert all(torch.equal(p, q) for p, q in zip(other.parameters(), seen[-1])) and not torch.equal(
        seen[-1][0], next(averaged.parameters())
    )


def test_old_runs_and_old_manifests_open_and_go_on(tmp_path):
    """Runs of earlier versions know of no averages: neither their settings nor their manifests."""

    def plan():
        return make_plan("vae", **TINY | {"ema": 0.9})

    whole = start_run(plan(), tmp_path / "whole")
    old = interrupted_run(plan(), tmp_path / "old")
    info = json.loads((old.path / "run.json").read_text())
    assert info["train"].pop("averages") == []
    del info["digest"]
    (old.path / "run.json").write_text(json.dumps(info | {"format": 1}))
    for path in old.path.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert manifest.pop("average") == 0
        del manifest["digest"]
        path.write_text(json.dumps(manifest | {"format": 1}))
    events = old.path / "events.jsonl"
    events.write_text("".join(json.dumps(event) + "\n" for event in old.events()))
    load_run(Run(old.path))
    resume_run(Run(old.path), warn=lambda line: None)
    assert not first_difference(whole, Run(old.path))


def interrupted_run(plan, path) -> Run:
    t = plan.trainer()
    run = Run.create(path, describe_run(plan, "", 20, t))
    t.save(run)
    for _ in range(3):
        terms, norms = t.advance(20)
        t.state.add(terms | {f"gradient_norm/{name}": norm for name, norm in norms.items()})
    t.save(run)
    return run


def test_options_that_do_not_go_together_are_told():
    with pytest.raises(UsageError, match="--averages take the place of --ema"):
        make_plan("vae", **TINY, averages=(0.1,), ema=0.9)
    with pytest.raises(UsageError, match="--averages cannot be '0.5'"):
        make_plan("vae", **TINY, averages=(0.1, 0.5))
    with pytest.raises(UsageError, match="give one width"):
        make_plan("gan", **SMALL, averages=(0.05, 0.1)).trainer()
    assert make_plan("gan", **SMALL, averages=(0.05,)).trainer().ema.widths == (0.05,)


def test_an_ema_takes_the_place_of_a_presets_averages():
    from fromnoise import families

    file = families.load("vae")
    file.PRESETS["averaged"] = {"averages": WIDTHS}
    try:
        assert make_plan("vae", preset="averaged", **TINY).train.averages == WIDTHS
        assert make_plan("vae", preset="averaged", **TINY, ema=0.9).train.averages == ()
    finally:
        del file.PRESETS["averaged"]

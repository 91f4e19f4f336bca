"""What is not finite never stays: back to the last good state, on with half the learning rate, three times at most."""

import json

import pytest
import torch

from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.core.errors import DivergedError
from fromnoise.families import Trust
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run
from fromnoise.training.launch import describe_run, start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run
from fromnoise.training.trainer import Trainer

BOMB = '''"""Two linear maps in two phases; something is not finite at one step, the first so many times that training comes there."""
import torch
from pydantic import Field
from torch import nn
from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase

class Config(BaseConfig):
    lr: float = Field(1e-2)
    at: int = Field(8)
    tries: int = Field(1)
    where: str = Field("second")
    what: str = Field("loss")

class Options(BaseConfig):
    pass

PRESETS = {"default": {}}

class Bomb(Family):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.first, self.second = nn.Linear(spec.dims, 3), nn.Linear(3, spec.dims)

    def phases(self):
        return tuple(Phase(name, trains=(name,), lr=self.config.lr) for name in ("first", "second"))

    def loss(self, batch, phase, rng):
        c, path, x = self.config, rng.path, batch.x.flatten(1)
        tried = path[path.index("rollback") + 1] if "rollback" in path else 0
        step = path[path.index("step") + 1] if "step" in path else None
        error = (self.second(self.first(x) + 0.1 * rng.normal("eps", (len(x), 3))) - x).square().mean()
        goes_off = step == c.at and phase == c.where and tried < c.tries
        if c.what == "metric" and step is None:
            error = error / 0
        elif goes_off and c.what == "loss":
            error = error * float("nan")
        elif goes_off and c.what == "gradient":
            error = error + (0 * self.second.weight).sqrt().sum() + (0 * self.first.weight).sqrt().sum()
        elif goes_off and c.what == "weight":
            with torch.no_grad():
                self.second.bias.fill_(float("inf"))  # as a step with a huge learning rate would
        return Loss(error, {"error": error})

    def sample(self, n, y, options, rng):
        return self.second(rng.normal("z", (n, 3))).view(n, *self.spec.shape)

FAMILY = Bomb
'''
SMALL = dict(steps=20, batch_size=32, intervals=4, validation_examples=50, threads=1)


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "bomb.py").write_text(BOMB)
    return lambda **options: make_plan(str(tmp_path / "bomb.py"), **SMALL | options)


def rollbacks(run: Run) -> list[dict]:
    return run.events("rollback")


@pytest.mark.parametrize(
    "what,where",
    [("loss", "first"), ("loss", "second"), ("gradient", "second"), ("weight", "second")],
)
def test_a_run_goes_back_and_on(plan, tmp_path, what, where):
    shown = []
    run = start_run(
        plan(what=what, where=where, at=9 if what == "weight" else 8),
        tmp_path / "run",
        on_event=shown.append,
    )
    (event,) = rollbacks(run)
    assert (event["step"], event["to"], event["lr_factor"]) == (
        10 if what == "weight" else 8,
        5,
        0.5,
    )
    assert (
        f"{'a weight' if what == 'weight' else f'the {what}'}" in event["reason"]
        and "not finite" in event["reason"]
    )
    assert [(e["kind"], e["step"]) for e in run.events()] == [
        ("interval", 5),
        ("rollback", event["step"]),
        ("interval", 10),
        ("interval", 15),
        ("interval", 20),
    ]
    assert shown == run.events()
    saved = checkpoint.find(run)
    assert saved.step == 20 and saved.manifest.rollbacks == 1 and saved.manifest.events == 5
    assert all(torch.isfinite(t).all() for t in saved.tensors("model").values())


def bits(trainer: Trainer) -> dict[str, torch.Tensor]:
    optim = {
        f"{key}/{name}": t
        for key, o in trainer.optimizers.items()
        for name, t in o.tensors().items()
    }
    average = {f"ema/{name}": t for name, t in trainer.ema.model.state_dict().items()}
    return {name: t.clone() for name, t in (trainer.model.state_dict() | average | optim).items()}


@pytest.mark.parametrize("good", [0, 5])
def test_nothing_of_a_step_that_diverged_is_left(plan, tmp_path, good):
    """The first phase had changed its weights and moments when the second one diverged."""
    trainer = plan(at=7).trainer()
    run = Run.create(tmp_path / "run", describe_run(plan(), "", 20, trainer))
    for _ in range(good):
        trainer.advance(20)
    trainer.state.good = good
    trainer.save(run)
    before, batch = bits(trainer), trainer.stream.batch(30).x
    for _ in range(7 - good):
        trainer.advance(20)
    middle = bits(trainer)
    with pytest.raises(DivergedError) as error:
        trainer.advance(20)
    after = bits(trainer)
    assert [name for name in list(middle)[:4] if not torch.equal(middle[name], after[name])] == [
        "first.weight",
        "first.bias",
    ]
    trainer.roll_back(run, error.value)
    loaded = bits(trainer)
    assert loaded.keys() == before.keys() and all(
        torch.equal(t, before[name]) for name, t in loaded.items()
    )
    assert trainer.state.step == good and trainer.state.rollbacks == 1
    assert not torch.equal(trainer.stream.batch(30).x, batch)  # other batches, and other noise:
    assert trainer.step_rng.normal("x", (3,)).tolist() != trainer.rng.normal("x", (3,)).tolist()
    trainer.advance(20)
    (_, adam), *_ = trainer.optimizers[("first",)].parts
    assert adam.param_groups[0]["lr"] == pytest.approx(
        0.5 * 1e-2 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * max(0, good - 1) / 19)).item())
    )


@pytest.mark.parametrize("stops", [[7], [7, 6], [6, 7, 6, 7], [7, 6, 9], [12]], ids=str)
def test_resume_is_exact_before_between_and_after_rollbacks(plan, tmp_path, stops):
    """Stopped at 6 or 7, the run diverges at 8 and goes back to 5, the last interval, however often it was stopped since."""
    whole = start_run(plan(tries=2), tmp_path / "whole")
    assert [e["lr_factor"] for e in rollbacks(whole)] == [0.5, 0.25]
    cut = interrupted(plan(tries=2), tmp_path / "cut", stops)
    assert not first_difference(whole, cut)


def test_a_stop_of_many_steps_ago_does_not_remove_the_last_good_state(plan, tmp_path, monkeypatch):
    """Three stops in one interval: checkpoints of steps 11, 12 and 13 may not push out that of step 10."""
    monkeypatch.setattr(
        Trainer,
        "validate_and_select_average",
        lambda self: ({"value": abs(self.state.step - 5.0)}, {}),
    )  # 10 is not kept for being the best
    whole = start_run(plan(at=14), tmp_path / "whole")
    cut = interrupted(plan(at=14), tmp_path / "cut", [11, 12, 13])
    assert rollbacks(cut)[0]["to"] == 10 and not first_difference(whole, cut)


def test_the_third_time_ends_the_run(plan, tmp_path):
    with pytest.raises(DivergedError) as error:
        start_run(plan(tries=9), tmp_path / "run")
    line = str(error.value)
    assert error.value.exit_code == 5 and "\n" not in line
    assert (
        line.startswith("diverged at step 8 for the third time: the loss (error) is not finite")
        and "Lower --lr, " in line
        and "step 5, in" in line
    )
    run = Run(tmp_path / "run")
    assert len(rollbacks(run)) == 2 and checkpoint.find(run).step == 5
    assert all(torch.isfinite(t).all() for t in checkpoint.find(run).tensors("model").values())
    with pytest.raises(DivergedError, match="third time"):  # and again, in the same way
        resume_run(run, warn=lambda line: None, trust=Trust(recorded=True))
    assert len(rollbacks(run)) == 2 and [e["step"] for e in run.events("interval")] == [5]


def test_a_metric_that_is_not_finite_ends_it_too(plan, tmp_path):
    with pytest.raises(
        DivergedError,
        match="step 5 for the third time: the validation metric is not finite.*step 0",
    ):
        start_run(plan(what="metric", at=-1), tmp_path / "run")


def test_a_damaged_good_state_is_passed_over(plan, tmp_path, monkeypatch, capsys):
    original = Trainer.save

    def save(trainer, run):
        original(trainer, run)
        if trainer.state.step == 10 and not trainer.state.rollbacks:
            path = run.path / "checkpoints/step-00000010/model.safetensors"
            path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(Trainer, "save", save)
    run = start_run(plan(at=13), tmp_path / "run")
    assert [(e["kind"], e["step"]) for e in run.events()] == [
        ("interval", 5),
        ("rollback", 13),
        ("interval", 10),
        ("interval", 15),
        ("interval", 20),
    ]
    assert (
        rollbacks(run)[0]["to"] == 5 and "model.safetensors is damaged" in capsys.readouterr().err
    )
    assert checkpoint.find(run).manifest.events == 5


def test_the_command_line_says_so(plan, tmp_path, capsys):
    from fromnoise.cli import main

    path = str(tmp_path / "bomb.py")
    plan()
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["train", path, *small, "--json", "--out", "a"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["best"]["step"] in (5, 10, 15, 20) and document["step"] == 20
    assert (
        "! diverged at step 8: the loss (error) is not finite: back to step 5, and on with 0.5 of the learning rate"
        in err
    )
    assert main(["train", path, *small, "--tries", "5", "--out", "b", "--quiet"]) == 5
    assert capsys.readouterr().err.count("\n") == 1

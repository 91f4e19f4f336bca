"""Checks of a family's configuration, losses and training."""

import tempfile
from pathlib import Path

import torch

from ..core.capabilities import Judges, has
from ..core.family import Phase
from ..core.rng import Rng
from ..training.launch import start_run
from ..training.monitor.validation import validation_terms
from ..training.plan import option_models
from ..training.trainer import Trainer
from .exactness import first_difference, interrupted
from .suite import TEXT, Suite

LEARNING_STEPS = 60
STOPS = [[1], [5], [11], [3, 8, 17]]  # steps after which a training is stopped


def check_presets(suite: Suite) -> None:
    """every preset resolves, and no option has two meanings"""
    names = [name for model in option_models(suite.family) for name in model.model_fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"these names are options of the training or the data already: {twice}"
    assert "default" in suite.family.PRESETS, "PRESETS has no 'default'"
    for preset, values in suite.family.PRESETS.items():
        unknown = sorted(set(values) - set(names))
        assert not unknown, f"preset {preset} sets unknown options {unknown}"


def check_round_trip(suite: Suite) -> None:
    """the configuration survives JSON, and the constructor stores it unchanged"""
    plan = suite.plan()
    again = type(plan.config).model_validate_json(plan.config.model_dump_json())
    assert again == plan.config, f"{plan.config} came back as {again}"
    model = plan.initial_model()
    assert model.config is plan.config, "the model does not keep the config it was given"


def check_phases(suite: Suite) -> None:
    """the gradients of each phase reach what it trains, and its update changes nothing else"""
    trainer = suite.plan().trainer()
    for phase in trainer.model.phases():
        before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        params = trainer.model.parameters_of(phase)
        # layers that start at zero have no gradient of their inputs at first
        for step in range(3):
            update(trainer, phase, step, list(params.values()))
        idle = [name for name, p in params.items() if not has_gradient(trainer, p)]
        assert not idle, f"phase {phase.name} trains {idle[0]}, but no gradient reaches it"
        prefixes = tuple(f"{module}." for module in phase.trains)
        for name, tensor in trainer.model.state_dict().items():
            assert torch.equal(tensor, before[name]) or name.startswith(prefixes), (
                f"phase {phase.name} changed {name}, which it does not train"
            )


def update(trainer: Trainer, phase: Phase, step: int, params: list[torch.Tensor]) -> None:
    """One update of one phase."""
    batch = trainer.stream.batch(step)
    loss = trainer.model.loss(batch, phase.name, trainer.rng.at("check", step))
    shape = tuple(loss.value.shape)
    assert shape == (), f"phase {phase.name}: the loss has shape {shape}, not a scalar"
    assert loss.terms, f"phase {phase.name}: the loss names no terms"
    for p in trainer.model.parameters():
        p.grad = None
    loss.value.backward(inputs=params)
    trainer.optimizers[phase.trains].step(1.0)


def has_gradient(trainer: Trainer, p: torch.Tensor) -> bool:
    """A loss that compares scores has no gradient in a constant that is added to all of them."""
    if p.grad is None:
        return False
    is_constant = has(trainer.model, Judges) and p.numel() == 1
    return is_constant or bool(p.grad.abs().sum() > 0)


def check_loss_is_pure(suite: Suite) -> None:
    """the loss depends on its arguments only: same batch and key, same number"""
    trainer = suite.plan().trainer()
    for phase in trainer.model.phases():
        batch = trainer.stream.batch(0)
        first, second = (
            trainer.model.loss(batch, phase.name, trainer.rng.at("check")).value.item()
            for _ in range(2)
        )
        assert first == second, (
            f"phase {phase.name} gave {first}, then {second}: use the rng it is given, and no other"
        )


def check_learns(suite: Suite) -> None:
    """the held-out objective falls"""
    trainer = suite.plan(steps=LEARNING_STEPS).trainer()
    if not trainer.model.phases():
        return
    # the losses of an adversarial family may rise: its samples are measured
    name = "distance of samples" if has(trainer.model, Judges) else "loss"
    before = validation_value(trainer)
    for _ in range(LEARNING_STEPS):
        trainer.advance(LEARNING_STEPS)
    trainer.model.eval()
    after = validation_value(trainer)
    assert after < before, (
        f"{LEARNING_STEPS} steps took the {name} from {before:.4g} to {after:.4g}"
    )


@torch.no_grad()
def validation_value(trainer: Trainer) -> float:
    if has(trainer.model, Judges):
        return trainer.validate()["value"]
    batch = trainer.stream.batch(10**6)
    return validation_terms(trainer.model, batch, Rng(0).at("check"))["value"]


def check_resume(suite: Suite) -> None:
    """a run stopped at step 1, mid-epoch, at an epoch's end (11) and three times in a row ends bit
    for bit the same"""
    check_resume_on(suite, suite.data[0], STOPS)
    if TEXT in suite.data[1:]:
        check_resume_on(suite, TEXT, STOPS[-1:])


def check_resume_on(suite: Suite, data: dict, stops: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = start_run(suite.plan(data), Path(folder) / "whole")
        if not whole.record.steps:
            return
        for i, steps in enumerate(stops):
            stopped = interrupted(suite.plan(data), Path(folder) / f"stopped-{i}", steps)
            difference = first_difference(whole, stopped)
            assert not difference, f"stopped at {steps}: {difference}"

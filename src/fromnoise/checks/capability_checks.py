"""Checks of what a trained model of a family can do: samples, codes, likelihoods, predictions."""

from pathlib import Path

import torch

from ..core.capabilities import Decodes, Encodes, HasLikelihood, Predicts, Reconstructs, has
from ..core.family import Family
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from ..inference.sample import sample
from .predictions import check_predictions
from .suite import CAPTIONS, Suite

BATCH = 8


def check_samples(suite: Suite) -> None:
    """samples have the right shape and range, are finite, and depend on (seed, i) alone"""
    for data in suite.data:
        with suite.trained(data) as loaded:
            many = sample(loaded, 70, seed=1)
            few = sample(loaded, 3, seed=1)
            other = sample(loaded, 3, seed=2)
        check_range(many, loaded.dataset.spec, Path(loaded.dataset.name).name)
        assert torch.equal(many[:3], few), "sample i changes with the number of samples"
        assert not torch.equal(few, other), "another seed gives the same samples"


def check_range(x: torch.Tensor, spec: DataSpec, name: str) -> None:
    """Shape and range of 70 samples."""
    shape = (70, *spec.shape)
    assert x.shape == shape, f"70 samples of {name} have shape {tuple(x.shape)}, not {shape}"
    assert torch.isfinite(x).all(), f"samples of {name} are not finite"
    if spec.kind == "image":
        largest = float(x.abs().max())
        assert largest < 4, f"samples of {name} reach {largest:.3g}: images live in [-1, 1]"
    if spec.kind == "tokens":
        assert x.dtype == torch.int64 and 0 <= x.min() and x.max() < spec.levels, (
            f"samples of text are whole numbers from 0 to {spec.levels - 1}"
        )


def check_capabilities(suite: Suite) -> None:
    """encode, decode, reconstruct and likelihood keep their shapes, and do not depend on batch
    mates"""
    with suite.trained() as loaded:
        model = loaded.model
        batch = loaded.dataset.batch("test", slice(0, BATCH))
        first = loaded.dataset.batch("test", slice(0, 1))
    with torch.no_grad():
        if has(model, Encodes):
            check_codes(model, batch, first)
        if has(model, Reconstructs):
            assert model.reconstruct(batch.x, batch.y).shape == batch.x.shape, (
                "reconstruct changes the shape"
            )
        if has(model, HasLikelihood) and model.bound != "none":
            check_likelihood(model, batch, first)


def check_codes(model: Family, batch: Batch, first: Batch) -> None:
    z = model.encode(batch.x, batch.y)
    shape = (BATCH, model.latent_dim)
    assert z.shape == shape, f"encode gave {tuple(z.shape)}, not {shape}"
    assert torch.allclose(z[:1], model.encode(first.x, first.y), atol=1e-4), (
        "a code depends on its batch mates"
    )
    if has(model, Decodes):
        x = model.decode(z, batch.y)
        assert x.shape == batch.x.shape, f"decode gave {tuple(x.shape)}"


def check_likelihood(model: Family, batch: Batch, first: Batch) -> None:
    rng = Rng(0).at("check")
    nats = model.log_likelihood(batch.x, batch.y, rng.per_row(range(BATCH)))
    alone = model.log_likelihood(first.x, first.y, rng.per_row(range(1)))
    assert nats.shape == (BATCH,) and torch.isfinite(nats).all(), (
        "log_likelihood must give one finite number an example"
    )
    assert torch.allclose(nats[:1], alone, rtol=1e-4, atol=1e-3), (
        "a likelihood depends on its batch mates"
    )


def check_symbol_predictions(suite: Suite) -> None:
    """predictions of symbols are a distribution, see nothing ahead, and are the same step by step and
    all at once"""
    for data in suite.data:
        trainer = suite.plan(data).trainer()
        model = trainer.model
        if not has(model, Predicts):
            return
        # layers that start at zero would hide what a prediction depends on
        for _ in range(3 if model.phases() else 0):
            trainer.advance(3)
        model.eval()
        batch = trainer.dataset.batch("test", slice(0, 3))
        with torch.no_grad():
            check_predictions(model, batch.x, batch.y if model.conditional else None)


def check_labels(suite: Suite) -> None:
    """labels are obeyed: a conditional model's samples change with the label and nothing else"""
    if not accepts_conditions(suite, conditional=True):
        return
    with suite.trained(conditional=True) as loaded:
        first = sample(loaded, 4, label=1)
        second = sample(loaded, 4, label=2)
    assert not torch.equal(first, second), "the label changes nothing"


def check_captions(suite: Suite) -> None:
    """captions are obeyed: words and their order change a conditional model's samples, by prompts as
    by rows of words"""
    options = CAPTIONS | {"conditional": True, "steps": 4, "batch_size": 16}
    if not accepts_conditions(suite, **options):
        return
    captions = [
        "a red circle left of a blue square",
        "a blue square left of a red circle",
        "a red circle",
    ]
    with suite.trained(**options) as loaded:
        both, swapped, shorter = (sample(loaded, 2, prompt=caption) for caption in captions)
        example = loaded.dataset.caption_codec.examples[0]
        default = sample(loaded, 1)
        prompted = sample(loaded, 1, prompt=example)
    assert not torch.equal(both, shorter), "the caption changes nothing"
    assert not torch.equal(both, swapped), "the order of a caption's words changes nothing"
    assert torch.equal(default, prompted), (
        "samples without a prompt do not begin with the first example"
    )


def accepts_conditions(suite: Suite, **options) -> bool:
    """Whether the family has conditional models, with these options."""
    return "conditional" in suite.family.Config.model_fields and suite.accepts(**options)

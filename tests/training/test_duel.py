"""The duel monitor: its numbers against known answers, and each of its sentences on a duel that went wrong that way."""

import math
import re
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.core.config import BaseConfig
from fromnoise.core.errors import DivergedError
from fromnoise.core.family import Family, Loss, Phase
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.dataset import Dataset, Split
from fromnoise.measures.features import RawFeatures
from fromnoise.measures.separation import mean_distance, separation
from fromnoise.nets.mlp import MLP
from fromnoise.probability import adversarial
from fromnoise.runs.directory import Run
from fromnoise.training.launch import start_run
from fromnoise.training.loop import fit
from fromnoise.training.monitor import health
from fromnoise.training.monitor.adversarial import AdversarialMonitor
from fromnoise.training.monitor.advice import advise
from fromnoise.training.monitor.diagnosis import adversarial_findings, is_discriminator
from fromnoise.training.monitor.sample_modes import (
    SampleModes,
    cluster_centres,
    entropy,
    find_modes,
    mode_coverage,
)
from fromnoise.training.monitor.sample_reference import SampleReference
from fromnoise.training.plan import make_plan
from fromnoise.training.settings import TrainConfig
from fromnoise.training.stop import StopRequest
from fromnoise.training.trainer import Trainer

SMALL = dict(threads=1, intervals=4, validation_examples=500)
POINTS = dict(data_name="ring8", hidden=(64, 64), batch_size=64, precision="float32", **SMALL)


# -- the numbers --------------------------------------------------------------------------------------------------


def test_separation_is_the_area_under_the_roc_curve():
    from sklearn.metrics import roc_auc_score

    above, below = (
        Rng(0).integers("a", 9, (301,)).double(),
        Rng(1).integers("b", 7, (199,)).double(),
    )  # with many ties
    said = separation(above, below)
    assert said == pytest.approx(
        roc_auc_score([1] * 301 + [0] * 199, torch.cat([above, below])), abs=1e-12
    )
    assert separation(below, above) == pytest.approx(1 - said) and separation(
        above, above
    ) == pytest.approx(0.5)
    assert separation(above + 10, below) == 1 and separation(
        100 * above - 3, 100 * below - 3
    ) == pytest.approx(said)


def test_mean_distance_of_a_gaussian():
    d = 5  # E |x - y| = 2 Gamma((d + 1) / 2) / Gamma(d / 2) for x, y ~ N(0, I)
    assert mean_distance(Rng(0).normal("x", (500, d)).double()) == pytest.approx(
        2 * math.gamma((d + 1) / 2) / math.gamma(d / 2), rel=0.03
    )
    assert mean_distance(torch.ones(20, 3)) == 0


def test_histogram_counts_what_can_be_judged():
    real = torch.tensor([0.5, 0.3, 0.195, 0.005], dtype=torch.float64)
    found = mode_coverage(
        torch.tensor([0.6, 0.4, 0.0, 0.0], dtype=torch.float64), real, n=1000
    )  # 5 of the last are too few
    assert (found["modes"], found["modes_seen"]) == (3, 2)
    assert found["entropy"] == pytest.approx(
        0.673012 / entropy(real), abs=1e-5
    )  # -.6 ln .6 - .4 ln .4
    exact = mode_coverage(real, real, n=1000)
    assert exact == {"modes": 3, "modes_seen": 3, "entropy": 1.0}
    assert (
        mode_coverage(0.2 * real, real, 1000)["modes_seen"] == 3
        and mode_coverage(0.09 * real, real, 1000)["modes_seen"] == 0
    )
    one = torch.tensor([1.0], dtype=torch.float64)
    assert mode_coverage(one, one, 100) == {"modes": 1, "modes_seen": 1, "entropy": 1.0}
    assert entropy(torch.zeros(3)) == 0 and entropy(torch.full((8,), 0.1)) == pytest.approx(
        math.log(8)
    )


def toy(x: np.ndarray, y: np.ndarray | None, kind="vector", held_out=None) -> Dataset:
    spec = DataSpec("vector", x.shape[1:], classes=0 if y is None else int(y.max()) + 1)
    part, held = Split(x.astype(np.float32), y), x if held_out is None else held_out
    return Dataset(
        "toy",
        spec,
        {"train": part, "validation": Split(held.astype(np.float32), y), "test": part},
        "0" * 64,
    )


def ring(n=4000):
    from fromnoise.data.sources.toys import density

    return density("ring8").sample(n, Rng(0))


def test_modes_are_the_classes_that_samples_lie_near():
    x, y = ring()
    dataset = toy(x, y)
    modes = find_modes(SampleReference(dataset, 4000, Rng(0)), dataset, Rng(0))
    assert modes.kind == "classes" and modes.size == 8
    assert torch.allclose(
        modes.radius,
        torch.full((8,), 0.01 * math.sqrt(2 * math.log(100)), dtype=torch.float64),
        rtol=0.12,
    )
    fresh = torch.from_numpy(ring(6000)[0][4000:]).double()
    shares, good = modes.shares(fresh)
    assert good == pytest.approx(0.99, abs=0.008) and torch.allclose(
        shares, torch.full((8,), 0.99 / 8, dtype=torch.float64), atol=0.03
    )
    three = fresh[torch.isin(torch.from_numpy(ring(6000)[1][4000:]), torch.tensor([0, 3, 4]))]
    assert mode_coverage(modes.shares(three)[0], shares, 2000)["modes_seen"] == 3
    blurred, good = modes.shares(fresh + 0.1 * Rng(5).normal("blur", fresh.shape).double())
    assert (
        good < 0.05 and mode_coverage(blurred, shares, 2000)["modes_seen"] == 8
    )  # blurred is not collapsed


def test_without_labels_modes_are_regions():
    x, _ = ring()
    dataset = toy(x, None)
    modes = find_modes(SampleReference(dataset, 2000, Rng(0)), dataset, Rng(0))
    assert modes.kind == "regions" and modes.size == 16 and modes.radius is None
    again = cluster_centres(torch.from_numpy(x[:2000]).double(), Rng(0))
    assert torch.equal(again, modes.centres)  # the same seed, the same regions
    few = torch.from_numpy(x[:60]).double()
    assert (
        len(cluster_centres(few[:3], Rng(0))) == 1 and 1 <= len(cluster_centres(few, Rng(0))) <= 6
    )
    far = torch.cat([few[:22], few[:1] + 1000])  # one picture is no region, however far it is
    assert len(found := cluster_centres(far, Rng(0))) == 1 and found.abs().max() < 500
    real, good = modes.shares(torch.from_numpy(x).double())
    half = torch.from_numpy(x[x[:, 0] > 0.5]).double()
    found = mode_coverage(modes.shares(half)[0], real, 2000)
    assert good == 1 and found["modes_seen"] < 0.6 * found["modes"] and found["entropy"] < 0.8
    few = toy(np.ones((12, 3)), None)
    assert (
        find_modes(SampleReference(few, 100, Rng(0)), few, Rng(0)).size <= 12
    )  # constant data: nothing to find, nothing raised


def test_classes_too_many_to_be_judged_give_way_to_regions():
    x, _ = ring()
    dataset = toy(x, (np.arange(len(x)) % 1000).astype(np.int64))
    modes = find_modes(SampleReference(dataset, 2000, Rng(0)), dataset, Rng(0))
    assert modes.kind == "regions" and modes.size == 16


def test_an_evaluator_names_the_classes():
    plan = make_plan("classical", "digits", threads=1)
    reference = SampleReference(plan.dataset, 500, Rng(0))
    modes = find_modes(reference, plan.dataset, Rng(0))
    assert modes.evaluator is reference.map and modes.size == 10
    assert (
        modes.assign(reference.held_out)[0] == torch.from_numpy(plan.dataset.split("validation").y)
    ).double().mean() > 0.95


class Fixed(torch.nn.Module):
    """Samples that were made before."""

    conditional = False

    def __init__(self, x):
        super().__init__()
        self.x, self.config = x, None

    def sample(self, n, y, options, rng):
        return self.x[torch.tensor(rng.rows) % len(self.x)]

    def judge(self, x, y=None, is_generated=False):
        return x.flatten(1).sum(1)


def test_distance_of_real_examples_and_of_their_mean():
    x, y = ring()
    reference = SampleReference(toy(x, y, held_out=ring(8000)[0][4000:]), 2000, Rng(0))
    assert (
        reference.name == "sliced_wasserstein"
        and reference.n == 2000
        and isinstance(reference.map, RawFeatures)
    )
    features, scores = reference.draw(Fixed(torch.from_numpy(x)), None)
    perfect = reference.distance(features)
    assert abs(perfect.value) < 4 * perfect.se and perfect.value < 0.01 * reference.spread
    assert torch.allclose(scores, torch.from_numpy(x[:2000]).sum(1).double())
    mean = reference.held_out.mean(0, keepdim=True).float()
    assert reference.distance(reference.draw(Fixed(mean), None)[0]).value == pytest.approx(
        reference.spread, rel=0.03
    )
    assert reference.draw(Fixed(torch.tensor([[0.0, float("nan")]])), None) is None


def test_scores_that_are_not_finite_are_no_duel():
    x, y = ring(1200)
    watch, model = AdversarialMonitor(toy(x, y), None, 400, Rng(0)), Fixed(torch.from_numpy(x))
    terms, numbers = watch.measure(model, model)
    assert (
        numbers["separation"] == pytest.approx(0.5)
        and abs(numbers["relative"]) < 0.05
        and numbers["modes_seen"] == 8
    )
    assert (
        terms["value"]
        == terms["sliced_wasserstein"]
        == terms["raw_distance"]
        == numbers["distance"]
    )
    model.judge = lambda x, y=None, is_generated=False: x.sum(1) / 0
    assert watch.measure(model, model) == ({"value": math.inf}, {})


def test_distance_of_images():
    """With rows enough it is Fréchet's, and the mean alone scores the variance; a handful of examples is measured too."""
    plan = make_plan(
        "classical", "digits", validation=0.4, threads=1
    )  # other splits than the evaluator's: PCA
    reference = SampleReference(plan.dataset, 2000, Rng(0))
    assert (
        reference.name == "frechet"
        and reference.map.name.startswith("pca-64")
        and len(reference.held_out) == 719
    )
    train = plan.dataset.batch("train", slice(0, 719)).x
    mean = plan.dataset.batch("validation", slice(None)).x.mean(0, keepdim=True)

    def distance(x):
        return reference.distance(reference.draw(Fixed(x), None)[0])

    assert abs(distance(train).value) < 0.02 * reference.spread
    assert distance(mean + 1e-3 * Rng(0).normal("eps", (719, 1, 8, 8))).value == pytest.approx(
        reference.spread, rel=0.1
    )
    few = SampleReference(make_plan("classical", "digits", threads=1).dataset, 5, Rng(0))
    assert (
        few.name == "sliced_wasserstein"
        and few.n == 10
        and math.isfinite(few.distance(few.draw(Fixed(train), None)[0]).value)
    )


# -- the sentences ------------------------------------------------------------------------------------------------

HEALTHY = {
    "separation": 0.97,
    "separation_held_out": 0.96,
    "memorising": 0.53,
    "memorising_error": 0.01,
    "distance": 1.0,
    "distance_error": 0.05,
    "raw_distance": 1.1,
    "relative": 0.05,
    "raw_relative": 0.055,
    "diversity": 0.97,
    "modes": 8,
    "modes_seen": 8,
    "entropy": 0.99,
    "kind": "classes",
    "good": 0.9,
    "features": "columns",
}
GRADIENTS = {"discriminator": 0.3, "generator": 0.02}
BEST = {"step": 3000, "value": 0.9}


EVERY_OPTION = ("lr_d", "lr_g", "r1", "r2", "loss", "pack", "augment", "width", "hidden", "ema")


def said(gradients=GRADIENTS, best=BEST, kind="image", **changes) -> list[str]:
    return advise(adversarial_findings(HEALTHY | changes, gradients, best, kind), EVERY_OPTION)


def test_a_healthy_duel_raises_nothing():
    assert not said() and not said(separation=0.999) and not said(separation=0.45)
    assert not said(gradients={"generator": 1e-6}) and not said(
        gradients={"discriminator": 0.1}, separation=0.999
    )  # not its turn
    assert not said(relative=0.005, best={"step": 1, "value": 0.01}) and not said(
        relative=0.005, raw_distance=0.1
    )  # near 0 all is noise
    assert not said(memorising=0.8, memorising_error=0.09) and not said(
        distance_error=0.2, best={"step": 1, "value": 0.5}
    )
    assert not said(modes=0, modes_seen=0, entropy=0.2)  # nothing could be judged
    assert not said(separation=0.998, relative=0.6) and not said(
        separation=0.52, relative=0.6
    )  # D plays against the raw weights


@pytest.mark.parametrize(
    "changes,name,words",
    [
        (
            dict(separation=0.998, gradients={"discriminator": 1.0, "generator": 1e-6}),
            "discriminator too strong",
            ("99.8 %", "1e-06", "Try: lower --lr-d"),
        ),
        (
            dict(separation=0.998, raw_relative=0.6),
            "discriminator too strong",
            ("99.8 %", "far from the data", "Try: lower --lr-d"),
        ),
        (
            dict(separation=0.52, raw_relative=0.6),
            "discriminator too weak",
            ("52.0 %", "Try: raise --lr-d"),
        ),
        (
            dict(modes_seen=3),
            "mode collapse",
            ("3 of 8 modes (classes)", "90 % of the samples near any", "use --loss relativistic"),
        ),
        (dict(entropy=0.4), "mode collapse", ("few of the 8 modes", "40 % of the entropy")),
        (dict(diversity=0.3), "low diversity", ("0.30 times", "raise --r1 and --r2")),
        (dict(memorising=0.86), "discriminator overfits", ("86 %", "--augment translation")),
        (
            dict(memorising=0.86, kind="vector"),
            "discriminator overfits",
            ("Try: lower --hidden",),
        ),
        (
            dict(distance=3.4, best={"step": 3000, "value": 1.2}, raw_distance=3.0),
            "samples get worse",
            ("1.2 at step 3000", "3.4 now", "Try: use --checkpoint best"),
        ),
        (dict(distance=1.0, raw_distance=0.3), "averaged weights lag behind", ("lower --ema",)),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_each_illness_has_its_sentence(changes, name, words):
    (sentence,) = said(**changes)
    assert sentence.startswith(f"{name}: ") and all(word in sentence for word in words), sentence


WRONG = {
    "strong": dict(separation=0.998, raw_relative=0.6),
    "weak": dict(separation=0.52, raw_relative=0.6),
    "collapsed": dict(modes_seen=3),
    "alike": dict(diversity=0.3),
    "overfits": dict(memorising=0.86),
    "worse": dict(distance=3.4, best={"step": 3000, "value": 1.2}, raw_distance=3.0),
    "lags": dict(distance=1.0, raw_distance=0.3),
}


@pytest.mark.parametrize("known", [EVERY_OPTION, ("r1", "r2"), ("lr_g", "r1", "r2", "pack"), ()])
@pytest.mark.parametrize("pair", list(combinations(WRONG, 2)), ids=" ".join)
def test_the_advice_of_one_interval_does_not_contradict_itself(pair, known):
    changes = WRONG[pair[0]] | WRONG[pair[1]]
    best = changes.pop("best", BEST)
    findings = adversarial_findings(HEALTHY | changes, GRADIENTS, best)
    sentences = advise(findings, known)
    assert len(sentences) == len(findings)
    raised, lowered = (
        {
            flag
            for s in sentences
            for flag in re.findall(r"--[\w-]+", s.partition(f"Try: {action}")[2])
        }
        for action in ("raise", "lower")
    )
    assert not raised & lowered
    assert all(s.count("Try:") <= 1 and s.count(" or --") == 0 for s in sentences)


def test_which_phase_is_the_discriminators():
    assert (
        is_discriminator("discriminator")
        and is_discriminator("critic")
        and not is_discriminator("generator")
        and not is_discriminator("encoder")
    )


# -- duels that go wrong, from end to end -------------------------------------------------------------------------


def names(run: Run) -> set[str]:
    return {
        sentence.split(":")[0] for event in run.events("interval") for sentence in event["health"]
    }


PINNED = dict(
    latent_dim=8,
    beta2=0.99,
    penalty_hold=0.0,
    penalty_end=0.1,
    lazy=1,
    warmup=0.0,
    lr_end=0.0,
    hidden_g=None,
)  # whatever the presets become


def test_minimax_without_a_penalty_fails_visibly(tmp_path):
    wild = dict(
        loss="minimax",
        r1=0.0,
        r2=0.0,
        beta1=0.5,
        lr_d=1e-2,
        lr_g=1e-2,
        ema=0.9,
        schedule="constant",
    )
    run = start_run(make_plan("gan", steps=300, **wild, **PINNED, **POINTS), tmp_path / "run")
    assert "mode collapse" in names(run)
    for event in run.events("interval"):
        assert (
            event["validation"]["value"]
            == event["validation"]["sliced_wasserstein"]
            == event["duel"]["distance"]
        )
        assert event["validation"]["raw_distance"] == event["duel"]["raw_distance"]
    cut = interrupted(
        make_plan("gan", steps=300, **wild, **PINNED, **POINTS), tmp_path / "cut", [100]
    )
    assert not first_difference(run, cut)  # the duel's numbers and sentences too


def test_a_penalised_duel_is_well(tmp_path):
    calm = dict(
        loss="relativistic",
        r1=0.1,
        r2=0.1,
        beta1=0.0,
        lr_d=1e-3,
        lr_g=2e-3,
        ema=0.99,
        schedule="cosine",
    )
    run = start_run(make_plan("gan", steps=400, **calm, **PINNED, **POINTS), tmp_path / "run")
    assert not names(run)
    last = run.events("interval")[-1]["duel"]
    assert last["modes_seen"] == last["modes"] == 8 and last["relative"] < 0.05


class SceneConfig(BaseConfig):
    shift: float = 0.0
    loss: str = "non-saturating"


class Scene(Family):
    """A generator that stands still: its samples have the law of the data, but for a shift."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.discriminator, self.generator = (
            MLP(spec.dims, (128, 128), 1, "leaky"),
            nn.Linear(spec.dims, spec.dims),
        )
        nn.init.eye_(self.generator.weight), nn.init.constant_(self.generator.bias, config.shift)

    def phases(self):
        return Phase("discriminator", ("discriminator",), lr=3e-3), Phase(
            "generator", ("generator",), lr=1e-9
        )

    def judge(self, x, y=None, is_generated=False):
        return self.discriminator(x)[:, 0]

    def sample(self, n, y, options, rng):
        return self.generator(rng.normal("z", (n, self.spec.dims)))

    def loss(self, batch, phase, rng):
        fake = self.judge(self.sample(len(batch), None, None, rng))
        side = adversarial.DISCRIMINATOR if phase == "discriminator" else adversarial.GENERATOR
        value = side[self.config.loss](self.judge(batch.x), fake)
        return Loss(value, {"value": value})


def scene(path, n: int, **config) -> Run:
    x = Rng(3).normal("x", (n + 1000, 20)).numpy()
    dataset = toy(x[:n], None, held_out=x[n:])
    trainer = Trainer(
        lambda: Scene(SceneConfig(**config), dataset.spec),
        dataset,
        TrainConfig(steps=240, batch_size=60, schedule="constant", **SMALL),
    )
    data = {"name": "x", "settings": {}, "spec": {"kind": "vector", "shape": [20]}, "digest": ""}
    run = Run.create(
        path,
        {
            "family": "x",
            "preset": "default",
            "config": {},
            "train": {},
            "data": data,
            "seed": 0,
            "steps": 240,
        },
    )
    fit(trainer, run, 240, lambda event: None, StopRequest())
    return run


def test_a_discriminator_learns_few_examples_by_heart(tmp_path):
    """Where the generator is perfect all that D can learn is the training set."""
    run = scene(tmp_path / "run", 60)
    last = run.events("interval")[-1]
    assert last["duel"]["memorising"] > 0.9 and last["duel"]["separation"] > 0.9
    assert (
        last["duel"]["separation_held_out"] == pytest.approx(0.5, abs=0.06)
        and abs(last["duel"]["relative"]) < 0.02
    )
    assert names(run) == {"discriminator overfits"} and "--hidden" in last["health"][0]


@pytest.mark.parametrize("loss", ["non-saturating", "minimax"])
def test_a_discriminator_wins(loss, tmp_path):
    """The saturating loss leaves the generator without a gradient, the other one with a strong one."""
    run = scene(tmp_path / "run", 600, shift=3.0, loss=loss)
    (sentence,) = [
        s for s in run.events("interval")[-1]["health"] if s.startswith("discriminator too")
    ]
    assert sentence.startswith("discriminator too strong: it ranks 100.0 % of (real, ")
    assert (
        "the gradient norm of the generator is" if loss == "minimax" else "the samples are far"
    ) in sentence


def test_samples_that_are_not_finite_end_the_run(tmp_path):
    with pytest.raises(DivergedError, match="third time.*Lower --lr-d and --lr-g"):
        start_run(
            make_plan("gan", lr_g=1e30, steps=20, schedule="constant", **POINTS), tmp_path / "run"
        )


def test_modes_need_no_evaluator():
    modes = SampleModes(
        "classes",
        2,
        centres=torch.tensor([[0.0], [1.0]], dtype=torch.float64),
        radius=torch.tensor([0.1, 0.2], dtype=torch.float64),
    )
    mode, inside = modes.assign(torch.tensor([[0.05], [0.4], [0.85], [1.3]], dtype=torch.float64))
    assert mode.tolist() == [0, 0, 1, 1] and inside.tolist() == [True, False, True, False]


def test_a_mend_does_not_name_the_loss_that_is_taken():
    def loss(**options):
        return make_plan("gan", data_name="ring8", steps=1, threads=1, **options).build()

    assert "loss" not in health.known_options(loss()) and "loss" in health.known_options(
        loss(loss="hinge")
    )

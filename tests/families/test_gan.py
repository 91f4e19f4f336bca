"""The family gan: its losses at known values, its phases, packs, labels, growth; broken runs."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.evaluate.report_head import describe_model
from fromnoise.evaluate.samples import draw_samples
from fromnoise.families import gan
from fromnoise.probability import adversarial
from fromnoise.probability.candidates import CANDIDATES, CandidateSampler, fit_score_scale
from fromnoise.runs.load import load_run
from fromnoise.training.estimate import IMAGINED_STEPS, list_step_kinds
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run

POINTS, DIGITS = DataSpec("vector", (2,)), DataSpec("image", (1, 8, 8), levels=17, classes=10)
SMALL = dict(network="mlp", hidden=(16, 16), latent_dim=4)


def model(spec=POINTS, **options) -> gan.GAN:
    torch.manual_seed(0)
    return gan.GAN(gan.Config(**(SMALL if spec.kind == "vector" else {}) | options), spec)


def batch(spec, n=12, seed=0) -> Batch:
    y = torch.arange(n) % spec.classes if spec.classes else None
    return Batch(Rng(seed).normal("x", (n, *spec.shape)).clamp(-1, 1), y)


# -- objectives ---------------------------------------------------------------------------------------------------


def quantiles(n=200_000) -> torch.Tensor:
    """The middles of n equally likely parts of N(0, 1), float64: their mean of f is E f."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def test_value_of_the_game_at_the_best_discriminator():
    """N(0, 1) against N(1, 1): the best D is the log odds 1/2 - x, its value -1.163451397 (evaluation.md 4.4)."""
    x = quantiles()
    real, fake = 0.5 - x, 0.5 - (x + 1)
    for name in ("minimax", "non-saturating"):
        assert adversarial.DISCRIMINATOR[name](real, fake).item() == pytest.approx(
            1.163451397, abs=1e-6
        )
    for factor, shift in ((0.9, 0.0), (1.1, 0.0), (1.0, 0.1), (1.0, -0.1)):
        assert (
            adversarial.DISCRIMINATOR["minimax"](factor * real + shift, factor * fake + shift)
            > 1.163451397 + 1e-4
        )
    same = torch.zeros(5, dtype=torch.float64)
    assert adversarial.DISCRIMINATOR["minimax"](same, same).item() == pytest.approx(
        math.log(4), abs=1e-12
    )
    assert adversarial.DISCRIMINATOR["relativistic"](same, same).item() == pytest.approx(
        math.log(2), abs=1e-12
    )


def test_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-1.0, 3.0])

    def s(t):
        return math.log1p(math.exp(t))

    def mean(a, b):
        return pytest.approx((a + b) / 2, abs=1e-6)

    D, G = adversarial.DISCRIMINATOR, adversarial.GENERATOR
    assert D["minimax"](real, fake) == mean(s(-2) + s(-1), s(-0.5) + s(3))
    assert G["minimax"](real, fake) == mean(-s(-1), -s(3))
    assert G["non-saturating"](real, fake) == mean(s(1), s(-3))
    assert D["least-squares"](real, fake) == mean((1 + 1) / 2, (0.25 + 9) / 2)
    assert G["least-squares"](real, fake) == mean(4 / 2, 4 / 2)
    assert D["hinge"](real, fake) == mean(0 + 0, 0.5 + 4)
    assert G["hinge"](real, fake) == G["wasserstein"](real, fake) == mean(1, -3)
    assert D["wasserstein"](real, fake) == mean(-3, 2.5)
    assert D["relativistic"](real, fake) == mean(s(-3), s(2.5))
    assert G["relativistic"](real, fake) == mean(s(3), s(-2.5))


@pytest.mark.parametrize("name", adversarial.GENERATOR)
def test_the_generator_wants_what_the_discriminator_fears(name):
    """Near equal scores: raising a fake's score lowers G's loss and raises D's."""
    real, fake = torch.zeros(4), torch.full((4,), 0.1, requires_grad=True)
    (g,) = torch.autograd.grad(adversarial.GENERATOR[name](real, fake), fake)
    (d,) = torch.autograd.grad(adversarial.DISCRIMINATOR[name](real, fake), fake)
    assert (g < 0).all() and (d > 0).all()


def test_slopes_and_penalties_of_a_linear_critic():
    """D(x) = w x: slope |w| everywhere, R1 = gamma / 2 |w|^2 with gradient gamma w."""
    w = torch.tensor([3.0, -4.0], requires_grad=True)
    x = Rng(0).normal("x", (6, 2))
    scores, slopes = adversarial.scores_and_squared_gradients(lambda part, rows: part @ w, x, 4)
    assert torch.allclose(scores, x @ w) and slopes.tolist() == pytest.approx([25.0] * 4)
    penalty = adversarial.zero_centred_penalty(slopes, 0.2)
    assert penalty.item() == pytest.approx(0.1 * 25)
    assert torch.autograd.grad(penalty, w, retain_graph=True)[0].tolist() == pytest.approx(
        [0.6, -0.8]
    )
    assert adversarial.one_centred_penalty(slopes, 10.0).item() == pytest.approx(10 * 16)
    value, terms = adversarial.penalised_discriminator_loss(
        lambda x, label: x @ w, x[:3], x[3:], None, "relativistic", r1=0.2, r2=0.4
    )
    assert value.item() == pytest.approx(
        softplus(x[3:] @ w - x[:3] @ w).mean().item() + 0.1 * 25 + 0.2 * 25, rel=1e-5
    )
    assert terms["slope_real"].item() == pytest.approx(25)
    made = x[3:].clone().requires_grad_()  # what D minimises says nothing to G
    value, _ = adversarial.penalised_discriminator_loss(
        lambda x, label: x @ w, x[:3], made, None, "relativistic", r1=0.2, r2=0.4, lazy=3
    )
    assert torch.autograd.grad(value, (w, made), allow_unused=True)[1] is None


def test_lazy_penalties_are_those_of_the_first_pairs():
    m = model()
    real, fake = batch(POINTS, 12).x, batch(POINTS, 12, seed=1).x

    def terms(lazy, a, b):
        return adversarial.penalised_discriminator_loss(
            m.score, a, b, None, "hinge", 1.0, 1.0, lazy
        )[1]

    few, all_of_few = terms(3, real, fake), terms(1, real[:4], fake[:4])
    assert few["slope_real"].item() == pytest.approx(all_of_few["slope_real"].item(), rel=1e-5)
    assert few["slope_fake"].item() == pytest.approx(all_of_few["slope_fake"].item(), rel=1e-5)
    assert few["d_loss"].item() == pytest.approx(terms(1, real, fake)["d_loss"].item(), rel=1e-5)


def test_penalties_are_annealed_geometrically():
    m, b = model(r1=2.0, r2=0.0, penalty_end=0.01, loss="wasserstein"), batch(POINTS)
    value = {}
    for m.progress in (0.0, 0.5, 1.0):
        loss = m.loss(b, "discriminator", Rng(0))
        value[m.progress] = (loss.value - loss.terms["d_loss"]).item() / loss.terms[
            "slope_real"
        ].item()
    assert [value[p] for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.1, 0.01], rel=1e-3)


# -- the Dirac-GAN, by these very functions: data at 0, a generator at theta, D(x) = psi x --------------------------


def gradients(theta: float, psi: float, loss: str, r1: float, r2: float) -> tuple[float, float]:
    """Of G's loss by theta and of D's by psi, float64."""
    theta, psi = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (theta, psi))
    zero, score = torch.zeros(1, 1, dtype=torch.float64), lambda x, label: (psi * x)[:, 0]
    d, _ = adversarial.penalised_discriminator_loss(
        score, zero, theta.view(1, 1), None, loss, r1, r2
    )
    g = adversarial.GENERATOR[loss](score(zero, None), score(theta.view(1, 1), None))
    return torch.autograd.grad(g, theta, retain_graph=True)[0].item(), torch.autograd.grad(d, psi)[
        0
    ].item()


def dirac(lr: float, loss: str, alternate: bool, r1=0.0, r2=0.0) -> float:
    """Largest modulus of the eigenvalues of one step at the equilibrium (0, 0)."""

    def step(theta, psi):
        g, d = gradients(theta, psi, loss, r1, r2)
        after = psi - lr * d
        return theta - lr * (gradients(theta, after, loss, r1, r2)[0] if alternate else g), after

    h = 1e-5
    columns = [(np.array(step(*e)) - np.array(step(*(-e)))) / (2 * h) for e in h * np.eye(2)]
    return np.abs(np.linalg.eigvals(np.array(columns).T)).max()


@pytest.mark.parametrize(
    "loss,lr",
    [("wasserstein", 0.1), ("minimax", 0.2), ("non-saturating", 0.2), ("relativistic", 0.2)],
)
def test_dirac_gan(loss, lr):
    """f'(0) is 1 for Wasserstein's loss and 1/2 for the logistic ones: the same matrices at twice the rate."""
    assert dirac(lr, loss, alternate=False) == pytest.approx(1.004988, abs=1e-6)
    assert dirac(lr, loss, alternate=True) == pytest.approx(1, abs=1e-6)
    for gamma in (0.2, 0.5):
        assert dirac(lr, loss, alternate=True, r1=gamma) == pytest.approx(
            math.sqrt(1 - lr * gamma), abs=1e-6
        )
        assert dirac(lr, loss, alternate=True, r1=gamma / 2, r2=gamma / 2) == pytest.approx(
            math.sqrt(1 - lr * gamma), abs=1e-6
        )


# -- phases: what is frozen stays bit for bit --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"spectral_norm": True},
        {"pack": 2},
        {"loss": "wasserstein", "gradient_penalty": 10.0, "r1": 0.0, "r2": 0.0},
        {"network": "progressive", "width": 4},
    ],
    ids=str,
)
def test_a_phase_leaves_the_frozen_network_as_it_is(options):
    trainer = make_plan(
        "gan", "digits", batch_size=16, width=options.pop("width", 8), steps=4, threads=1, **options
    ).trainer()
    trainer.model.progress = 0.7
    check_phases(trainer)


def check_phases(trainer) -> None:
    model = trainer.model
    for phase, other in zip(model.phases(), ("generator", "discriminator")):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        loss = model.loss(trainer.stream.batch(0), phase.name, trainer.rng.at("t"))
        optimizer = trainer.optimizers[phase.trains]
        optimizer.zero_grad()
        loss.value.backward(inputs=optimizer.params)
        optimizer.step(1.0)
        after = model.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before if k.startswith(other)), (
            phase.name
        )
        assert any(
            not torch.equal(before[k], after[k]) for k in before if k.startswith(phase.name)
        ), phase.name


@pytest.mark.parametrize(
    "penalty,compiled", [(0.0, {"generator", "discriminator"}), (1.0, {"generator"})]
)
def test_frozen_with_compiled_networks_too(penalty, compiled):
    """What a penalty differentiates twice is left as it is: torch.compile cannot do that."""
    trainer = make_plan(
        "gan",
        "digits",
        preset="mlp",
        hidden=(8,),
        batch_size=16,
        steps=4,
        threads=1,
        compile=True,
        r1=penalty,
        r2=penalty,
        loss="hinge",
    ).trainer()
    if not trainer.compile:
        pytest.skip("torch.compile does not work on this machine")
    assert {
        name.split(".")[0]
        for name, m in trainer.model.named_modules()
        if m._compiled_call_impl is not None
    } == compiled
    check_phases(trainer)


def test_generator_gets_no_gradient_from_the_discriminators_phase():
    m, b = model(), batch(POINTS)
    loss = m.loss(b, "discriminator", Rng(0)).value
    found = torch.autograd.grad(loss, list(m.generator.parameters()), allow_unused=True)
    assert all(g is None for g in found)
    real_only = m.loss(b, "generator", Rng(0)).value
    assert all(
        g is not None for g in torch.autograd.grad(real_only, list(m.generator.parameters()))
    )


# -- one model for any data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 30), (1, 28, 28), (2, 9, 9)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pack": 3},
        {"conditional": True},
        {"network": "progressive"},
        {"augment": ("translation", "cutout", "colour")},
        {"lazy": 4},
    ],
    ids=str,
)
def test_any_image(shape, options):
    spec = DataSpec("image", shape, levels=256, classes=5)
    m, b = model(spec, width=4, **options), batch(spec, 7)
    for m.progress in (0.0, 0.4, 1.0):
        for phase in ("discriminator", "generator"):
            loss = m.loss(b, phase, Rng(0))
            assert loss.value.ndim == 0 and torch.isfinite(loss.value)
        with torch.no_grad():
            x = m.sample(3, b.y[:3] if m.config.conditional else None, gan.Options(), Rng(0))
        assert x.shape == (3, *shape) and x.abs().max() <= 1
        assert m.judge(b.x, b.y).shape == (7,) and len(m.features(b.x)) == 7


def test_categories_of_a_table_come_one_hot_with_a_gradient():
    spec = DataSpec("vector", (6,), blocks=(1, 3, 2))
    m = model(spec)
    z = Rng(0).normal("z", (50, 4)).requires_grad_()
    x = m.decode(z)
    for part in (x[:, 1:4], x[:, 4:]):
        assert set(part.detach().unique().tolist()) <= {0.0, 1.0} and (part.sum(1) == 1).all()
    (gradient,) = torch.autograd.grad((x[:, 1:4] * torch.tensor([1.0, 2.0, 3.0])).sum(), z)
    assert gradient.abs().sum() > 0


def test_truncated_latents():
    """N(0, 1) within +-1 has variance 1 - 2 phi(1) / (2 Phi(1) - 1) = 0.2911."""
    m = model()
    z = m.draw_latents(20_000, gan.Options(truncation=1.0), Rng(0))
    assert z.abs().max() <= 1 and z.var().item() == pytest.approx(0.29112, abs=0.005)
    assert m.draw_latents(20_000, gan.Options(), Rng(0)).var().item() == pytest.approx(1, abs=0.02)
    a = m.sample(5, None, gan.Options(truncation=0.5, candidates=1), Rng(1))
    assert torch.equal(a, m.decode(m.draw_latents(5, gan.Options(truncation=0.5), Rng(1))))


def test_of_candidates_one_is_kept_in_proportion_to_p_over_q():
    """q = N(0, 1), p = N(.7, .5^2), a third of the log ratio up to a constant: what is kept has p's moments, and one draw q's."""
    choice, draw = (
        CandidateSampler(),
        lambda rng: rng.normal("x", (20_000, 1)).double(),
    )

    def score(x):
        return (3 + 0.5 * x[:, 0] ** 2 - 0.5 * ((x[:, 0] - 0.7) / 0.5) ** 2) / 3

    choice.sureness.fill_(3.0)

    def moments(k, t=1.0):
        return (lambda x: (float(x.mean()), float(x.std())))(
            choice.select(draw, score, k, Rng(3), t)
        )

    assert moments(1) == pytest.approx((0, 1), abs=0.02)
    assert moments(64) == pytest.approx((0.7, 0.5), abs=0.02)
    assert 0.3 < moments(4)[0] < 0.7
    assert moments(256, 0.5) == pytest.approx((0.8, 7**-0.5), abs=0.02)  # q (p / q)^2
    assert moments(64, 0.0) == pytest.approx(
        (0.7 / (1 - 0.5**2), 0), abs=0.05
    )  # where p / q is largest

    def rows(some, k=4):
        return choice.select(
            lambda rng: rng.normal("x", (len(some), 2)), lambda x: x.sum(1), k, Rng(1).per_row(some)
        )

    assert torch.equal(rows(range(6))[2:4], rows([2, 3]))  # a sample depends on its own row only
    alone, among = rows(range(200), 1), rows(range(200))
    assert 10 < int((alone == among).all(1).sum()) < 190  # the first candidate is the sample of one


def test_a_score_that_is_not_finite_is_never_chosen():
    choice, scores = CandidateSampler(), iter([1.0, math.nan, math.inf, 2.0] * 2)
    draws = iter(range(8))

    def draw(rng):
        return torch.full((50, 1), float(next(draws)))

    x = choice.select(draw, lambda x: torch.full((50,), next(scores)), 4, Rng(0))
    assert set(x.flatten().tolist()) == {0.0, 3.0}
    coldest = choice.select(draw, lambda x: torch.full((50,), next(scores)), 4, Rng(0), 0.0)
    assert (coldest == 7).all()  # the best finite one
    assert (
        choice.select(
            lambda rng: rng.normal("x", (50, 1)), lambda x: torch.zeros(50), 4, Rng(0), 0.0
        )
        == Rng(0).normal("x", (50, 1))
    ).all()  # of equals the first


def test_where_the_score_is_no_ratio_there_is_one_candidate():
    def plain(m, **options):
        return m.sample(5, None, gan.Options(**options), Rng(1))

    for options in (
        {"loss": "hinge"},
        {"loss": "wasserstein"},
        {"loss": "least-squares"},
        {"pack": 2},
    ):
        m = model(**options)
        assert torch.equal(plain(m), plain(m, candidates=1))
        with pytest.raises(UsageError, match="--candidates 1, or leave it out"):
            plain(m, candidates=2)
        with pytest.raises(UsageError, match="--temperature is of D's choice.*discriminator"):
            plain(m, temperature=0.5)
    m = model()
    assert torch.equal(plain(m), plain(m, temperature=1.0)) and not torch.equal(
        plain(m), plain(m, temperature=0.0)
    )
    assert not torch.equal(plain(m), plain(m, candidates=1)) and torch.equal(
        plain(m), plain(m, candidates=CANDIDATES)
    )


def test_a_discriminator_that_says_nothing_of_held_out_examples_does_not_choose():
    m = model()
    m.choice.sureness.zero_()
    assert m.choice.count() == 1
    with pytest.raises(UsageError, match="does not separate"):
        m.sample(5, None, gan.Options(temperature=0.5), Rng(1))
    m.choice.calibrate(torch.arange(9.0), torch.arange(9.0) - 1)
    assert m.choice.count() == CANDIDATES  # the next interval may find that it knows more


def test_a_pack_is_judged_together():
    m = model(pack=2)
    x = batch(POINTS, 5).x
    scores = m.judge(x)
    assert scores[0] == scores[1] and scores[2] == scores[3] and scores[0] != scores[2]
    assert torch.equal(m.judge(x[:4]), scores[:4])
    assert not torch.allclose(
        m.judge(torch.stack([x[0], x[2]]))[0], scores[0]
    )  # other company, another score


def test_growing_made_pictures_are_judged_as_in_training():
    """They have faded their level in themselves: twice would make detail too weak in D's eyes."""
    spec = DataSpec("image", (1, 16, 16))
    m = model(spec, network="progressive", width=4)
    m.progress = 0.2
    assert 0 < m.growth % 1 < 1
    with torch.no_grad():
        made = m.generate(Rng(0).normal("z", (6, m.latent_dim)), None)
        whole = torch.nn.functional.interpolate(made, size=(16, 16), mode="nearest")
        assert torch.allclose(m.judge(whole, is_generated=True), m.score(made, None), atol=1e-5)
        assert not torch.allclose(m.judge(whole), m.score(made, None), atol=1e-5)


def test_turns_in_epochs_reach_the_phases():
    d, g = model(d_epochs=1.0, g_epochs=2.0, d_steps=3).phases()
    assert (d.epochs, g.epochs, d.repeats, g.repeats) == (1.0, 2.0, 3, 1)


# -- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec,options,says",
    [
        (POINTS, {"network": "conv"}, "use mlp"),
        (POINTS, {"network": "mlp", "augment": ("translation",)}, "leave it out"),
        (POINTS, {"network": "mlp", "conditional": True}, "needs labels"),
        (DIGITS, {"conditional": True, "pack": 2}, "without --conditional"),
        (DIGITS, {"d_epochs": 1.0}, "--g-epochs"),
        (DIGITS, {"d_epochs": 1.0, "g_epochs": 1.0, "d_alone": 0.1}, "--d-alone 0"),
        (DataSpec("tokens", (9,), levels=5), {}, "images, points and tables"),
    ],
)
def test_refused_in_one_line(spec, options, says):
    with pytest.raises(UsageError, match=says) as error:
        gan.GAN(gan.Config(**options), spec)
    assert "\n" not in str(error.value)


def test_a_conditional_model_wants_a_label():
    with pytest.raises(UsageError, match="give a label"):
        model(DIGITS, conditional=True, network="mlp").decode(torch.zeros(1, 64))


def test_a_pack_larger_than_the_batch_is_refused():
    with pytest.raises(UsageError, match="--batch-size"):
        model(pack=4).loss(batch(POINTS, 3), "discriminator", Rng(0))


def test_weights_that_overflow_under_spectral_norm_end_as_a_divergence_not_as_a_traceback():
    m = model(spectral_norm=True)
    with torch.no_grad():
        next(p for n, p in m.discriminator.named_parameters() if n.endswith("original")).mul_(1e30)
    assert not torch.isfinite(m.loss(batch(POINTS), "discriminator", Rng(0)).value)


def test_growing_networks_are_not_stretched(tmp_path):
    options = dict(network="progressive", width=4, steps=4, batch_size=8, threads=1, intervals=2)
    run = start_run(make_plan("gan", "digits", **options), tmp_path / "run")
    with pytest.raises(UsageError, match="train anew"):
        resume_run(run, {"steps": 4}, warn=lambda line: None)
    assert load_run(run).model.progress == 1.0


def test_how_sure_a_discriminator_should_be_is_measured():
    """Scores that are a third of the log ratio get the factor 3; noise thirty times too loud next to nothing; a wrong order, NaN: 0."""
    x, z, noise = (
        Rng(0).normal("real", (20_000,)) + 1,
        Rng(0).normal("fake", (20_000,)),
        Rng(0).normal("noise", (2, 20_000)),
    )

    def log_ratio(x):
        return x - 0.5  # of N(1, 1) to N(0, 1)

    assert fit_score_scale(log_ratio(x) / 3, log_ratio(z) / 3) == pytest.approx(3, rel=0.06)
    assert fit_score_scale(log_ratio(x), log_ratio(z)) == pytest.approx(1, rel=0.06)
    assert fit_score_scale(30 * (noise[0] + 0.1), 30 * noise[1]) < 0.01
    assert fit_score_scale(z, x) == 0 and fit_score_scale(x * math.nan, z) == 0
    told_apart = fit_score_scale(
        x[:500] + 3, z[:500]
    )  # of N(4, 1): the truth is 4, and 500 pairs cannot say so
    assert 1 < told_apart < 4
    assert 0 < fit_score_scale(x + 100, z) < 1


def test_the_average_is_calibrated_at_each_interval(tmp_path):
    plan = make_plan(
        "gan", "digits", steps=30, threads=1, intervals=2, batch_size=16, width=4, conditional=True
    )
    run = start_run(plan, tmp_path / "run")
    sure = {
        weights: float(load_run(run, weights=weights, device="cpu").model.choice.sureness)
        for weights in ("ema", "model")
    }
    assert sure["ema"] == sure["model"] != 1
    trainer = plan.trainer()
    trainer.validate()
    assert float(trainer.model.choice.sureness) == 1  # a look alone changes nothing


def test_runs_from_before_the_measurement_open(tmp_path):
    m = model()
    state = {name: t for name, t in m.state_dict().items() if "sureness" not in name}
    m.choice.sureness.fill_(5.0)
    m.load_state_dict(state)
    assert float(m.choice.sureness) == 1


def test_what_judges_groups_or_augmented_images_chooses_nothing():
    spec = DataSpec("image", (1, 8, 8), levels=256)
    for options in ({"network": "progressive"}, {"augment": ("cutout",)}, {"pack": 2}):
        m = gan.GAN(gan.Config(width=4, latent_dim=3, **options), spec)
        assert m.choice.count() == 1
        with pytest.raises(UsageError, match="leave it out"):
            m.choice.count(2)


def test_in_its_last_share_d_learns_alone():
    plan = make_plan(
        "gan",
        "ring8",
        steps=20,
        threads=1,
        batch_size=32,
        hidden=(8, 8),
        hidden_g=(8, 8),
        d_alone=0.25,
    )
    kinds = list_step_kinds(plan.trainer())
    assert [share for _, share in kinds] == [0.75, 0.25] and kinds[0][
        0
    ] < 0.75 * IMAGINED_STEPS < kinds[1][0]  # each is timed for a budget
    trainer = plan.trainer()

    def state(part):
        return [p.detach().clone() for p in getattr(trainer.model, part).parameters()]

    def same(a, b):
        return all(torch.equal(x, y) for x, y in zip(a, b))

    for step in range(20):
        before = {part: state(part) for part in ("generator", "discriminator")}
        terms, norms = trainer.advance(20)
        assert not same(before["discriminator"], state("discriminator"))
        assert (
            same(before["generator"], state("generator"))
            == (step > 15)
            == ("generator" not in norms)
        ), step


def test_samples_that_d_chooses_share_a_column_with_others(tmp_path):
    """How a family samples by default is no part of the protocol: the report's title says it."""
    small = dict(steps=3, threads=1, intervals=1)
    opened = [
        load_run(start_run(make_plan(family, "ring8", **small), tmp_path / family), device="cpu")
        for family in ("gan", "vae")
    ]
    assert len({draw_samples(one, 10, 0).drawn for one in opened}) == 1
    assert "D chooses one of 8" in describe_model(opened[0]) and "chooses" not in describe_model(
        opened[1]
    )

"""From noise to data with exact denoisers: orders, equalities, variances, guidance, churn and bad input."""

import math

import pytest
import torch
from helpers.exact_ddpm import posterior
from helpers.exact_diffusion import DATA, GAUSSIAN, MIXTURE, Exact, Impulse, f64, family

from fromnoise.core.config import build
from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.families.diffusion import Config, Diffusion, Options
from fromnoise.probability.diffusion.path import PATHS, RATIOS
from fromnoise.probability.diffusion.samplers import (
    ddim,
    dpm,
    guide,
    heun,
    initial_state,
    time_grid,
)

every_path = pytest.mark.parametrize("name", PATHS)


def arrival(sampler, exact, path, n, x, **more):
    """Where the probability flow has come at the last of n times, before the step to the data: divided by alpha."""
    states, times = [x], time_grid(path, n)
    sampler(
        exact.denoise(path), x, path, times, on_step=lambda i, x, x_hat: states.append(x), **more
    )
    return states[-2] / path.coefficients(times[-1])[0]


# -- times ------------------------------------------------------------------------------------------------------


@every_path
@pytest.mark.parametrize("spacing", ["rho", "time"])
def test_times_fall_in_the_trained_range(name, spacing):
    path = PATHS[name]()
    for n in (1, 2, 3, 10, 999, 10_000):
        times = time_grid(path, n, spacing)
        assert times.shape == (n,) and bool((times.diff() < 0).all())
        assert path.range[0] <= times[-1] and times[0] <= path.range[1]
        assert path.ratio(times[0]).item() == pytest.approx(RATIOS[1], rel=1e-9)
    steps = time_grid(path, 10, "time").diff()
    assert torch.allclose(steps, steps[0].expand(9), atol=1e-12)


def test_start_has_the_variance_of_noisy_data():
    for make in PATHS.values():
        path = make()
        alpha, sigma = path.coefficients(t := path.at(f64(2.0)))
        assert initial_state(path, f64(1.0), t).item() ** 2 == pytest.approx(
            (alpha**2 + sigma**2).item()
        )


@every_path
@pytest.mark.parametrize("sampler", [ddim, heun, dpm])
def test_one_step_is_what_the_denoiser_sees(name, sampler):
    path, seen = PATHS[name](), []
    x = 3 * Rng(0).normal("x", (4, 2)).double()
    times = time_grid(path, 1)
    made = sampler(MIXTURE.denoise(path), x, path, times, on_step=lambda *event: seen.append(event))
    assert torch.allclose(made, MIXTURE.denoise(path)(x, times[0])[0], atol=1e-9)
    assert len(seen) == 1 and seen[0][0] == 0 and torch.equal(seen[0][1], made)


@pytest.mark.parametrize("times", [[], [0.2, 0.7], [0.5, 0.5]])
def test_samplers_refuse_times_that_do_not_fall(times):
    path = PATHS["flow"]()
    for sampler in (ddim, heun, dpm):
        with pytest.raises(UsageError, match="each below the one before"):
            sampler(GAUSSIAN.denoise(path), torch.zeros(2, 1).double(), path, f64(times))


# -- orders -----------------------------------------------------------------------------------------------------


@every_path
@pytest.mark.parametrize("sampler,order", [(ddim, 1), (heun, 2), (dpm, 2)])
@pytest.mark.parametrize("exact", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_order_of_the_solvers(name, sampler, order, exact):
    """The flow of one Gaussian is a factor, known exactly; of a mixture it is what Heun does with very many steps."""
    path = PATHS[name]()
    x = initial_state(
        path, Rng(0).normal("x", (16, exact.centres.shape[1])).double(), time_grid(path, 1)[0]
    )
    if exact is GAUSSIAN:
        (alpha, sigma), low = path.coefficients(time_grid(path, 1)[0]), RATIOS[0]
        truth = x / alpha * ((DATA + low**2) / (DATA + (sigma / alpha) ** 2)).sqrt()
    else:
        truth = arrival(
            heun, exact, PATHS["edm"](), 2000, x / path.coefficients(time_grid(path, 1)[0])[0]
        )
    coarse, fine = (
        (arrival(sampler, exact, path, n + 1, x) - truth).square().mean().sqrt().item()
        for n in (80, 160)
    )
    assert 2**order * 0.8 < coarse / fine < 2**order * 1.3 and fine < (
        0.05 if order == 1 else 0.005
    )


def test_solvers_are_the_same_on_every_path():
    """Euler's step and DPM-Solver's depend on sigma / alpha alone; Heun's mean of two ends does not."""
    x = Rng(0).normal("x", (8, 2)).double()
    for sampler in (ddim, dpm):
        made = []
        for make in PATHS.values():
            path = make()
            made.append(
                sampler(
                    MIXTURE.denoise(path),
                    80 * path.coefficients(time_grid(path, 1)[0])[0] * x,
                    path,
                    time_grid(path, 8),
                )
            )
        assert all(torch.allclose(one, made[0], atol=1e-9) for one in made[1:])


def test_dpm_looks_half_a_step_ahead_over_lambda():
    """Also between unequal steps: from an x_hat that is linear in lambda = log alpha / sigma it takes the one in the middle."""
    path, times, states = PATHS["cosine"](), f64([0.9, 0.8, 0.5, 0.45, 0.2]), [f64([[0.3]])]

    def see(x_t, t):
        return (-path.ratio(t).log() * torch.ones_like(x_t), None)

    dpm(see, states[0], path, times, on_step=lambda i, x, x_hat: states.append(x))
    (alpha, sigma), lam = path.coefficients(times), -path.ratio(times).log()
    for i in range(1, 4):
        keep = sigma[i + 1] / sigma[i]
        used = (states[i + 1] - keep * states[i]) / (alpha[i + 1] - keep * alpha[i])
        assert used.item() == pytest.approx(((lam[i] + lam[i + 1]) / 2).item())


# -- new noise --------------------------------------------------------------------------------------------------


def variance_of(sampler, path, n, **more):
    """Of what a linear sampler makes of its start and of n noises, exact."""
    x = initial_state(path, Impulse(n + 1).normal("x", (n + 1, 1)), time_grid(path, 1)[0])
    return (
        sampler(GAUSSIAN.denoise(path), x, path, time_grid(path, n), rng=Impulse(n + 1), **more)
        .square()
        .sum()
        .item()
    )


@every_path
def test_eta_1_draws_from_the_posterior(name):
    """At any step: mean and variance of q(x_s | x_t, x_hat), eqs. 6 and 7 of Ho et al. 2020."""
    path = PATHS[name]()
    times, x = f64([*path.range]).flip(0) * 0.7, f64([[0.4], [0.4]])
    states = []
    ddim(
        GAUSSIAN.denoise(path),
        x,
        path,
        times,
        1.0,
        Impulse(2),
        on_step=lambda i, x, x_hat: states.append((x, x_hat)),
    )
    (alpha, sigma), (alpha_s, sigma_s) = zip(*path.coefficients(times))
    mean, variance = posterior(x, states[0][1], (alpha, sigma), (alpha_s, sigma_s))
    assert torch.allclose(
        states[0][0][0], mean[0], atol=1e-10
    )  # row 0 has no noise in step 0, row 1 has noise 1
    assert ((states[0][0][1] - mean[1]) ** 2).item() == pytest.approx(variance.item(), rel=1e-9)


@every_path
def test_new_noise_keeps_the_law(name):
    path = PATHS[name]()
    far, near = (abs(variance_of(ddim, path, n, eta=1.0) - DATA) for n in (100, 400))
    assert near < far / 3 and near < 0.01
    assert variance_of(ddim, path, 400, eta=0.5) == pytest.approx(DATA, abs=0.01)
    assert variance_of(heun, path, 400, churn=100) == pytest.approx(DATA, abs=1.5e-3)


@every_path
def test_the_sde_is_solved_to_second_order(name):
    """Its first step is DDPM's; then the law is kept far better than DDPM's sampler keeps it, which is of first order."""
    path = PATHS[name]()
    far, near = (abs(variance_of(dpm, path, n, noise=True) - DATA) for n in (50, 100))
    assert near < far / 3 and near < 5e-3
    sde, ddpm = (
        abs(variance_of(*how[:1], path, 32, **how[1]) - DATA)
        for how in ((dpm, {"noise": True}), (ddim, {"eta": 1.0}))
    )
    assert sde < ddpm / 3 and ddpm > 0.15 * DATA
    one, other = [], []
    times, x = time_grid(path, 6), f64([[0.4], [0.4]])
    dpm(
        GAUSSIAN.denoise(path),
        x,
        path,
        times,
        True,
        Impulse(2),
        on_step=lambda i, x, x_hat: one.append(x),
    )
    ddim(
        GAUSSIAN.denoise(path),
        x,
        path,
        times,
        1.0,
        Impulse(2),
        on_step=lambda i, x, x_hat: other.append(x),
    )
    assert torch.allclose(one[0], other[0], atol=1e-12) and not torch.allclose(
        one[1], other[1], atol=1e-4
    )


def test_churn_is_karras_algorithm_2():
    """Written once more in their coordinates, alpha = 1 and t = sigma; and what it makes is the same on other paths."""
    n, S = 12, 5.0

    def see(x, t):
        return MIXTURE.see(x, f64(1.0), f64(t))[0]

    z = 80 * Rng(0).normal("x", (6, 2)).double()
    sigmas = [*(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7)) for i in range(n))]
    sigmas = [s**7 for s in sigmas] + [0.0]
    x = z
    for i in range(n):
        gamma = min(S / n, 2**0.5 - 1) if i else 0.0  # never above the first level
        t_hat = sigmas[i] * (1 + gamma)
        eps = Rng(3).at("churn", i).normal("eps", x.shape).double()
        x_hat = x + (t_hat**2 - sigmas[i] ** 2) ** 0.5 * eps
        d = (x_hat - see(x_hat, t_hat)) / t_hat
        x = x_hat + (sigmas[i + 1] - t_hat) * d
        if sigmas[i + 1]:
            d_end = (x - see(x, sigmas[i + 1])) / sigmas[i + 1]
            x = x_hat + (sigmas[i + 1] - t_hat) * (d + d_end) / 2
    path = PATHS["edm"]()
    made = heun(MIXTURE.denoise(path), z, path, time_grid(path, n), Rng(3), S)
    assert torch.allclose(made, x, atol=1e-9)


def test_churn_stays_in_the_trained_range():
    for make in PATHS.values():
        path, asked = make(), []

        def see(x_t, t):
            return asked.append(float(t)) or MIXTURE.denoise(path)(x_t, t)

        heun(see, torch.ones(2, 2).double(), path, time_grid(path, 9), Rng(0), 1e6)
        assert path.range[0] - 1e-12 <= min(asked) and max(asked) <= path.range[1] + 1e-12
        assert len(set(asked)) > 12  # and is there at all


def test_noise_comes_from_the_rng_and_rows_stand_alone():
    path, x = PATHS["flow"](), Rng(0).normal("x", (5, 2))
    times = time_grid(path, 6)
    for run in (
        lambda x, rng: ddim(MIXTURE.denoise(path), x, path, times, 1.0, rng),
        lambda x, rng: heun(MIXTURE.denoise(path), x, path, times, rng, 3.0),
        lambda x, rng: dpm(MIXTURE.denoise(path), x, path, times, True, rng),
    ):
        made = run(x, Rng(1).per_row(range(5)))
        assert made.dtype == torch.float32 and not torch.allclose(
            made, run(x, Rng(2).per_row(range(5)))
        )
        assert torch.allclose(made[:2], run(x[:2], Rng(1).per_row(range(2))), atol=1e-5)


# -- guidance ---------------------------------------------------------------------------------------------------


def test_guidance_of_gaussians_is_a_sharper_gaussian():
    """p(x | y)^w p(x)^(1 - w) of two Gaussians, smoothed by the noise: scores are mixed w to 1 - w."""
    path, strong, weak = PATHS["flow"](), Exact([[1.0]], 0.5), Exact([[0.0]], 0.8)
    t, x = path.at(f64(0.7)), f64([[0.3], [-1.0]])
    alpha, sigma = path.coefficients(t)

    def score(exact):
        return -exact.denoise(path)(x, t)[1] / sigma

    for w in (0.0, 0.5, 3.0):
        x_hat, eps_hat = guide(strong.denoise(path), weak.denoise(path), path, w)(x, t)
        assert torch.allclose(
            -eps_hat / sigma, w * score(strong) + (1 - w) * score(weak), atol=1e-9
        )
        assert torch.allclose(alpha * x_hat + sigma * eps_hat, x, atol=1e-9)
    one = strong.denoise(path)
    assert guide(one, weak.denoise(path), path, 1.0) is one


def test_guidance_acts_in_its_interval_only():
    path = PATHS["cosine"]()
    strong, calls = GAUSSIAN.denoise(path), []

    def weak(x_t, t):
        return calls.append(path.ratio(t).item()) or (0 * x_t, x_t)

    guided, x = guide(strong, weak, path, 2.0, 0.3, 3.0), f64([[0.5]])
    for ratio, acts in ((0.29, False), (0.31, True), (2.9, True), (3.1, False)):
        t = path.at(f64(ratio))
        assert torch.equal(guided(x, t)[0], strong(x, t)[0]) is not acts
    assert len(calls) == 2 and all(
        0.3 < ratio < 3 for ratio in calls
    )  # nor does it cost anything elsewhere
    for wrong in ((3.0, 0.3), (1.0, 1.0)):
        with pytest.raises(UsageError, match="swap"):
            guide(strong, weak, path, 2.0, *wrong)


SPEC = DataSpec("vector", (2,), classes=3)


def conditional() -> Diffusion:
    model = (
        Diffusion(Config(conditional=True, width=16, depth=1), SPEC).eval().requires_grad_(False)
    )
    for i, p in enumerate(model.parameters()):
        p.copy_(0.5 * Rng(5).normal(f"p{i}", p.shape))
    return model


def test_the_family_guides():
    model, y, rng = conditional(), torch.tensor([0, 1, 2, 2]), Rng(0)

    def draw(**options):
        return model.sample(4, y, Options(**options), rng)

    plain = draw()
    assert torch.equal(draw(guidance=1.0), plain)
    strong = draw(guidance=3.0)
    assert not torch.allclose(strong, plain, atol=1e-3) and not torch.allclose(
        draw(guidance=3.0, guidance_from=0.5), strong, atol=1e-4
    )
    assert torch.equal(
        draw(guidance=3.0, guidance_from=90, guidance_to=99), plain
    )  # nothing lies there
    none = draw(guidance=0.0)
    assert torch.allclose(
        none, model.sample(4, y.flip(0), Options(guidance=0.0), rng), atol=1e-5
    )  # the label is ignored
    with pytest.raises(UsageError, match="swap"):
        draw(guidance=3.0, guidance_from=2, guidance_to=1)


def test_the_family_is_guided_by_a_weaker_one():
    strong, weak = family(Exact([[0.5]], 0.4)), family(Exact([[0.0]], 0.9))
    strong.guide_with(weak)
    assert not any(name.startswith("weak") for name in strong.state_dict())
    t, x = strong.path.at(f64(0.6)), f64([[0.2], [0.9]])
    seen = strong.denoiser(None, Options(guidance=2.5))(x, t)
    mine, other = (model.net.exact.denoise(strong.path)(x, t) for model in (strong, weak))
    assert torch.allclose(seen[0], 2.5 * mine[0] - 1.5 * other[0], atol=1e-9)
    strong.guide_with(None)
    with pytest.raises(UsageError, match="needs a model that was trained with labels"):
        strong.denoiser(None, Options(guidance=2.5))
    with pytest.raises(UsageError, match="same data and path"):
        strong.guide_with(family(MIXTURE))
    with pytest.raises(UsageError, match="same data and path"):
        strong.guide_with(family(GAUSSIAN, "edm"))


# -- through the family -----------------------------------------------------------------------------------------


@every_path
@pytest.mark.parametrize("target", ["eps", "x", "v", "edm"])
def test_the_family_samples_its_data(name, target):
    """scale u + shift with an exact network: whatever it predicts, samples of the same noise are the same."""
    model = family(MIXTURE, name, target, scale=2.0, shift=-1.0)
    made = model.sample(64, None, Options(steps=60), Rng(0))
    truth = family(MIXTURE, "edm", "edm", scale=2.0, shift=-1.0).sample(
        64, None, Options(steps=60), Rng(0)
    )
    assert torch.allclose(made, truth, atol=1e-5)
    nearest = (made.double()[:, None] - (2 * MIXTURE.centres - 1)).norm(dim=2).min(1).values
    assert nearest.max() < 2 * 0.3 * 4


@pytest.mark.parametrize("sampler", ["dpm", "sde", "heun", "euler", "ddpm"])
@pytest.mark.parametrize("spacing", ["rho", "time"])
def test_any_number_of_steps_costs_no_more_evaluations(sampler, spacing):
    model = family(MIXTURE)
    calls, predict = [], model.predict
    model.predict = lambda x_t, t, *more: calls.append(t) or predict(x_t, t, *more)
    for steps in (1, 2, 3, 10, 11):
        calls.clear()
        assert bool(
            torch.isfinite(
                model.sample(
                    3,
                    None,
                    Options(
                        sampler=sampler, steps=steps, spacing=spacing, churn=2 * (sampler == "heun")
                    ),
                    Rng(0),
                )
            ).all()
        )
        assert steps - 1 <= len(calls) <= steps


def test_captions_are_drawn_with_new_noise_in_more_steps_unless_asked_otherwise():
    def spec(kind, shape):
        return DataSpec(kind, shape, levels=256 if kind == "image" else 0, caption=(3, 5))

    told = Diffusion(Config(depth=1, conditional=True, jumps=0.5), spec("image", (3, 8, 8)))
    plain, codes = (
        Diffusion(Config(depth=1), spec("image", (3, 8, 8))),
        Diffusion(Config(depth=1, conditional=True), spec("vector", (4,))),
    )
    assert [
        (model.sampler(Options()), len(model.sampling_times(Options())))
        for model in (told, plain, codes)
    ] == [("sde", 32), ("dpm", 10), ("dpm", 40)]
    assert (
        told.sampler(Options(sampler="dpm")),
        len(told.sampling_times(Options(steps=4))),
        len(told.sampling_times(Options(sampler="jump"))),
    ) == ("dpm", 4, 10)
    same = [
        plain.sample(2, None, Options(**more), Rng(0))
        for more in ({}, {"sampler": "dpm"}, {"sampler": "sde"})
    ]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])


def test_churn_is_refused_where_no_sampler_has_it():
    with pytest.raises(UsageError, match="--churn is for --sampler heun"):
        family(MIXTURE).sample(2, None, Options(churn=2), Rng(0))


def test_a_sampler_that_does_not_come_back_is_refused_on_the_way_to_noise():
    for more in ({"sampler": "sde"}, {"sampler": "ddpm"}, {"sampler": "heun", "churn": 2}):
        with pytest.raises(UsageError, match="does not bring a picture back"):
            family(MIXTURE).to_noise(torch.zeros(2, 2).double(), None, Options(**more))


@pytest.mark.parametrize(
    "wrong,told",
    [
        (dict(steps=0), "--steps"),
        (dict(steps=10**9), "--steps"),
        (dict(steps=math.nan), "--steps"),
        (dict(guidance=math.nan), "--guidance takes a finite number"),
        (dict(guidance=-1), "--guidance"),
        (dict(guidance_from=math.inf), "--guidance-from"),
        (dict(churn=math.nan), "--churn"),
        (dict(sampler="dmp"), "Did you mean 'dpm'"),
    ],
)
def test_bad_options_get_one_line(wrong, told):
    with pytest.raises(UsageError, match=told) as refused:
        build(Options, wrong)
    assert "\n" not in str(refused.value)

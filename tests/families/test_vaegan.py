"""VAE-GAN: who learns from what, phase by phase and term by term; the label head; the duel and the sharpness it is for."""

import math
import zlib

import numpy as np
import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families import vae
from fromnoise.families.vaegan import MAX_LAMBDA, VAEGAN, Config, Options
from fromnoise.measures.sharpness import laplacian, sharpness
from fromnoise.probability import adversarial
from fromnoise.probability.label_subset import has_label

DIGITS = DataSpec("image", (1, 8, 8), levels=17, classes=10)
POINTS = DataSpec("vector", (2,))
TABLE = DataSpec("vector", (4,), classes=3, blocks=(1, 3))
SMALL = dict(network="mlp", hidden=(16,), latent_dim=3)
KEY = Rng(0).at("step")
ENCODER, DECODER, CRITIC = "vae.net.encoder", "vae.net.decoder", "discriminator"


def batch(n=12, spec=DIGITS):
    if spec is TABLE:
        category = torch.nn.functional.one_hot(torch.arange(n) % 3, 3).float()
        return Batch(torch.cat([Rng(5).normal("x", (n, 1)), category], 1), torch.arange(n) % 3)
    if spec.kind == "vector":
        return Batch(Rng(5).normal("x", (n, *spec.shape)))
    levels = Rng(5).integers("x", spec.levels, (n, *spec.shape)).float()
    return Batch(levels * (2 / (spec.levels - 1)) - 1, torch.arange(n) % 10)


def model(spec=DIGITS, **options) -> VAEGAN:
    torch.manual_seed(0)
    return VAEGAN(Config(**SMALL | options), spec)


def gradients(m: VAEGAN, value: torch.Tensor, part: str) -> list[torch.Tensor]:
    """d value / d parameters of that part; zeros where no path leads there."""
    params = list(m.get_submodule(part).parameters())
    found = torch.autograd.grad(value, params, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found)]


def size(found: list[torch.Tensor]) -> float:
    return sum(float(g.abs().sum()) for g in found)


def same(a: list[torch.Tensor], b: list[torch.Tensor], factor=1.0) -> bool:
    scale = max(float(g.abs().max()) for g in [*a, *b])
    return scale > 0 and all(torch.allclose(x, factor * y, atol=2e-5 * scale) for x, y in zip(a, b))


# -- which parameters a phase may touch ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options,expected",
    [
        ({}, {"autoencoder": ("vae",), "discriminator": (CRITIC,)}),
        ({"label_weight": 1.0}, {"autoencoder": ("vae", "head"), "discriminator": (CRITIC,)}),
        (
            {"objective": "larsen"},
            {"encoder": (ENCODER,), "decoder": (DECODER,), "discriminator": (CRITIC,)},
        ),
        (
            {"objective": "larsen", "label_weight": 1.0},
            {"encoder": (ENCODER, "head"), "decoder": (DECODER,), "discriminator": (CRITIC,)},
        ),
    ],
)
def test_each_phase_trains_what_it_says_and_together_they_train_everything(options, expected):
    m = model(**options)
    assert {p.name: p.trains for p in m.phases()} == expected
    named = [set(m.parameters_of(p)) for p in m.phases()]
    assert set.union(*named) == {name for name, _ in m.named_parameters()} and sum(
        map(len, named)
    ) == len(set.union(*named))


@pytest.mark.parametrize(
    "options",
    [{}, {"reconstruction": "l1"}, {"objective": "larsen"}, {"network": "conv", "width": 4}],
)
def test_a_step_of_a_phase_leaves_all_else_bit_for_bit(options):
    m = model(**options)
    for phase in m.phases():
        before = {name: p.detach().clone() for name, p in m.named_parameters()}
        params = m.parameters_of(phase)
        m.zero_grad()
        m.loss(batch(), phase.name, KEY).value.backward(inputs=list(params.values()))
        torch.optim.SGD(params.values(), lr=1e-2).step()
        changed = {name for name, p in m.named_parameters() if not torch.equal(p, before[name])}
        assert changed and changed <= set(params), phase.name


# -- which gradients a term sends where, and with which sign ------------------------------------------------------


def generator_term(m: VAEGAN, data: Batch) -> torch.Tensor:
    """g of the modern objective, by itself, from the same noise."""
    return m.generator_loss(data, m.to_data(m.vae.infer(data.x, data.y, KEY).params), KEY)


@pytest.mark.parametrize("loss", ["relativistic", "hinge", "non-saturating"])
def test_modern_is_the_vae_plus_lambda_times_the_generators_loss(loss):
    m, data = model(loss=loss, adversarial_weight=0.7, beta=2.0), batch()
    g = generator_term(m, data)
    with torch.no_grad():
        m.vae.config = m.vae.config.model_copy(update={"beta": 2.0})
    own = m.vae.loss(data, "elbo", KEY).value
    weight = 0.7 * m.balance(m.vae.nll(m.vae.infer(data.x, data.y, KEY).params, data.x).mean(), g)
    whole = m.loss(data, "autoencoder", KEY).value
    assert weight > 0 and not weight.requires_grad
    assert whole.item() == pytest.approx((own + weight * g).item(), rel=1e-5)
    for part in (ENCODER, DECODER):  # the generator's term reaches both, as in VQGAN
        of_g, of_vae = gradients(m, g, part), gradients(m, own, part)
        assert size(of_g) > 0
        assert same(
            [a - b for a, b in zip(gradients(m, whole, part), of_vae)], of_g, float(weight)
        ), part
    assert size(gradients(m, own, CRITIC)) == 0  # D has no part in the reconstruction


def test_lambda_is_the_quotient_of_the_gradients_at_the_last_layer():
    m, data = model(adversarial_weight=1.0), batch()
    last = m.vae.net.decoder.net.layers[-1].weight
    params = m.vae.infer(data.x, data.y, KEY).params
    error, g = m.vae.nll(params, data.x).mean(), m.generator_loss(data, m.to_data(params), KEY)

    def of(term):
        return torch.autograd.grad(term, last, retain_graph=True)[0].norm().item()

    assert m.balance(error, g).item() == pytest.approx(of(error) / (of(g) + 1e-4), rel=1e-5)
    assert (
        m.balance(1e9 * error, 0 * g).item() == MAX_LAMBDA * 64
    )  # a D without slope does not blow up
    # scaled by it, the generator's term pulls at the last layer exactly as hard as the reconstruction
    assert of(m.balance(error, 1e6 * g) * 1e6 * g) == pytest.approx(of(error), rel=1e-3)


def test_the_generators_loss_wants_higher_scores_and_the_discriminators_lower_ones():
    """The sign: a small step down g raises D's score of fakes; a small step of D lowers it. (Peers have helped D.)"""
    for objective, phases in (("modern", ("autoencoder",)), ("larsen", ("decoder",))):
        for phase in phases:
            m, data = (
                model(
                    objective=objective, loss="non-saturating", adversarial_weight=1e3, gamma=0.0
                ),
                batch(64),
            )

            def fake(m=m, data=data):
                return m.score(m.decode(KEY.normal("z", (64, 3))), None).mean().item()

            before = fake()
            params = list(m.get_submodule(DECODER).parameters())
            step(m.loss(data, phase, KEY).value, params, 1e-2)
            assert fake() > before, phase
            before = fake()
            step(m.loss(data, "discriminator", KEY).value, list(m.discriminator.parameters()), 1e-2)
            assert fake() < before


def step(value: torch.Tensor, params: list, length: float) -> None:
    """Downhill, a step of the given length."""
    found = torch.autograd.grad(value, params)
    norm = math.sqrt(sum(float(g.square().sum()) for g in found))
    with torch.no_grad():
        for p, g in zip(params, found):
            p -= length / norm * g


@pytest.mark.parametrize("objective", ["modern", "larsen"])
def test_fakes_are_detached_in_the_discriminators_phase(objective):
    m = model(objective=objective)
    value = m.loss(batch(), "discriminator", KEY).value
    assert size(gradients(m, value, CRITIC)) > 0
    assert size(gradients(m, value, ENCODER)) == size(gradients(m, value, DECODER)) == 0


def test_larsen_the_encoder_learns_nothing_from_the_duel():
    """Its gradient is that of KL + N, whatever D thinks of the score; D's last layer takes no part in it."""
    m, data = model(objective="larsen"), batch()
    whole = m.loss(data, "encoder", KEY).value
    before = gradients(m, whole, ENCODER)
    q = m.vae.infer(data.x, data.y, KEY)
    kl = q.kl().mean()
    N = m.feature_nll(m.to_data(q.params), data.x)
    assert same(
        before, [a + b for a, b in zip(gradients(m, kl, ENCODER), gradients(m, N, ENCODER))]
    )
    assert size(gradients(m, N, ENCODER)) > 0
    with torch.no_grad():
        m.discriminator.score.weight.mul_(-7).add_(1)
    assert same(gradients(m, m.loss(data, "encoder", KEY).value, ENCODER), before)
    assert (
        size(gradients(m, m.loss(data, "decoder", KEY).value, ENCODER)) == 0
    )  # frozen in the decoder's phase


def test_larsen_the_decoder_learns_from_both_and_the_discriminator_from_scores_alone():
    m, data = model(objective="larsen", gamma=0.3), batch()
    x_hat = m.decode(m.draw_code(data.x, data.y, KEY), data.y)
    N, g = m.feature_nll(x_hat, data.x), m.generator_loss(data, x_hat, KEY)
    expected = [0.3 * a + b for a, b in zip(gradients(m, N, DECODER), gradients(m, g, DECODER))]
    assert size(gradients(m, N, DECODER)) > 0 and size(gradients(m, g, DECODER)) > 0
    assert same(gradients(m, m.loss(data, "decoder", KEY).value, DECODER), expected)
    # D's own loss is the duel and its penalties, without N: with the fakes given, the same to the last bit
    with torch.no_grad():
        x_fake = m.add_samples(m.decode(m.draw_code(data.x[::2], None, KEY)), None, len(data), KEY)
    discriminator_loss, _ = adversarial.penalised_discriminator_loss(
        m.score, data.x, x_fake, None, "relativistic", m.config.r1, m.config.r2, m.config.lazy
    )
    assert torch.equal(m.loss(data, "discriminator", KEY).value, discriminator_loss)


def test_the_feature_error_is_blind_to_the_scale_of_the_features():
    """Otherwise D could switch the reconstruction off by making its features small."""
    m, data = model(objective="larsen"), batch()
    x_hat = m.decode(m.encode(data.x))
    before = m.feature_nll(x_hat, data.x).item()
    with torch.no_grad():
        last = m.discriminator.net.layers[-1]
        last.weight.mul_(1e3), last.bias.mul_(1e3)
    assert m.feature_nll(x_hat, data.x).item() == pytest.approx(before, rel=1e-2)
    assert m.feature_nll(data.x, data.x).item() == 0


# -- the duel -----------------------------------------------------------------------------------------------------


def test_fakes_are_reconstructions_and_samples_half_and_half():
    m, data = model(), batch(7)
    x_hat = m.reconstruct(data.x[::2])
    fakes = m.add_samples(x_hat, None, 7, KEY)
    assert torch.equal(fakes[::2], x_hat)
    assert torch.allclose(fakes[1::2], m.decode(KEY.normal("z", (7, 3))[1::2]))


def test_the_generators_term_sets_in_late_and_grows():
    m, data = model(adversarial_start=0.2, adversarial_ramp=0.4, adversarial_weight=2.0), batch()
    weights, pulls = [], []
    for progress in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0):
        m.progress = progress
        weights.append(m.generator_weight())
        pulls.append(m.loss(data, "autoencoder", KEY).terms["adversarial"].item())
    assert weights == pytest.approx([0, 0, 0.5, 1.0, 2.0, 2.0])
    assert [p / pulls[-1] for p in pulls] == pytest.approx([0, 0, 0.25, 0.5, 1, 1], rel=1e-4)
    m.progress = 0.0
    assert (
        size(gradients(m, m.loss(data, "discriminator", KEY).value, CRITIC)) > 0
    )  # D trains from the first step
    assert torch.equal(m.loss(data, "autoencoder", KEY).value, m.vae.loss(data, "elbo", KEY).value)
    assert (
        VAEGAN(
            Config(**SMALL, adversarial_start=0.0, adversarial_ramp=0.0), DIGITS
        ).generator_weight()
        > 0
    )


def test_held_out_the_objective_is_that_of_the_vae():
    m, data = model(), batch()
    with torch.no_grad():
        loss = m.loss(data, "autoencoder", Rng(0).per_row(range(12)))
        assert torch.equal(loss.value, m.vae.loss(data, "elbo", Rng(0).per_row(range(12))).value)
    assert loss.terms["negative_elbo"] == loss.value


def test_duel_is_loss_and_penalties_of_a_linear_critic():
    """D(x) = <w, x>: its slope is |w|^2 everywhere, and the relativistic loss is softplus <w, fake - real>."""
    w = torch.tensor([1.0, -2.0, 0.5])
    real, fake = Rng(1).normal("real", (6, 3)), Rng(1).normal("fake", (6, 3)).requires_grad_()
    seen = []

    def score(x, label):
        seen.append((len(x), None if label is None else label.shape))
        return x @ w + (0 if label is None else label[:, 0])

    value, terms = adversarial.penalised_discriminator_loss(
        score, real, fake, None, "relativistic", 3.0, 4.0
    )
    expected = torch.nn.functional.softplus((fake - real) @ w).mean()
    assert value.item() == pytest.approx(expected.item() + 3.5 * 5.25, rel=1e-6)
    assert terms["d_loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert terms["slope_real"].item() == terms["slope_fake"].item() == pytest.approx(5.25)
    assert terms["score_real"].item() == pytest.approx((real @ w).mean().item(), rel=1e-5)
    assert seen == [(12, None)]  # one joint pass
    seen.clear()
    label = torch.nn.functional.one_hot(torch.arange(6) % 2, 2).float()
    lazy, _ = adversarial.penalised_discriminator_loss(
        score, real, fake, label, "relativistic", 3.0, 4.0, lazy=4
    )
    assert seen == [(4, (4, 2)), (8, (8, 2))] and lazy.item() == pytest.approx(
        value.item(), rel=1e-6
    )
    _, terms = adversarial.penalised_discriminator_loss(score, real, fake, None, "hinge")
    assert "slope_real" not in terms and not terms["d_loss"].requires_grad  # fakes are constants


# -- likelihood, codes, samples -----------------------------------------------------------------------------------


def test_the_likelihood_is_that_of_the_vae_inside_or_none_with_the_reason():
    m, data = model(), batch()
    assert m.bound == "lower" and not m.continuous
    rng = KEY.per_row(range(12))
    assert torch.equal(
        m.log_likelihood(data.x, None, rng, 5), m.vae.log_likelihood(data.x, None, rng, 5)
    )
    for options in ({"objective": "larsen"}, {"reconstruction": "l1"}):
        assert model(**options).bound == "none" and "likelihood" in model(**options).reason
    assert "grey" in model(likelihood="bernoulli").reason
    assert not any(
        name.startswith("vae.scale") for name, _ in model(reconstruction="l1").named_parameters()
    )


def test_l1_is_the_sum_of_absolute_differences_within_the_range():
    m, data = model(reconstruction="l1", beta=0.0, adversarial_weight=0.0), batch()
    q = m.vae.infer(data.x, None, KEY)
    x_hat = (q.params / 2).tanh()
    assert m.loss(data, "autoencoder", KEY).value.item() == pytest.approx(
        (x_hat - data.x).abs().flatten(1).sum(1).mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("options", [{}, {"objective": "larsen"}, {"network": "conv", "width": 4}])
def test_any_image_with_labels(options):
    for shape in ((1, 8, 8), (3, 28, 21)):
        spec = DataSpec("image", shape, levels=256, classes=3)
        m = VAEGAN(Config(**SMALL | {"conditional": True} | options), spec)
        x, y = (
            ((Rng(0).uniform("x", (3, *shape)) * 2 - 1) * 127.5).round() / 127.5,
            torch.tensor([0, 2, 1]),
        )
        for phase in m.phases():
            assert torch.isfinite(m.loss(Batch(x, y), phase.name, Rng(0)).value)
        z = m.encode(x, y)
        assert z.shape == (3, 3) and torch.allclose(m.decode(z, y), m.reconstruct(x, y))
        assert not torch.allclose(m.decode(z, y), m.decode(z, y.flip(0)))
        x_new = m.sample(3, y, Options(), Rng(0))
        assert (
            torch.equal(x_new, m.decode(m.draw_latents(3, Options(), Rng(0)), y))
            and x_new.shape == x.shape
        )
        assert m.judge(x, y).shape == (3,) and m.kl_per_dimension(x, y, Rng(0)).shape == (3,)
        with pytest.raises(UsageError, match="give a label"):
            m.judge(x)


def test_temperature_scales_the_latents():
    m = model()

    def draw(t):
        return m.draw_latents(5, Options(temperature=t), Rng(0))

    assert torch.allclose(draw(0.5), 0.5 * draw(1.0)) and draw(0.0).abs().max() == 0


def test_points_and_tables():
    for spec, data in ((POINTS, batch(spec=POINTS)), (TABLE, batch(spec=TABLE))):
        for objective in ("modern", "larsen"):
            m = model(spec, objective=objective)
            for phase in m.phases():
                loss = m.loss(data, phase.name, KEY).value
                assert all(size(gradients(m, loss, part)) > 0 for part in phase.trains)
            assert m.sample(4, None, Options(), Rng(0)).shape == (4, *spec.shape)
    made = m.sample(50, None, Options(), Rng(0))[:, 1:]
    assert torch.allclose(made.sum(1), torch.ones(50)) and set(
        made.detach().round(decimals=5).flatten().tolist()
    ) == {0.0, 1.0}


# -- the label head -----------------------------------------------------------------------------------------------


def test_who_keeps_a_label_is_a_fixed_share_and_a_function_of_the_example_alone():
    x = Rng(1).integers("x", 17, (20_000, 1, 8, 8)).float() * (2 / 16) - 1
    kept = has_label(x, DIGITS, 0.1)
    assert kept.float().mean().item() == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 20_000))
    order = torch.from_numpy(np.random.default_rng(0).permutation(20_000))
    assert torch.equal(has_label(x[order], DIGITS, 0.1), kept[order])  # whatever the batch mates
    assert (
        bool((has_label(x, DIGITS, 0.3) >= kept).all()) and has_label(x, DIGITS, 1.0).all()
    )  # nested
    nearly = x.clone()
    nearly[:, 0, 7, 7] = -nearly[:, 0, 7, 7].sign() + (
        nearly[:, 0, 7, 7] == 0
    )  # one pixel another: a draw of its own
    both = (has_label(nearly, DIGITS, 0.1) & kept).float().mean().item()
    assert both == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / 20_000))
    points = Rng(1).normal("p", (20_000, 2))
    assert has_label(points, POINTS, 0.1).float().mean().item() == pytest.approx(0.1, abs=0.009)
    bits = has_label(x[:4096], DIGITS, 0.5).numpy()
    assert (
        zlib.crc32(np.packbits(bits).tobytes()) == KNOWN
    )  # the same on every machine and in every version


KNOWN = 233605488


def test_the_classifier_learns_from_the_labels_that_exist_and_from_no_other():
    m, data = model(label_weight=1.0, labelled=0.5), batch(200)
    kept = has_label(data.x, DIGITS, 0.5)
    assert 0 < kept.sum() < 200

    def head(y):
        return gradients(m, m.loss(Batch(data.x, y), "autoencoder", KEY).value, "head")

    before = head(data.y)
    assert size(before) > 0
    assert same(head(torch.where(kept, data.y, 0)), before)  # the others' labels change nothing
    assert not same(head(torch.where(kept, 0, data.y)), before)


def test_the_classifiers_loss_reaches_encoder_and_head_only():
    data = batch(100)
    for options, phase in (({}, "autoencoder"), ({"objective": "larsen"}, "encoder")):
        m, without = model(label_weight=3.0, **options), model(label_weight=1e-9, **options)
        without.load_state_dict(m.state_dict())
        loss = m.loss(data, phase, KEY)
        nats = torch.nn.functional.cross_entropy(m.head(m.encode(data.x)), data.y)
        assert loss.terms["label_nll"].item() == pytest.approx(nats.item(), rel=1e-5)
        assert loss.value.item() == pytest.approx(
            without.loss(data, phase, KEY).value.item() + 3 * nats.item(), rel=1e-5
        )
        assert size(gradients(m, nats, ENCODER)) > 0 and size(gradients(m, nats, "head")) > 0
        assert size(gradients(m, nats, DECODER)) == size(gradients(m, nats, CRITIC)) == 0


def test_ten_percent_of_the_labels_teach_held_out_accuracy():
    from fromnoise.training.plan import make_plan

    plan = make_plan(
        "vaegan",
        "digits",
        network="mlp",
        hidden=(64,),
        latent_dim=8,
        label_weight=20.0,
        labelled=0.1,
        adversarial_weight=0.0,
        steps=300,
        batch_size=64,
        threads=1,
        lr=3e-3,
    )
    trainer = plan.trainer()
    m, params = trainer.model, list(trainer.model.parameters_of(trainer.model.phases()[0]).values())
    optimizer = torch.optim.Adam(params, lr=3e-3)
    for i in range(300):
        optimizer.zero_grad()
        m.loss(trainer.stream.batch(i), "autoencoder", KEY.at(i)).value.backward(inputs=params)
        optimizer.step()
    with torch.no_grad():
        terms = m.loss(
            trainer.dataset.batch("test", slice(0, 180)), "autoencoder", KEY.per_row(range(180))
        ).terms
    assert terms["label_accuracy"] > 0.7  # chance: 0.1


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options,spec,word",
    [
        (dict(network="conv"), POINTS, "--network conv"),
        (dict(conditional=True), POINTS, "--conditional needs labels"),
        (dict(label_weight=1.0), POINTS, "--label-weight needs labels"),
        (dict(label_weight=1.0, conditional=True), DIGITS, "use one of them"),
        (dict(labelled=0.1), DIGITS, "--label-weight too"),
        (dict(objective="larsen", reconstruction="l1"), DIGITS, "--objective larsen"),
        (dict(objective="larsen", likelihood="gaussian"), DIGITS, "--objective larsen"),
        (dict(reconstruction="l1", likelihood="gaussian"), DIGITS, "--likelihood"),
        (dict(adversarial_start=0.8, adversarial_ramp=0.3), DIGITS, "at most 1"),
        (dict(likelihood="table"), DIGITS, "--likelihood table"),
        ({}, DataSpec("tokens", (5,), levels=9), "images, points and tables"),
    ],
)
def test_options_that_do_not_go_together(options, spec, word):
    with pytest.raises(UsageError, match=word):
        model(spec, **options)


# -- sharpness ----------------------------------------------------------------------------------------------------


def test_laplacian_of_known_pictures():
    ramp = torch.linspace(-1, 1, 9).expand(1, 1, 9, 9)
    edge = torch.where(torch.arange(9) < 4, -1.0, 1.0).expand(1, 1, 9, 9)
    assert laplacian(ramp).abs().max() < 1e-6 and laplacian(torch.zeros(1, 3, 4, 4)).item() == 0
    assert laplacian(edge).item() == pytest.approx(
        2 / 7
    )  # one on either side of the edge, of seven inner columns
    assert laplacian(3 * edge).item() == laplacian(edge).item()  # clipped to the range of images


def test_blur_divides_sharpness_by_its_width():
    x = torch.where(torch.arange(64) < 30, -1.0, 1.0).expand(20, 1, 64, 64)
    for width in (1, 2, 4, 8):
        kernel = torch.full((1, 1, 1, width), 1 / width)
        soft = torch.nn.functional.conv2d(
            torch.nn.functional.pad(x, (width, width, 0, 0), "replicate"), kernel
        )[..., :64]
        found = sharpness(soft, x)
        assert found.value == pytest.approx(1 / width, rel=1e-5) and found.se == pytest.approx(
            0, abs=1e-6
        )


def test_sharpness_has_its_standard_error():
    def draw(i):
        return Rng(i).normal("x", (50, 1, 8, 8)) * (0.2 + 0.2 * Rng(i).uniform("s", (50, 1, 1, 1)))

    found = [sharpness(draw(2 * i), draw(2 * i + 1)) for i in range(300)]
    assert np.std([e.value for e in found]) == pytest.approx(
        np.mean([e.se for e in found]), rel=0.15
    )
    with pytest.raises(DataError, match="one colour"):
        sharpness(draw(0), torch.zeros(3, 1, 8, 8))
    with pytest.raises(UsageError, match="3 x 3"):
        sharpness(torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))


def test_the_vae_inside_is_the_family_vae():
    assert type(model().vae) is vae.VAE


@pytest.mark.parametrize("objective", ["modern", "larsen"])
def test_a_batch_of_one_is_refused(objective):
    """There is nothing to make up beside the one that is reconstructed, and no spread of features."""
    with pytest.raises(UsageError, match="--batch-size"):
        m = model(objective=objective)
        m.loss(batch(1), m.phases()[0].name, Rng(0))

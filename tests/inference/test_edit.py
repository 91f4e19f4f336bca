"""Editing: a known conditional law, what is known stays, there and back through noise, one line for each mistake."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fromnoise.api import TrainedRun
from fromnoise.cli.verbs import fromnoise
from fromnoise.core.capabilities import Completes, Denoises, Traces
from fromnoise.core.errors import DataError, StorageError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.inference import edit, masks
from fromnoise.probability.diffusion import editing, samplers
from fromnoise.probability.diffusion.path import PATHS
from fromnoise.probability.diffusion.reverse import time_of_level
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Small trained models by name: path of the run."""
    root = tmp_path_factory.mktemp("runs")
    small = dict(width=32, depth=2, gaussians=2, steps=40, intervals=1, threads=1)
    made = {
        "digits": ("diffusion", "digits", small),
        "given": ("diffusion", "digits", small | dict(conditional=True, steps=5)),
        "edm": ("diffusion", "digits", small | dict(preset="edm", steps=5)),
        "points": ("diffusion", "ring8", small),
        "captions": (
            "diffusion",
            "shapes",
            small | dict(conditional=True, depth=1, components=16, steps=2, validation_examples=10),
        ),
        "ar": ("autoregressive", "digits", dict(size=1, steps=2, threads=1, intervals=1)),
        "pca": ("classical", "digits", dict(preset="lecture", threads=1)),
    }
    return {
        name: start_run(make_plan(family, data, **options), root / name, "").path
        for name, (family, data, options) in made.items()
    }


@pytest.fixture(scope="module")
def model(runs):
    return TrainedRun(runs["digits"], device="cpu")


@pytest.fixture(scope="module")
def images(model):
    return model.dataset.to_pixels(model.dataset.batch("test", slice(0, 6)).x)


# -- known answers: a normal pair with correlation .9 and the denoiser that knows it ----------------------------


COVARIANCE = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)


def denoiser(path):
    """E[x | x_t] of N(0, COVARIANCE)."""

    def denoise(x_t, t):
        alpha, sigma = path.coefficients(t)
        gain = (
            alpha
            * COVARIANCE
            @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=torch.float64))
        )
        x_hat = x_t @ gain.T
        return x_hat, (x_t - alpha * x_hat) / sigma

    return denoise


def begin(path, times, n=4000):
    return samplers.initial_state(path, Rng(3).normal("eps", (n, 2)).double(), times[0])


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm", "sde", "heun"])
def test_what_is_filled_in_follows_what_is_known(name, sampler):
    path = PATHS[name]()
    times = samplers.time_grid(path, 40)
    given, known = (
        torch.tensor([1.5, 0.0]).double().expand(4000, 2),
        torch.tensor([True, False]).expand(4000, 2),
    )
    denoise = editing.condition_on_known(denoiser(path), given, known, path)
    run = {
        "ddim": samplers.ddim,
        "ddpm": lambda *a: samplers.ddim(*a, eta=1.0, rng=Rng(4)),
        "dpm": samplers.dpm,
        "sde": lambda *a: samplers.dpm(*a, noise=True, rng=Rng(4)),
        "heun": samplers.heun,
    }[sampler]
    x = run(denoise, begin(path, times), path, times)
    assert torch.allclose(
        x[:, 0], given[:, 0], rtol=0, atol=1e-12
    )  # the sampler itself keeps what is known
    assert abs(float(x[:, 1].mean()) - 0.9 * 1.5) < 0.12  # projection alone gives .66
    assert abs(float(x[:, 1].std()) - (1 - 0.81) ** 0.5) < 0.08


@pytest.mark.parametrize("name", PATHS)
def test_the_flow_to_noise_is_a_whitening_and_comes_back(name):
    """Of a normal law the probability flow is linear: z = COVARIANCE^(-1/2) x, since both commute with every step."""
    path = PATHS[name]()
    x = Rng(5).normal("x", (50, 2)).double() @ torch.linalg.cholesky(COVARIANCE).T
    errors = []
    for n in (20, 40, 80):
        times = samplers.time_grid(path, n)
        z = editing.encode(denoiser(path), x, path, times)
        alpha, sigma = path.coefficients(times[0])
        back = samplers.heun(denoiser(path), z * torch.hypot(alpha, sigma), path, times)
        errors.append(float((back - x).abs().max()))
    values, vectors = torch.linalg.eigh(COVARIANCE)
    assert torch.allclose(z, x @ (vectors / values.sqrt()) @ vectors.T, atol=0.03)
    assert errors[2] < errors[1] < errors[0] and errors[2] < 2e-3


def test_the_rest_of_the_times():
    times = torch.tensor([0.9, 0.6, 0.3, 0.1], dtype=torch.float64)
    assert editing.below(times, torch.tensor(0.9, dtype=torch.float64)).tolist() == times.tolist()
    assert editing.below(times, torch.tensor(0.5, dtype=torch.float64)).tolist() == [0.5, 0.3, 0.1]
    assert editing.below(times, torch.tensor(0.31, dtype=torch.float64)).tolist() == pytest.approx(
        [0.31, 0.1]
    )
    assert editing.below(times, torch.tensor(0.01, dtype=torch.float64)).tolist() == pytest.approx(
        [0.01]
    )


# -- trained models ------------------------------------------------------------------------------------------


def test_capabilities(runs):
    assert {
        c for c in (Completes, Denoises, Traces) if isinstance(TrainedRun(runs["digits"]).model, c)
    } == {Completes, Denoises, Traces}
    assert not isinstance(TrainedRun(runs["pca"]).model, Denoises | Completes)


@pytest.mark.parametrize("fill", masks.PARTS)
def test_what_is_known_is_kept_to_the_bit(model, images, fill):
    made = model.complete(images, fill)
    open = masks.build_mask(fill, model.dataset.spec)[0].numpy()
    assert (made[:, ~open] == images[:, ~open]).all()
    assert (made[:, open] != images[:, open]).any()
    assert (model.complete(images, fill) == made).all() and (
        model.complete(images, fill, seed=1) != made
    ).any()


def test_parts_are_where_they_say(model):
    open = {name: masks.build_mask(name, model.dataset.spec)[0] for name in masks.PARTS}
    assert (
        open["left"][:, :4].all()
        and not open["left"][:, 4:].any()
        and torch.equal(~open["left"], open["right"])
    )
    assert (
        open["top"][:4].all()
        and not open["top"][4:].any()
        and torch.equal(~open["top"], open["bottom"])
    )
    assert open["centre"][2:6, 2:6].all() and open["centre"].sum() == 16


def test_auto_regression_fills_in_too(runs, images):
    made = TrainedRun(runs["ar"], device="cpu").complete(images[:2], "bottom")
    assert (made[:, :4] == images[:2, :4]).all()


def test_points_are_filled_in(runs):
    points = TrainedRun(runs["points"], device="cpu")
    x = np.float32([[1, 0], [0, 1]])
    made = points.complete(x, np.array([False, True]))
    assert (made[:, 0] == x[:, 0]).all() and (made[:, 1] != x[:, 1]).all()


def error(a, b):
    return float(((a.astype(float) - b) ** 2).mean()) / 255**2


def test_little_noise_changes_little_and_all_of_it_everything(model, images):
    errors = [error(model.redraw(images, s), images) for s in (0.001, 0.1, 0.4, 1.0)]
    assert errors[0] < 1e-4 and errors == sorted(errors) and errors[3] > 0.02
    assert (
        model.redraw(images, 1.0) == model.redraw(255 - images, 1.0)
    ).all()  # nothing of them is left


@pytest.mark.parametrize("name", ["digits", "edm", "points"])
def test_a_share_of_noise_is_the_same_mixture_on_every_path(runs, name):
    run = TrainedRun(runs[name], device="cpu")
    m, x = run.model, run.dataset.batch("test", slice(0, 4)).x
    z, own = Rng(1).normal("z", x.shape), lambda x: (x - m.shift) / m.scale
    for share in (0.01, 0.4, 0.9):
        t, size = time_of_level(m.path, share)
        assert torch.allclose(
            own(m.noised(x, share, z)) * size, m.path.mix(own(x), z, t), atol=1e-4
        )


def test_all_noise_is_a_sample(model):
    m, z, options = model.model, Rng(1).normal("x", (4, 1, 8, 8)), model.loaded.family.Options()
    with torch.no_grad():
        made = m.denoised(m.noised(torch.zeros_like(z), 1.0, z), 1.0, None, options, Rng(1))
        assert torch.allclose(made, m.sample(4, None, options, Rng(1)), atol=1e-5)


@pytest.mark.parametrize("name", ["digits", "edm", "points"])
def test_there_and_back_through_noise(runs, name):
    run = TrainedRun(runs[name], device="cpu")
    x, options = (
        run.dataset.batch("test", slice(0, 6)).x,
        run.loaded.family.Options(steps=60, sampler="heun"),
    )
    with torch.no_grad():
        z = run.model.to_noise(x, None, options)
        assert torch.allclose(edit.from_noise(run.model, z, None, options, Rng(0)), x, atol=0.05)
        assert 0.2 < float(z.std()) < 2


def test_the_ends_of_a_way_are_the_images_and_its_middle_is_no_blend(model, images):
    made = model.between(images[:2], images[2:4], n=5).reshape(2, 5, 8, 8)
    assert error(made[:, 0], images[:2]) < 2e-3 and error(made[:, -1], images[2:4]) < 2e-3
    assert error(made[:, 2], images[:2]) > 0.01 and error(made[:, 2], images[2:4]) > 0.01
    assert (
        model.between(images[:1], images[2:3], n=5) == made[0]
    ).all()  # whatever else goes its way


def test_captioned_pictures_come_back_though_their_sampler_has_new_noise(runs):
    run = TrainedRun(runs["captions"], device="cpu")
    batch = run.dataset.batch("test", slice(0, 2))

    def off(a, b):
        return float((a - b).square().mean())

    made = edit.Editor(run.loaded, batch.y[:1]).between(batch.x[:1], batch.x[1:], 3)[0]
    assert off(made[0], batch.x[0]) < 0.01 and off(made[-1], batch.x[1]) < 0.01
    near, far = (
        edit.Editor(run.loaded, batch.y[:1]).vary(batch.x[:1], amount)[0, 0]
        for amount in (0.02, 1.0)
    )
    assert off(near, batch.x[0]) < off(far, batch.x[0]) / 4
    with pytest.raises(UsageError, match="does not bring a picture back"):
        edit.Editor(run.loaded, batch.y[:1], options={"sampler": "sde"}).vary(batch.x[:1], 0.1)


def test_relatives_are_near_and_differ(model, images):
    near, far = (model.vary(images, a) for a in (0.05, 0.6))
    assert error(near, images) < error(far, images)
    assert (model.vary(images, 0.3, seed=1) != model.vary(images, 0.3, seed=2)).any()
    assert (model.vary(images, 1.0) == model.vary(255 - images, 1.0)).all()


def test_an_edit_depends_on_its_own_image_seed_and_draw(model):
    x = model.dataset.batch("test", slice(0, 20)).x
    many = edit.Editor(model.loaded, draws=2).redraw(x, 0.5)
    assert torch.equal(edit.Editor(model.loaded).redraw(x[:3], 0.5)[:, 0], many[:3, 0])
    assert not torch.equal(many[:, 0], many[:, 1])


def test_a_label_is_obeyed_and_asked_for(runs, images):
    given = TrainedRun(runs["given"], device="cpu")
    assert given.redraw(images, 0.5, y=[3] * 6).shape == images.shape
    with pytest.raises(UsageError, match="label"):
        given.redraw(images, 0.5)


def test_a_trace_ends_in_the_sample(runs):
    for name in ("digits", "edm", "points"):
        m = TrainedRun(runs[name], device="cpu").model
        for sampler in ("dpm", "sde", "heun", "ddpm"):
            options = TrainedRun(runs[name]).loaded.family.Options(steps=7, sampler=sampler)
            with torch.no_grad():
                moments, sample = (
                    m.trace(5, None, options, Rng(2)),
                    m.sample(5, None, options, Rng(2)),
                )
            assert torch.equal(moments[-1].x, sample) and len(moments) == (
                5 if sampler == "heun" else 8
            )
            levels = [moment.level for moment in moments]
            assert levels == sorted(levels, reverse=True) and levels[-1] == 0 and levels[0] > 0.9
            z = Rng(2).normal("x", sample.shape)
            noise = m.noised(torch.zeros_like(z), 1.0, z)
            assert torch.allclose(
                moments[0].x, noise, atol=0.6 * float(m.scale)
            )  # of the data's own scale, and a little of their form
            assert float((moments[0].x - noise).std() / noise.std()) < 0.15
            if sampler != "heun":
                assert torch.allclose(
                    moments[3].x_hat, m.clean(moments[3].x, levels[3], None, options), atol=1e-4
                )


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0, -1, 1.01, float("nan"), float("inf")])
def test_a_share_of_noise_is_a_share(model, images, strength):
    for change in (model.redraw, model.vary):
        with pytest.raises(UsageError, match="above 0 and up to 1"):
            change(images, strength)


def test_nothing_to_change(model, images):
    for asked in (
        lambda: model.redraw(images[:0], 0.5),
        lambda: model.between(images[:0], images[:0]),
    ):
        with pytest.raises(UsageError, match="one or more"):
            asked()
    with pytest.raises(UsageError, match="as many of both"):
        model.between(images[:2], images[:1])


def test_masks_of_the_wrong_form(tmp_path):
    spec = DataSpec("image", (3, 8, 10), 256)
    assert masks.build_mask("left", spec).shape == (3, 8, 10)
    pixels = np.zeros((8, 10), np.uint8)
    pixels[2:4, 5:] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert (masks.build_mask(str(tmp_path / "mask.png"), spec)[2].numpy() == (pixels > 0)).all()
    Image.fromarray(pixels.T).save(tmp_path / "turned.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(0 * pixels).save(tmp_path / "black.png")
    for fill, words in {
        "turned.png": "size 8 x 10, and the data 10 x 8",
        "black.png": "nothing to fill in",
        "text.png": "cannot be read",
        "no.png": "there is no mask",
    }.items():
        with pytest.raises((UsageError, DataError), match=words):
            masks.build_mask(str(tmp_path / fill), spec)
    for fill, words in (
        (np.zeros((8, 10), bool), "nothing"),
        (np.ones((4, 4), bool), "size 4 x 4"),
        (np.ones((8, 10)), "True"),
        ("middle", "there is no mask"),
    ):
        with pytest.raises(UsageError, match=words):
            masks.build_mask(fill, spec)


def said(*words):
    result = CliRunner().invoke(fromnoise, ["edit", *map(str, words)], standalone_mode=False)
    return result, str(result.exception)


@pytest.mark.parametrize(
    ("name", "words", "answer"),
    [
        ("digits", [], "give exactly one of"),
        ("digits", ["--fill", "left", "--vary", "0.2"], "give exactly one of"),
        ("digits", ["--strength", "2"], "above 0 and up to 1"),
        ("digits", ["--strength", "much"], "above 0 and up to 1"),
        ("digits", ["--between", "1"], "at least 2"),
        ("digits", ["--between", "5", "-n", "1"], "needs two images"),
        ("digits", ["--between", "5", "--draws", "2"], "leave --draws out"),
        ("digits", ["--strength", "0.5", "--label", "3"], "leave --label out"),
        ("digits", ["--strength", "0.5", "--stepz", "3"], "no option '--stepz'"),
        ("digits", ["--strength", "0.5", "--images", "nowhere"], "no such folder"),
        ("given", ["--strength", "0.5", "--label", "eleven"], "no class 'eleven'"),
        ("given", ["--strength", "0.5", "--label", "11"], "no class '11'"),
        ("pca", ["--fill", "left"], "fills nothing in"),
        ("pca", ["--strength", "0.5"], "does not remove noise"),
        ("ar", ["--between", "3"], "does not remove noise"),
        ("points", ["--fill", "left"], "run.complete"),
    ],
)
def test_mistakes_get_one_line(runs, name, words, answer):
    result, line = said(runs[name], *words, "--device", "cpu")
    assert (
        isinstance(result.exception, UsageError | DataError) and answer in line and "\n" not in line
    ), line


def test_pictures_of_ones_own_are_brought_to_the_models_form(runs, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(Rng(i).integers("p", 256, (30, 20, 3)).numpy().astype(np.uint8)).save(
            folder / f"{i}.png"
        )
    result, _ = said(
        runs["digits"],
        "--fill",
        "top",
        "--images",
        folder,
        "--draws",
        2,
        "-o",
        tmp_path / "made.png",
        "--json",
        "--device",
        "cpu",
        "--steps",
        3,
    )
    assert json.loads(result.output) == {
        "run": str(runs["digits"]),
        "n": 3,
        "draws": 2,
        "files": [str(tmp_path / "made.png")],
    }
    with Image.open(tmp_path / "made.png") as picture:
        assert picture.size == (
            3 * 34 - 2,
            3 * 34 - 2,
        )  # three columns; the given ones and two draws; 8 pixels fourfold
    result, line = said(runs["given"], "--strength", "0.5", "--images", folder, "--device", "cpu")
    assert "add --label" in line
    result, _ = said(
        runs["given"],
        "--strength",
        "0.5",
        "--images",
        folder,
        "--label",
        "3",
        "-o",
        tmp_path / "folder",
        "--draws",
        1,
        "--device",
        "cpu",
        "--steps",
        2,
    )
    assert result.exception is None and len(list((tmp_path / "folder").iterdir())) == 3
    result, _ = said(
        runs["digits"],
        "--between",
        4,
        "-n",
        5,
        "-o",
        tmp_path / "way.png",
        "--device",
        "cpu",
        "--steps",
        4,
    )
    with Image.open(tmp_path / "way.png") as picture:
        assert result.exception is None and picture.size == (
            6 * 34 - 2,
            2 * 34 - 2,
        )  # two pairs: the ends, and the way of four


def test_a_wild_slope_pulls_no_further_than_twice_the_error():
    """In few long steps a network's slope at strong noise would carry the picture into saturation."""
    path, t = PATHS["flow"](), torch.tensor(0.98)
    known = torch.tensor([[True, True, False, False]])
    given, x_t = torch.tensor([[0.5, -0.5, 0.0, 0.0]]), Rng(1).normal("x", (1, 4))
    mixing = 1000 * Rng(2).normal("A", (4, 4))

    def denoise(x_t, t):
        x_hat = (x_t - x_t.detach()) @ mixing  # 0, with slopes of a thousand
        return x_hat, x_t

    x_hat, _ = editing.condition_on_known(denoise, given, known, path)(x_t, t)
    assert torch.equal(x_hat[:, :2], given[:, :2])
    assert 0 < float(x_hat[:, 2:].norm()) <= 2 * float(given.norm()) + 1e-6  # as many open as known


@pytest.mark.parametrize("known_places, least", [(1, 0.7), (784 // 2, 1.4)])
def test_few_that_are_known_move_many(known_places, least):
    """D = 784, all correlated by .9, known to be 1.5: the others' mean is 1.35 to 1.5; the limit of the pull must not rob it."""
    path, D, n = PATHS["flow"](), 784, 16
    times, known = samplers.time_grid(path, 10), (torch.arange(D) < known_places).expand(n, D)
    given = torch.full((n, D), 1.5, dtype=torch.float64)

    def mean(x):
        return x.mean(1, keepdim=True)

    def denoise(x_t, t):  # C has the eigenvalue 1 - .9 + .9 D along the ones, .1 across
        alpha, sigma = path.coefficients(t)

        def gain(c):
            return alpha * c / (alpha**2 * c + sigma**2)

        x_hat = gain(0.1 + 0.9 * D) * mean(x_t) + gain(0.1) * (x_t - mean(x_t))
        return x_hat, (x_t - alpha * x_hat) / sigma

    start = samplers.initial_state(path, Rng(3).normal("eps", (n, D)).double(), times[0])
    x = samplers.ddim(editing.condition_on_known(denoise, given, known, path), start, path, times)
    assert least < float(x[:, known_places:].mean()) < 1.65


def test_fewer_images_than_asked_for_are_told(runs, tmp_path):
    Image.new("L", (8, 8), 200).save(tmp_path / "one.png")
    done = CliRunner().invoke(
        fromnoise,
        [
            "edit",
            str(runs["digits"]),
            "--strength",
            "0.5",
            "--images",
            str(tmp_path),
            "-n",
            "3",
            "-o",
            str(tmp_path / "out.png"),
            "--steps",
            "2",
        ],
    )
    assert done.exit_code == 0 and "only 1 images, not the requested 3" in done.stderr


def test_what_is_transparent_in_a_mask_is_not_filled_in(tmp_path):
    mask = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    mask.putpixel((3, 2), (255, 255, 255, 255))
    mask.save(tmp_path / "mask.png")
    found = masks.read_white_part(tmp_path / "mask.png")
    assert found.sum() == 1 and found[2, 3]


def test_bounds_of_guidance_need_guidance(runs):
    with pytest.raises(UsageError, match="where --guidance acts"):
        TrainedRun(runs["given"], device="cpu").sample(2, guidance_from=0.5)


def test_a_weaker_run_guides(runs, tmp_path):
    """Autoguidance from the command line and in Python; what it cannot be used for is said in a line."""
    weak = start_run(
        make_plan("diffusion", "digits", width=32, depth=1, steps=3, intervals=1, threads=1),
        tmp_path / "weak",
        "",
    ).path
    model, other = (TrainedRun(path, device="cpu") for path in (runs["digits"], weak))
    plain = model.sample(2, steps=3)
    guided = model.sample(2, steps=3, guidance=2.0, guide_with=other)
    assert not np.array_equal(plain, guided) and np.array_equal(
        model.sample(2, steps=3), plain
    )  # it is not remembered

    def sample(run, *more):
        return CliRunner().invoke(
            fromnoise,
            [
                "sample",
                str(run),
                "-n",
                "2",
                "--device",
                "cpu",
                "-o",
                str(tmp_path / "x.npy"),
                *map(str, more),
            ],
        )

    assert (
        sample(runs["digits"], "--guide-with", weak, "--guidance", 2, "--steps", 3).exit_code == 0
    )
    assert np.array_equal(np.load(tmp_path / "x.npy"), guided)
    for run, more, said_of in (
        ("digits", ["--guide-with", weak], "--guidance how much"),
        ("ar", ["--guide-with", weak], "only a diffusion model"),
        ("digits", ["--guide-with", runs["points"], "--guidance", 2], "other data"),
        ("digits", ["--guide-with", runs["ar"], "--guidance", 2], "only a diffusion model"),
        ("edm", ["--guide-with", weak, "--guidance", 2], "same data and path"),
        ("digits", ["--guide-with", tmp_path / "none", "--guidance", 2], "none"),
    ):
        result = sample(runs[run], *more)
        assert isinstance(
            result.exception, UsageError | DataError | StorageError
        ) and said_of in str(result.exception), (run, more, result.exception)

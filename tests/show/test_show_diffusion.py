"""Figures of what denoises and samples step by step: who has them, that they say what is true, that the page holds them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fromnoise.core.errors import UsageError
from fromnoise.inference import sample
from fromnoise.measures.estimate import Estimate
from fromnoise.runs.load import load_run
from fromnoise.show.catalogue import FIGURES, show
from fromnoise.show.context import FigureContext
from fromnoise.show.evaluations import DistanceCurve, draw_distance_curve
from fromnoise.show.figures import denoising, forward, solver, steps, trajectories
from fromnoise.show.page import gallery
from fromnoise.show.page.sections import SECTIONS
from fromnoise.show.style import Sheet, drawing
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

OURS = {"forward", "denoising", "trajectories", "steps", "solver"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("runs"), {}
    small = dict(width=32, depth=2, threads=1, intervals=1)
    for name, (family, data, options) in {
        "digits": ("diffusion", "digits", small | dict(steps=30)),
        "given": ("diffusion", "digits", small | dict(steps=2, conditional=True)),
        "ring": ("diffusion", "ring8", small | dict(steps=400)),
        "pca": ("classical", "digits", dict(preset="lecture", threads=1)),
    }.items():
        made[name] = load_run(
            start_run(make_plan(family, data, **options), root / name, ""), device="cpu"
        )
    return made


@pytest.fixture(scope="module")
def few():
    """Steps are measured on few samples, so that tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        (
            patch.setattr(steps, "SAMPLES", {"image": 256, "vector": 256}),
            patch.setattr(steps, "STEPS", (1, 4, 10)),
        )
        patch.setattr(solver, "SAMPLES", {"image": 256, "vector": 256})
        patch.setattr(solver, "CONVERGED", 30)
        yield


@pytest.fixture(scope="module")
def drawn(models, few, tmp_path_factory):
    """Numbers of each figure: (model, figure) -> dict."""
    out, found = tmp_path_factory.mktemp("figures"), {}
    for name, figures in {
        "digits": ["forward", "denoising", "steps", "solver"],
        "given": ["forward", "denoising"],
        "ring": ["trajectories", "steps"],
    }.items():
        for path in show(models[name], figures, out=out / name):
            if path.suffix == ".json":
                found[name, path.stem] = json.loads(path.read_text())
    return found


def able(loaded):
    return {name for name in OURS if not FIGURES[name].why_not(FigureContext(loaded))}


def test_by_capability(models):
    assert (
        able(models["digits"])
        == able(models["given"])
        == {"forward", "denoising", "steps", "solver"}
    )
    assert able(models["ring"]) == {"trajectories", "steps", "solver"}
    assert able(models["pca"]) == set()
    for name in OURS:
        with pytest.raises(UsageError, match=f"no figure '{name}'"):
            show(models["pca"], [name])


def test_one_look_explains_less_where_noise_is_more(models, drawn):
    explained = drawn["digits", "forward"]["numbers"]["explained"]
    assert explained[0] > 0.999 and explained[0] > explained[2] > explained[4] > explained[7]
    assert explained[-1] < 0.1  # of pure noise nothing is known
    subject, model = FigureContext(models["digits"]), models["digits"].model
    x = subject.first(forward.MEASURED).x
    z = subject.rng("forward").per_row(range(len(x))).normal("z", x.shape)
    with torch.no_grad():
        error = (
            (model.clean(model.noised(x, 0.5, z), 0.5, None, models["digits"].family.Options()) - x)
            .square()
            .mean()
        )
    train = models["digits"].dataset.batch("train", slice(0, forward.MEASURED)).x
    variance = (x - train.mean(0)).square().mean()
    assert explained[5] == pytest.approx(float(1 - error / variance), abs=1e-4)


def test_the_solver_comes_near_to_what_it_converges_to(drawn):
    numbers = drawn["digits", "solver"]["numbers"]
    assert numbers["evaluations"] == [5, 10, 20, 30]
    assert numbers["components"][0] == [1, 1] and numbers["components"][1] == [2, 5]
    few, _, many, converged = (np.array(ratios) for ratios in numbers["variance_ratio"])
    assert np.abs(many / converged - 1).max() < np.abs(few / converged - 1).max()
    assert np.abs(many[:3] / converged[:3] - 1).max() < 0.05


def test_the_strip_ends_in_the_samples(models, drawn):
    numbers = drawn["digits", "denoising"]["numbers"]
    assert numbers["steps"] == list(range(11)) and numbers["levels"][-1] == 0
    moments = denoising.trace_samples(FigureContext(models["digits"], seed=5))
    assert torch.equal(moments[-1].x, sample.sample(models["digits"], sample.BLOCK, 5))
    moments = denoising.trace_samples(FigureContext(models["given"], seed=5, label=3))
    assert torch.equal(moments[-1].x, sample.sample(models["given"], sample.BLOCK, 5, label=3))


def test_ways_begin_in_noise_and_arrows_point_to_what_the_model_sees(models, drawn):
    numbers, model = drawn["ring", "trajectories"]["numbers"], models["ring"].model
    starts, real = (
        np.array(numbers["starts"]),
        models["ring"].dataset.batch("test", slice(0, 500)).x,
    )
    assert np.allclose(starts.std(), real.std(), rtol=0.25)
    grid = torch.tensor(numbers["grid"])
    with torch.no_grad():
        goal = model.clean(grid, trajectories.FIELD_LEVEL, None, models["ring"].family.Options())
    assert torch.allclose(grid + torch.tensor(numbers["push"]), goal, atol=1e-3)
    far = grid.norm(dim=1) > 1.5 * real.norm(dim=1).max()
    inwards = (torch.tensor(numbers["push"]) * -grid).sum(1) > 0
    assert inwards[far].all()


def test_steps_are_measured_with_intervals_and_time(drawn):
    for name, metric in (("digits", "Fréchet distance"), ("ring", "kernel distance")):
        numbers = drawn[name, "steps"]["numbers"]
        assert (
            metric in numbers["metric"] and numbers["steps"] == [1, 4, 10] and numbers["n"] == 256
        )
        assert all(
            low <= value <= high
            for value, (low, high) in zip(numbers["value"], numbers["interval"])
        )
        assert all(seconds > 0 for seconds in numbers["seconds_for_64"])


def test_the_curve_draws_distances_of_nothing():
    with drawing():
        sheet = Sheet("", "", [], 300)
        distances = [
            Estimate(112.0, interval=(99.0, 126.0)),
            Estimate(-0.1, interval=(-0.3, 0.1)),
            Estimate(0.2),
        ]
        curve = DistanceCurve("d", Estimate(-0.01), [1, 2, 4], distances, [0.1, 2.0, 1.0])
        draw_distance_curve(sheet, curve, 400, 300)
        (axes,) = sheet.figure.axes
        assert axes.get_ylim()[0] > 0 and [
            label.get_text() for label in axes.get_xticklabels()
        ] == ["1\n100 ms", "2\n2.0 s", "4\n1.0 s"]
        assert [text.get_text() for text in axes.texts] == ["112", "≤ 0", "0.2"]


def test_words_for_levels():
    assert [denoising.format_level(s) for s in (0.0, 0.002, 0.1, 0.988, 1.0)] == [
        "0%",
        "0.2%",
        "10%",
        "99%",
        "100%",
    ]


def test_the_page_has_the_strip(models, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "show", lambda *_, **__: [tmp_path / "drawn.png"])
    alone = [replace(figure, compare=None) for figure in gallery.ALL_FIGURES]
    monkeypatch.setattr(gallery, "ALL_FIGURES", alone)
    found = gallery.page_figures([models["digits"], models["pca"]], tmp_path)
    assert {"digits/denoising", "digits/steps", "digits/completions"} <= set(found)
    assert not {key for key in found if key.startswith("pca/") and key.partition("/")[2] in OURS}
    assert "ring/trajectories" in gallery.page_figures([models["ring"]], tmp_path)
    assert {"denoising", "trajectories", "steps", "completions"} <= set(SECTIONS)


def test_steps_of_a_few_pictures_of_ones_own(few, tmp_path):
    """Too few for a Fréchet distance of their features: a kernel distance, and every other figure as ever."""
    pictures = tmp_path / "few.npy"
    np.save(pictures, np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    plan = make_plan("diffusion", str(pictures), width=16, depth=1, threads=1, steps=2, intervals=1)
    loaded = load_run(start_run(plan, tmp_path / "run", ""), device="cpu")
    with drawing():
        drawn = steps.draw_steps(FigureContext(loaded))
    assert (
        drawn.numbers["metric"] == "kernel distance" and np.isfinite(drawn.numbers["value"]).all()
    )


def test_one_image_and_equal_images_have_a_figure_of_noise(models):
    for rows in (slice(0, 1), np.zeros(5, dtype=int)):
        base = models["digits"]
        splits = {
            name: replace(base.dataset.split(name), x=base.dataset.split("test").x[rows], y=None)
            for name in ("train", "validation", "test")
        }
        with drawing():
            drawn = forward.draw_forward(
                FigureContext(replace(base, dataset=replace(base.dataset, splits=splits)))
            )
        assert drawn.numbers["explained"] == []


def test_a_figure_that_the_data_do_not_allow_is_an_error_only_by_name(
    models, monkeypatch, tmp_path
):
    def refuse(subject):
        raise UsageError("the training examples do not differ")

    lines = []
    monkeypatch.setattr(
        "fromnoise.show.catalogue.FIGURES",
        {
            name: replace(FIGURES[name], draw=refuse) if name == "solver" else FIGURES[name]
            for name in ("solver", "forward")
        },
    )
    files = show(models["digits"], out=tmp_path, say=lines.append)
    assert {file.stem for file in files} == {"forward"} and lines == [
        "figure 'solver' is skipped: the training examples do not differ"
    ]
    with pytest.raises(UsageError, match="do not differ"):
        show(models["digits"], ["solver"], out=tmp_path)

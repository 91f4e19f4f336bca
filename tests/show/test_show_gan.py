"""Figures of generators and of the duel: films, truncation, inversion, progress, phases. Quality is not the subject here."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.core.errors import StorageError, UsageError
from fromnoise.core.family import Phase
from fromnoise.core.rng import Rng
from fromnoise.evaluate.quality_reference import nearest_training
from fromnoise.inference.sample import sample
from fromnoise.measures.features import extract
from fromnoise.probability.diffusion.editing import slerp
from fromnoise.runs import progress_samples as strip
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.show.animation import FRAMES, LIMIT, MILLISECONDS, animate
from fromnoise.show.catalogue import FIGURES, show
from fromnoise.show.context import FigureContext
from fromnoise.show.figures.duel_scores import discriminator_scores, score_gradients
from fromnoise.show.figures.film import closed_path
from fromnoise.show.figures.progress import choose_evenly
from fromnoise.show.figures.truncation import LEVELS
from fromnoise.show.page.gallery import page_figures
from fromnoise.show.phases import turns_of
from fromnoise.show.series import series
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

SMALL = dict(hidden=(24, 24), latent_dim=4, threads=1, intervals=3, validation_examples=40)
TRAININGS = {
    "gan": ("gan", "digits", dict(preset="mlp", steps=24)),
    "given": ("gan", "digits", dict(preset="mlp", steps=6, conditional=True)),
    "points": ("gan", "ring8", dict(steps=24, hidden_g=None)),
    "turns": (
        "gan",
        "ring8",
        dict(
            preset="lecture", network="mlp", steps=24, batch_size=1000, d_epochs=0.1, g_epochs=0.2
        ),
    ),
    "vae": ("vae", "digits", dict(preset="mlp", steps=24)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small trained models, restored, with strips at their first and last checkpoint."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    for name, (family, data, options) in TRAININGS.items():
        run = start_run(make_plan(family, data, **SMALL | options), root / name)
        made[name] = load_run(run, device="cpu")
        first = load_run(run, str(run.events("interval")[-2]["step"]), device="cpu")
        for loaded in (first, made[name]):
            strip.save_progress_samples(
                run, loaded.model, loaded.dataset, loaded.step, loaded.family.Options()
            )
    return made


@pytest.fixture(scope="module")
def drawn(models, tmp_path_factory):
    """model -> figure -> what its JSON says; the files lie in ``folder``."""
    root, found = tmp_path_factory.mktemp("figures"), {"folder": None}
    found["folder"] = root
    for name, wanted in {
        "gan": ["curves", "progress", "samples", "film", "truncation", "duel", "invert"],
        "given": ["film", "duel", "invert", "truncation"],
        "points": ["curves", "progress", "duel"],
        "turns": ["curves"],
        "vae": ["truncation", "invert"],
    }.items():
        show(models[name], wanted, seed=3, out=root / name)
        found[name] = {
            figure: json.loads((root / name / f"{figure}.json").read_text())["numbers"]
            for figure in wanted
        }
    return found


def test_a_generator_has_the_figures_of_its_capabilities(models):
    able = {
        name: {
            figure
            for figure, kind in FIGURES.items()
            if not kind.why_not(FigureContext(models[name]))
        }
        for name in models
    }
    assert (
        able["gan"]
        == able["given"]
        == {"curves", "progress", "samples", "nearest", "film", "truncation", "duel", "invert"}
    )
    assert able["points"] == {"curves", "progress", "samples", "duel"}
    assert {"film", "truncation", "invert"} <= able["vae"] and "duel" not in able["vae"]


@pytest.mark.parametrize(
    "name, figure, said",
    [
        ("points", "film", "for images"),
        ("points", "invert", "for images"),
        ("vae", "duel", "no discriminator"),
        ("gan", "recon", "does not reconstruct"),
    ],
)
def test_what_cannot_be_drawn_is_told(models, name, figure, said):
    with pytest.raises(UsageError, match=said):
        show(models[name], [figure])


# -- the film ------------------------------------------------------------------------------------------------


def test_arc_keeps_the_length_and_the_angular_speed():
    a, b = torch.tensor([2.0, 0, 0]).double(), torch.tensor([0, 3.0, 0]).double()
    t = torch.linspace(0, 1, 5).double()
    z = slerp(a, b, t)
    assert torch.allclose(z.norm(dim=1), 2 + t)
    assert torch.allclose(torch.atan2(z[:, 1], z[:, 0]), t * torch.pi / 2)


def test_arc_between_opposite_points_is_a_line():
    a = torch.tensor([1.0]).double()
    assert torch.allclose(
        slerp(a, -a, torch.tensor([0.0, 0.25, 1.0]).double())[:, 0],
        torch.tensor([1.0, 0.5, -1.0]).double(),
    )


def test_closed_walk_has_constant_speed_and_meets_its_anchors():
    anchors = torch.eye(3)  # an octant of the sphere: three arcs of equal length
    z = closed_path(anchors, 30)
    assert torch.allclose(z.norm(dim=1), torch.ones(30), atol=1e-4)
    assert torch.allclose(z[[0, 10, 20]], anchors, atol=1e-4)
    steps = (z - z.roll(1, 0)).norm(dim=1)  # the last to the first among them
    assert torch.allclose(steps, steps.mean().expand(30), rtol=1e-3)
    uneven = closed_path(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 4.0, 3.0]]), 400)
    steps = (uneven - uneven.roll(1, 0)).norm(dim=1)
    assert (steps / steps.median() - 1).abs().sort().values[
        -4
    ] < 1e-3 and steps.max() < 1.001 * steps.median()  # corners are cut, three at most


@pytest.mark.parametrize("name", ["gan", "given"])
def test_film_is_an_endless_animation_of_bounded_size(drawn, name):
    path = drawn["folder"] / name / "film.webp"
    assert path.stat().st_size <= LIMIT == 1_500_000
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        first = np.asarray(film.convert("L"), float)
        film.seek(film.n_frames - 1)  # equal frames are stored once, and stay longer
        last, apart = np.asarray(film.convert("L"), float), first.std()
        assert film.info["timestamp"] + film.info["duration"] == FRAMES * MILLISECONDS
    assert np.abs(first - last).mean() < 0.3 * apart  # it closes


def test_film_that_is_too_large_gets_coarser():
    noise = [
        np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8) for i in range(6)
    ]
    whole, size = animate(noise)
    small, less = animate(noise, len(whole) // 6)
    assert size == (64, 64) and less[0] < 64 and len(small) <= len(whole) // 6


# -- truncation, samples, inversion --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, option", [("gan", "truncation"), ("given", "truncation"), ("vae", "temperature")]
)
def test_truncation_lowers_diversity(drawn, name, option):
    levels = drawn[name]["truncation"]["levels"]
    assert [row[option] for row in levels] == list(LEVELS[option])
    values = [row["diversity"] for row in levels]
    assert values == sorted(values, reverse=True) and values[-1] < 0.9 * values[0]


def test_truncation_keeps_the_directions_of_z(models):
    model, options = models["gan"].model, models["gan"].family.Options
    far, near = (
        model.draw_latents(50, options(truncation=level), Rng(0, ("z",))) for level in (4.0, 0.5)
    )
    assert torch.equal(far.sign(), near.sign()) and near.abs().max() <= 0.5 < far.abs().max()
    assert torch.equal(far[:, 0].argsort(), near[:, 0].argsort())


def test_beside_each_sample_stands_its_nearest_training_example(models, drawn):
    subject, numbers = FigureContext(models["gan"], 3), drawn["gan"]["samples"]
    x = sample(models["gan"], numbers["n"], 3)
    m = subject.quality_reference.pixels
    train = torch.cat([extract(m, [subject.dataset.batch("train", slice(None)).x])])
    distance = torch.cdist(
        extract(m, [x]).double(), train.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).min(1)
    assert numbers["nearest"] == distance.indices.tolist()
    assert numbers["distance"] == pytest.approx(distance.values.tolist(), rel=1e-4)


def test_samples_side_by_side_have_their_neighbours_too(models, tmp_path):
    png = page_figures([models["gan"], models["vae"]], tmp_path)["samples"]
    numbers = json.loads(png.with_suffix(".json").read_text())["numbers"]
    assert [block["title"] for block in numbers["blocks"]][0] == "real (test images)" and len(
        numbers["blocks"]
    ) == 3
    subject = FigureContext(models["vae"])
    index = nearest_training(subject.quality_reference, sample(models["vae"], numbers["n"], 0))[1]
    assert numbers["blocks"][2]["nearest"] == index.tolist()


def test_inversion_beats_the_encoder(drawn):
    """The best z that a search finds reconstructs at least as well as the encoder's, here much better after 24 steps."""
    numbers = drawn["vae"]["invert"]
    assert np.mean(numbers["mse"]) < np.mean(numbers["mse_of_encoder"])
    assert (
        "mse_of_encoder" not in drawn["gan"]["invert"]
        and len(drawn["given"]["invert"]["mse"]) == 10
    )


# -- the duel ------------------------------------------------------------------------------------------------


def test_duel_is_drawn_with_the_weights_in_training(models):
    subject = FigureContext(models["gan"])
    raw, average = subject.raw.model.state_dict(), subject.model.state_dict()
    assert any(not torch.equal(raw[key], average[key]) for key in raw)
    again = load_run(models["gan"].run, weights="model", device="cpu").model.state_dict()
    assert all(torch.equal(raw[key], again[key]) for key in raw)


def test_arrows_are_the_slope_of_the_score(models):
    subject = FigureContext(models["points"])
    x = torch.tensor([[0.9, 0.1], [-0.4, 0.3], [0.2, -1.2]])
    push, h = score_gradients(subject, x, None), 1e-2
    for axis in range(2):
        shift = torch.zeros(2)
        shift[axis] = h
        slope = (
            discriminator_scores(subject, x + shift, None)
            - discriminator_scores(subject, x - shift, None)
        ) / (2 * h)
        assert push[:, axis] == pytest.approx(slope, rel=0.05, abs=2e-4)


def test_duel_on_points_centres_its_colours(models, drawn):
    numbers = drawn["points"]["duel"]
    assert np.isclose(np.median(numbers["heat"]), numbers["median"], atol=0.2 * numbers["reach"])
    assert 0 <= numbers["separation"] <= 1 and len(numbers["fakes"]) == len(numbers["push"]) > 0
    subject = FigureContext(models["points"], 3)
    assert score_gradients(
        subject, torch.tensor(numbers["fakes"][:3]).float(), None
    ) == pytest.approx(np.array(numbers["push"][:3]), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["gan", "given"])
def test_duel_on_images_ranks_by_score(models, drawn, name):
    numbers, subject = drawn[name]["duel"], FigureContext(models[name], 3)
    best, worst = numbers["fake most real"], numbers["fake least real"]
    assert min(best["score"]) >= max(worst["score"])
    batch = subject.first(1000)
    scores = discriminator_scores(subject, batch.x, batch.y)
    assert numbers["real it doubts most"]["rows"][0] == int(np.argmin(scores))
    assert numbers["real it trusts most"]["score"][0] == pytest.approx(scores.max(), rel=1e-4)


# -- progress ------------------------------------------------------------------------------------------------


def test_strip_is_the_first_samples_and_the_same_twice(models):
    for name, n in (("gan", 8), ("given", 8), ("points", 500)):
        loaded = models[name]
        path = strip.list_progress_samples(loaded.run)[loaded.step]
        before, values = path.read_bytes(), strip.read_progress_samples(path)
        x = sample(loaded, n, 0)
        own = loaded.dataset.to_pixels(x) if n == 8 else x.numpy()
        assert values.dtype == own.dtype and values.shape == own.shape
        assert np.abs(values.astype(float) - own).max() <= (1 if n == 8 else 1e-5)
        assert (
            strip.save_progress_samples(
                loaded.run,
                loaded.model,
                loaded.dataset,
                loaded.step,
                loaded.family.Options(),
            )
            == path
        )
        assert path.read_bytes() == before


def test_strips_of_steps_that_were_given_up_are_not_shown(models):
    run = models["gan"].run
    there = strip.list_progress_samples(run)
    stray = run.path / "samples" / "progress-00000005.npy"
    stray.write_bytes(next(iter(there.values())).read_bytes())
    assert strip.list_progress_samples(run) == there and list(
        strip.list_progress_samples(run, until=16)
    ) == [step for step in there if step <= 16]
    stray.write_bytes(b"no array")
    with pytest.raises(StorageError, match="damaged"):
        strip.read_progress_samples(stray)
    stray.unlink()


def test_progress_shows_every_kth_step_and_the_last():
    assert choose_evenly([10, 20, 30]) == [10, 20, 30]
    assert choose_evenly(list(range(0, 21)), 12) == list(range(0, 21, 2))
    assert choose_evenly(list(range(1, 21)), 12) == [1, *range(2, 21, 2)]
    for n in range(13, 200):
        assert (
            len(choose_evenly(list(range(n)), 12)) <= 12
            and choose_evenly(list(range(n)), 12)[-1] == n - 1
        )


def test_progress_needs_two_moments(models, drawn, tmp_path):
    assert drawn["gan"]["progress"]["rows"] == 8 and drawn["points"]["progress"]["points"] == 500
    assert len(drawn["gan"]["progress"]["steps"]) >= 2
    shutil.copytree(models["gan"].run.path, tmp_path / "bare")
    for path in (tmp_path / "bare" / "samples").glob("progress-*"):
        path.unlink()
    with pytest.raises(UsageError, match="two intervals"):
        show(replace(models["gan"], run=Run(tmp_path / "bare")), ["progress"], out=tmp_path)


# -- curves --------------------------------------------------------------------------------------------------


def test_panels_of_a_duel():
    events = [
        {
            "step": 1,
            "train": {
                "d_loss": 1.0,
                "g_loss": 2.0,
                "score_real": 3.0,
                "score_fake": 4.0,
                "gradient_norm/generator": 5.0,
            },
            "validation": {"value": 7.0, "sliced_wasserstein": 7.0, "raw_distance": 8.0},
            "duel": {"separation": 0.6, "diversity": 0.9, "kind": "classes"},
        },
    ]
    panels = series(events)
    assert list(panels) == [
        "sliced wasserstein distance",
        "d_loss",
        "g_loss",
        "score",
        "discriminator: real from fake",
        "diversity of samples (real: 1)",
        "gradient norm",
    ]
    assert panels["score"] == {"real": ([1], [3.0]), "fake": ([1], [4.0])}
    assert panels["sliced wasserstein distance"] == {
        "averaged weights": ([1], [7.0]),
        "weights in training": ([1], [8.0]),
    }


def test_turns_are_those_of_the_loop(models):
    run = models["turns"].run
    phases = models["turns"].model.phases()
    per_epoch = len(models["turns"].dataset.split("train")) // 1000
    assert turns_of(phases, run.events("interval")) == [
        max(1, round(0.1 * per_epoch)),
        max(1, round(0.2 * per_epoch)),
    ]
    assert (
        turns_of((Phase("a", ("a",), 1.0), Phase("b", ("b",), 1.0)), [{"step": 5, "epoch": 0.5}])
        == []
    )


def words_of(path) -> str:
    return " ".join(re.findall(r"<!--(.*?)-->", path.read_text()))


def test_phase_strip_names_the_phases_and_how_they_alternate(drawn):
    each, turns = (words_of(drawn["folder"] / name / "curves.svg") for name in ("gan", "turns"))
    once = {"every": 1, "repeats": 1}
    assert drawn["gan"]["curves"]["phases"] == [
        {"name": name, **once, "turn": None} for name in ("discriminator", "generator")
    ]
    assert [phase["turn"] for phase in drawn["turns"]["curves"]["phases"]] == [5, 10]
    assert (
        "in turns" not in each
        and "in turns: discriminator 5 steps, then generator 10 steps" in turns
    )
    assert "best checkpoint, step" in each and "rolled back" not in each


def test_rollbacks_are_marked(models, drawn, tmp_path):
    """Events of another copy of the run, in which training went back once."""
    shutil.copytree(models["gan"].run.path, tmp_path / "back")
    run = Run(tmp_path / "back")
    run.append(
        {
            "kind": "rollback",
            "step": 13,
            "to": 8,
            "reason": "the loss is not finite",
            "lr_factor": 0.5,
        }
    )
    svg = show(replace(models["gan"], run=run), ["curves"], out=tmp_path)[1]
    assert "rolled back 1 time" in words_of(svg)
    assert json.loads((tmp_path / "curves.json").read_text())["numbers"]["rollbacks"] == [13]
    assert drawn["gan"]["curves"]["rollbacks"] == []


def test_figures_of_a_duel_are_the_same_twice(models, drawn, tmp_path):
    for name, figure in (("points", "duel"), ("gan", "film")):
        for path in show(models[name], [figure], seed=3, out=tmp_path / name):
            assert path.read_bytes() == (drawn["folder"] / name / path.name).read_bytes(), path.name


def test_label_of_the_film(models):
    assert FigureContext(models["given"]).labels(12).tolist() == [*range(10), 0, 1]
    assert FigureContext(models["given"], label=7).labels(3).tolist() == [7, 7, 7]
    assert FigureContext(SimpleNamespace(model=models["gan"].model)).labels(3) is None

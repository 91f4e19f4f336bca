"""Figures: present, legible by machine, deterministic, honest about what they draw."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from fromnoise.core.errors import UsageError
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.show.catalogue import FIGURES, show
from fromnoise.show.context import FigureContext
from fromnoise.show.figures.denoise import other_level, psnr
from fromnoise.show.image_rows import LABEL, WIDE_LABEL, ImageRow, sheet_of_rows, tile
from fromnoise.show.latent_plane import WIDEN, plane_range
from fromnoise.show.names import GROUPS, figure_names
from fromnoise.show.page.gallery import page_figures
from fromnoise.show.series import series
from fromnoise.show.style import drawing, finite
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

TRAININGS = {
    "ae": ("autoencoder", "digits", dict(preset="lecture", steps=60, hidden=(32,))),
    "vae": ("vae", "digits", dict(preset="lecture", steps=60, hidden=(32,))),
    "pca": ("classical", "digits", dict(preset="lecture")),
    "dae": (
        "autoencoder",
        "digits",
        dict(preset="denoising", steps=60, hidden=(32,), latent_dim=8),
    ),
    "given": (
        "vae",
        "digits",
        dict(preset="mlp", steps=20, hidden=(32,), latent_dim=4, conditional=True),
    ),
    "points": ("vae", "ring8", dict(steps=20, hidden=(16,), latent_dim=2)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small trained models, restored."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    for name, (family, data, options) in TRAININGS.items():
        plan = make_plan(family, data, threads=1, intervals=3, **options)
        made[name] = load_run(
            start_run(plan, root / name, f"fromnoise train {family} --out {name}"), device="cpu"
        )
    return made


@pytest.fixture(scope="module")
def drawn(models, tmp_path_factory):
    """Every figure that each model can have: model -> figure -> ending -> path."""
    root, found = tmp_path_factory.mktemp("figures"), {}
    for name in [*EXPECTED, "dae"]:
        wanted, beside = (["denoise", "planes"], models["ae"]) if name == "dae" else (None, None)
        files = show(
            models[name],
            wanted,
            seed=3,
            command=f"fromnoise show {name} --seed 3",
            plain=beside,
            out=root / name,
        )
        found[name] = {}
        for path in files:
            found[name].setdefault(path.stem, {})[path.suffix[1:]] = path
    return found


EXPECTED = {
    "ae": {
        "curves",
        "samples",
        "nearest",
        "film",
        "truncation",
        "invert",
        "recon",
        "worst",
        "scatter",
        "grid",
        "traverse",
        "interp",
    },
    "vae": {
        "curves",
        "samples",
        "nearest",
        "film",
        "truncation",
        "invert",
        "recon",
        "worst",
        "scatter",
        "grid",
        "traverse",
        "interp",
        "kl",
    },
    "pca": {
        "samples",
        "nearest",
        "truncation",
        "recon",
        "worst",
        "scatter",
        "grid",
        "traverse",
        "interp",
    },
    "points": {"curves", "samples", "scatter", "kl"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_model_has_the_figures_of_its_capabilities(drawn, name):
    assert (
        set(drawn[name]) - {"progress"} == EXPECTED[name]
    )  # which depends on the training, not on the model


def test_the_help_lists_every_figure_without_importing_it():
    by_group = {group: [] for group in GROUPS}
    for figure in FIGURES.values():
        by_group[figure.group].append(figure.name)
    assert figure_names() == by_group


def test_denoiser_has_all_but_kl(models):
    able = {
        name for name, kind in FIGURES.items() if not kind.why_not(FigureContext(models["dae"]))
    } - {"progress"}
    assert able == EXPECTED["ae"] | {"denoise"}


def test_every_figure_is_a_png_an_svg_and_numbers(drawn):
    for figures in drawn.values():
        for name, files in figures.items():
            assert set(files) == {"png", "svg", "json"} | ({"webp"} if name == "film" else set()), (
                name
            )
            with Image.open(files["png"]) as image:
                pixels = np.asarray(image.convert("L"))
            assert pixels.shape[1] >= 1600, name  # twice what a README shows
            assert 0.003 < (pixels < 200).mean() < 0.95, name  # neither blank nor full
            assert json.loads(files["json"].read_text())["numbers"], name


def test_caption_holds_command_seed_run_and_step(drawn):
    for name, figures in drawn.items():
        for files in figures.values():
            caption = json.loads(files["json"].read_text())["caption"]
            assert (
                f"$ fromnoise show {name} --seed 3" in caption
                and "seed 3" in caption
                and name in caption
            )
            with Image.open(files["png"]) as image:
                assert caption in image.text["Description"]
            assert re.search(
                r"<!--.*fromnoise show", files["svg"].read_text()
            )  # drawn, not only recorded
    assert "step 60" in json.loads(drawn["ae"]["recon"]["json"].read_text())["caption"]


def test_the_same_bytes_twice(models, drawn, tmp_path):
    for name, figure in (("vae", "scatter"), ("ae", "grid"), ("vae", "curves")):
        again = show(
            models[name], [figure], seed=3, command=f"fromnoise show {name} --seed 3", out=tmp_path
        )
        for path in again:
            assert path.read_bytes() == drawn[name][figure][path.suffix[1:]].read_bytes(), path.name


def test_matplotlib_settings_of_the_caller_are_neither_used_nor_changed(models, drawn, tmp_path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "svg.hashsalt": "mine"}):
        (_, svg, _) = show(
            models["pca"], ["recon"], seed=3, command="fromnoise show pca --seed 3", out=tmp_path
        )
        assert (
            matplotlib.rcParams["font.size"] == 31.0
            and matplotlib.rcParams["svg.hashsalt"] == "mine"
        )
    assert svg.read_bytes() == drawn["pca"]["recon"]["svg"].read_bytes()


# -- honest about what is drawn ------------------------------------------------------------------------------


def test_scatter_says_mean_or_sample_and_draws_it(models, tmp_path):
    sheets = {}
    for sampled in (False, True):
        _, svg, numbers = show(
            models["vae"], ["scatter"], sampled=sampled, out=tmp_path / str(sampled)
        )
        sheets[sampled] = (svg.read_text(), json.loads(numbers.read_text())["numbers"])
    assert "posterior means μ" in sheets[False][0] and "not sampled z" in sheets[False][0]
    assert (
        "sampled z ~ q(z|x)" in sheets[True][0].replace("&lt;", "<")
        and "μ" not in sheets[True][1]["drawn"]
    )
    mean, std = models["vae"].model.posterior(models["vae"].dataset.batch("test", slice(0, 180)).x)
    z = np.array(sheets[True][1]["z"])
    assert np.allclose(sheets[False][1]["z"], mean.numpy(), atol=1e-4)
    assert 0.8 < (((z - mean.numpy()) / std.numpy()) ** 2).mean() < 1.2


def test_prior_circles_only_with_a_posterior(drawn):
    def prior(name):
        return "standard deviations" in drawn[name]["scatter"]["svg"].read_text()

    assert prior("vae") and not prior("ae") and not prior("pca")


def test_grid_covers_the_range_of_the_data(models, drawn):
    for name in ("ae", "vae", "pca"):
        codes = FigureContext(models[name]).codes.z
        numbers = json.loads(drawn[name]["grid"]["json"].read_text())["numbers"]
        for dim, (low, high) in enumerate(numbers["range"]):
            assert low < codes[:, dim].min() and high > codes[:, dim].max()
            assert (high - low) == pytest.approx(
                WIDEN * (codes[:, dim].max() - codes[:, dim].min()), rel=1e-4
            )
        assert str(WIDEN) in drawn[name]["grid"]["svg"].read_text()


def test_grid_orientation(models):
    """The first cell is the highest second dimension and the lowest first one."""
    from fromnoise.show.latent_plane import decoded_plane

    subject = FigureContext(models["ae"])
    images, ranges = decoded_plane(subject, 5)
    (x0, x1), (y0, y1) = ranges
    import torch

    corner = torch.tensor([[x0 + (x1 - x0) / 10, y1 - (y1 - y0) / 10]])
    assert np.array_equal(images[0], subject.pixels(subject.decode(corner))[0])


def test_range_of_constant_codes_is_not_empty():
    class Constant:
        z = np.ones((5, 2))

    assert all(low < 1 < high for low, high in plane_range(Constant, (0, 1)))


def test_other_dimensions_of_a_larger_code_are_named(models, tmp_path):
    _, svg, numbers = show(models["dae"], ["scatter"], dims=(5, 2), out=tmp_path)
    assert "Dimensions 5 and 2 of 8" in svg.read_text()
    assert json.loads(numbers.read_text())["numbers"]["dims"] == [5, 2]


def test_worst_are_the_worst(models, drawn):
    numbers = json.loads(drawn["ae"]["worst"]["json"].read_text())["numbers"]
    x = models["ae"].dataset.batch("test", slice(None)).x
    error = ((models["ae"].model.reconstruct(x) - x) / 2).square().flatten(1).mean(1).numpy()
    assert numbers["rows"] == np.argsort(-error, kind="stable")[:8].tolist()
    assert numbers["mse_of_split"] == pytest.approx(error.mean(), rel=1e-4)


def test_denoise_shows_a_trained_and_an_untrained_level(drawn):
    numbers = json.loads(drawn["dae"]["denoise"]["json"].read_text())["numbers"]
    assert [row["trained"] for row in numbers["levels"]] == [True, False]
    for row in numbers["levels"]:
        assert set(row["psnr"]) == {"noisy", "plain autoencoder", "denoiser"}
        assert row["psnr"]["denoiser"] == pytest.approx(psnr(row["mse"]["denoiser"]), abs=1e-3)
    assert other_level("mask", 0.5) == 0.75 and other_level("gaussian", 0.4) == 0.6
    assert psnr(0.01) == pytest.approx(20)


def test_conditional_model_says_which_class_it_decodes(models, tmp_path):
    _, svg, _ = show(models["given"], ["grid"], label=7, out=tmp_path)
    assert "of class '7'" in svg.read_text()
    with pytest.raises(UsageError, match="no class '70'.*Known: 0, 1"):
        show(models["given"], ["grid"], label=70, out=tmp_path)


def test_points_beside_real_ones_with_the_true_density(drawn):
    numbers = json.loads(drawn["points"]["samples"]["json"].read_text())["numbers"]
    assert numbers["mean_log_density"]["real"][0] > numbers["mean_log_density"]["generated"][0]


def test_table_columns(tmp_path):
    (tmp_path / "t.csv").write_text(
        "age,$x^2$,town\n"
        + "".join(f"{20 + i % 40},{i / 7},{'ABC'[i % 3]}ville\n" for i in range(200))
    )
    run = start_run(
        make_plan("vae", "t.csv", steps=5, hidden=(8,), threads=1, intervals=2), tmp_path / "run"
    )
    png, svg, numbers = show(load_run(run, device="cpu"), ["samples"])
    assert png == tmp_path / "run" / "figures" / "samples.png" and png.is_file()
    numbers = json.loads(numbers.read_text())["numbers"]
    assert numbers["town"]["categories"] and set(numbers) == {"age", "$x^2$", "town"}
    assert sum(numbers["age"]["real"]) == pytest.approx(1, abs=1e-4)
    assert "$x^2$" in svg.read_text()  # a name is no formula


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, figure, options, said",
    [
        ("ae", "kl", {}, "no KL term"),
        ("ae", "denoise", {}, "--corruption"),
        ("pca", "curves", {}, "training"),
        ("points", "grid", {}, "for images"),
        ("ae", "scater", {}, "Did you mean 'scatter'"),
        ("ae", "scatter", {"dims": (0, 2)}, "from 0 to 1"),
        ("ae", "scatter", {"dims": (1, 1)}, "different"),
        ("ae", "scatter", {"sampled": True}, "--sampled"),
        ("ae", "recon", {"split": "tset"}, "Did you mean 'test'"),
        ("ae", "planes", {}, "--beside"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(models, tmp_path, name, figure, options, said):
    with pytest.raises(UsageError) as caught:
        show(models[name], [figure], out=tmp_path / "none", **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_nothing_is_drawn_when_one_name_is_wrong(models, tmp_path):
    with pytest.raises(UsageError):
        show(models["ae"], ["recon", "kl"], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


# -- side by side --------------------------------------------------------------------------------------------


def test_planes_of_two_models(models, tmp_path):
    png = page_figures(
        [models["ae"], models["vae"]],
        tmp_path,
        ["AE <b>", "VAE $x$"],
        command="fromnoise tour",
        seed=1,
    )["planes"]
    about = json.loads(png.with_suffix(".json").read_text())
    assert [row["title"] for row in about["numbers"]["models"]] == ["AE <b>", "VAE $x$"]
    assert "$ fromnoise tour" in about["caption"] and "seed 1" in about["caption"]
    svg = png.with_suffix(".svg").read_text()
    assert "AE &lt;b&gt;" in svg or "AE <b>" in svg
    assert Image.open(png).size[0] >= 1600


def test_pca_row_is_the_pca_family(models, tmp_path):
    """Our PCA row and the classical family are fitted to the same data: one row, equal error."""
    rows = []
    for names in (["ae"], ["ae", "pca"]):
        folder = tmp_path / "-".join(names)
        png = page_figures([models[name] for name in names], folder)["recon"]
        rows.append(json.loads(png.with_suffix(".json").read_text())["numbers"]["rows"])
    alone, both = rows
    assert [row["mse"] for row in alone] == pytest.approx([row["mse"] for row in both], rel=1e-3)
    assert [row["title"] for row in alone if row["title"].startswith("PCA")] == ["PCA, 2-D"]
    assert len(both) == 2


def test_samples_side_by_side(models, tmp_path):
    drawn = page_figures([models["ae"], models["vae"], models["given"]], tmp_path)["samples"]
    assert drawn.stat().st_size > 1000


# -- parts ---------------------------------------------------------------------------------------------------


def test_series_has_a_panel_for_each_term_of_each_phase():
    events = [
        {
            "step": 1,
            "train": {
                "d": 1.0,
                "g": 2.0,
                "gradient_norm/discriminator": 3.0,
                "gradient_norm/generator": 4.0,
            },
            "validation": {"value": 5.0, "d": 6.0},
        },
        {
            "step": 2,
            "train": {
                "d": 1.5,
                "g": 2.5,
                "gradient_norm/discriminator": 3.5,
                "gradient_norm/generator": 4.5,
            },
            "validation": {"value": 5.5, "d": 6.5},
        },
    ]
    panels = series(events)
    assert list(panels) == ["d", "g", "objective", "gradient norm"]
    assert panels["d"] == {"train": ([1, 2], [1.0, 1.5]), "held out": ([1, 2], [6.0, 6.5])}
    assert set(panels["gradient norm"]) == {"discriminator", "generator"}


def test_tile_keeps_pixels():
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)
    picture, width, height = tile(
        images, 2, cell=2, gap=1
    )  # two device pixels for each image pixel
    assert np.array_equal(picture[:4:2, :4:2], images[0]) and np.array_equal(
        picture[-4::2, -4::2], images[3]
    )
    assert (width, height) == (picture.shape[1] / 2, picture.shape[0] / 2)


def test_long_titles_and_names_of_rows_stay_on_the_sheet():
    name = "autoencoder, 8-D, gaussian denoiser"
    row = ImageRow(name, np.zeros((3, 8, 8), np.uint8), "error 0.1234")
    with drawing():
        for label in (LABEL, WIDE_LABEL):
            title = "Latent planes: " + " | ".join([name] * 4)
            figure = sheet_of_rows(title, "", [], [row], label=label).figure
            figure.draw_without_rendering()
            left, right = 0, figure.bbox.width
            for text in figure.texts:
                box = text.get_window_extent()
                assert left <= box.x0 and box.x1 <= right, text.get_text()


def test_numbers_are_strict_json():
    assert finite({"a": np.float32(np.nan), "b": [1 / 3, np.inf], 3: np.arange(2)}) == {
        "a": None,
        "b": [0.333333, None],
        "3": [0, 1],
    }


def test_every_kind_says_what_it_is():
    assert all(kind.about and "\n" not in kind.about for kind in FIGURES.values())


def test_strange_run_names(models, tmp_path):
    """Names are text: no markup, no formula, no control character, no endless line."""
    import shutil
    from dataclasses import replace

    for name in ("<b>x", "$\\frac{1}{2}", "日本 \x1b[31m", "x" * 200):
        shutil.copytree(models["pca"].run.path, tmp_path / name)
        loaded = replace(models["pca"], run=Run(tmp_path / name))
        assert len(show(loaded, ["recon", "scatter"])) == 6

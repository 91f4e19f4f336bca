"""Samples under the yardstick: refusals in words, the zoo of bad models, the compare page."""

import json

import numpy as np
import pytest
import torch

from fromnoise import data
from fromnoise.cli import main
from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.evaluate.known_defects import KNOWN_DEFECTS, halve, measure_defects
from fromnoise.evaluate.protocol import align_columns
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.report import evaluate, report_settings
from fromnoise.evaluate.samples import Samples, draw_samples
from fromnoise.measures.evaluator import shipped_for
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.studies.comparison import compare, known
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def quality_reference(digits):
    return QualityReference(digits, shipped_for(digits))


@pytest.fixture(scope="module")
def matrix(digits):
    return measure_defects(digits, shipped_for(digits))


def some(n=200, seed=0):
    return Rng(seed).uniform("x", (n, 1, 8, 8)) * 2 - 1


def test_every_number_names_its_feature_map_and_reference(digits, quality_reference):
    rows = measure_quality(quality_reference, Samples.of(some(), drawn="by hand"), seed=3)
    assert {row["evaluator"].partition("/")[0] for row in rows if row["name"] == "frechet"} == {
        "digits-ca6b2a70",
        "pca-64",
        "random-conv",
    }
    for row in rows:
        assert (
            row["evaluator"]
            and row["reference"].startswith(digits.digest[:12])
            and row["drawn"] == "by hand"
            and row["seed"] == 3
        )
        assert row["value"] is None or np.isfinite(row["value"])
    assert measure_quality(quality_reference, Samples.of(some(), drawn="by hand"), seed=3) == rows


@pytest.mark.parametrize(
    "x, error, says",
    [
        (some(49), UsageError, "too few to measure anything"),
        (torch.full((100, 1, 8, 8), float("nan")), DataError, "not finite"),
        (torch.zeros(100, 1, 9, 9), DataError, "shape"),
        (255 * some(100).abs(), DataError, r"lie in \[-1, 1\]"),
    ],
)
def test_samples_that_cannot_be_measured_are_refused(quality_reference, x, error, says):
    with pytest.raises(error, match=says):
        measure_quality(quality_reference, Samples.of(x))


def test_fewer_samples_than_features_have_no_frechet_distance(quality_reference):
    rows = measure_quality(quality_reference, Samples.of(some(200)))
    pca = next(
        row for row in rows if row["name"] == "frechet" and row["evaluator"].startswith("pca")
    )
    main_map = next(
        row for row in rows if row["name"] == "frechet" and row["evaluator"].startswith("digits")
    )
    assert pca["value"] is None and "too few" in pca["reason"] and main_map["value"] > 0


def test_constant_samples_are_measured_and_found_out(quality_reference):
    rows = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(torch.zeros(300, 1, 8, 8)))
        if row["group"] in ("samples", "memory")
    }
    assert (
        rows["duplicates"]["value"] == 1
        and rows["recall"]["value"] == 0
        and rows["two_sample"]["value"] > 0.95
    )
    assert rows["frechet"]["value"] > 10


def test_real_examples_are_nearly_perfect(digits, quality_reference):
    halves = halve(digits)
    rows = measure_quality(
        QualityReference(halves, shipped_for(digits)),
        Samples.of(KNOWN_DEFECTS["real"](halves, 700, Rng(0))),
    )
    found = {row["name"]: row for row in rows if row["group"] in ("samples", "memory")}
    assert found["frechet"]["interval"][0] < 0 < found["frechet"]["interval"][1]
    assert found["two_sample"]["interval"][0] < 0.5 < found["two_sample"]["interval"][1]
    assert (
        found["coverage"]["interval"][0] - 0.02
        < found["coverage"]["null"]
        < found["coverage"]["interval"][1] + 0.02
    )
    assert (
        found["near_copies"]["interval"][0]
        <= found["near_copies"]["null"]
        <= found["near_copies"]["interval"][1]
    )


@pytest.mark.parametrize(
    "defect, metrics",
    [
        ("copies of the training set", ["near-copies"]),
        (
            "the mean",
            [
                "Fréchet distance, digits",
                "Fréchet distance, pca",
                "Fréchet distance, random-conv",
                "kernel",
                "sliced",
                "distinguished",
                "recall",
                "coverage",
                "classes",
                "samples that repeat",
            ],
        ),
        (
            "one example repeated",
            [
                "Fréchet distance, digits",
                "kernel",
                "distinguished",
                "recall",
                "coverage",
                "near-copies",
                "samples that repeat",
            ],
        ),
        ("one class dropped", ["Fréchet distance, digits", "coverage", "classes"]),
        (
            "5 % noise",
            [
                "Fréchet distance, pca",
                "Fréchet distance, random-conv",
                "distinguished",
                "precision",
            ],
        ),  # the evaluator looks through it
        (
            "a fitted Gaussian",
            ["Fréchet distance, digits", "distinguished", "precision", "density"],
        ),
    ],
)
def test_each_defect_is_seen_by_the_metrics_that_should(matrix, defect, metrics):
    for metric in metrics:
        seeing = [name for name in matrix.detected if name.startswith(metric)]
        assert seeing and any(matrix.detected[name][defect] for name in seeing), (
            metric,
            matrix.detected,
        )


def test_no_metric_but_memory_sees_copies(matrix):
    seeing = {name for name, seen in matrix.detected.items() if seen["copies of the training set"]}
    assert seeing and all("copies" in name for name in seeing)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, family, options in (
        ("vae", "vae", dict(hidden=(16,), latent_dim=2)),
        ("pca", "classical", dict(preset="pca", latent_dim=2)),
    ):
        budget = {"steps": 30} if family == "vae" else {}
        start_run(
            make_plan(family, "digits", threads=1, intervals=2, batch_size=32, **budget, **options),
            root / name,
        )
    return root


@pytest.mark.slow
def test_compare_measures_once_and_writes_one_page(runs, capsys):
    page = runs / "page.html"
    command = [
        "compare",
        str(runs / "vae"),
        str(runs / "pca"),
        "-o",
        str(page),
        "--samples",
        "100",
        "--no-zoo",
        "--json",
    ]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    html = page.read_text("utf-8")
    assert (
        len(first["reports"]) == 2
        and page.stat().st_size < 2_000_000
        and "http://" not in html
        and "https://" not in html
    )
    assert "Which metric" not in html and "Differences of the configurations" in html
    before = (runs / "vae" / "report.json").stat().st_mtime_ns
    assert main(command) == 0 and (runs / "vae" / "report.json").stat().st_mtime_ns == before
    assert "measured before" in capsys.readouterr().err
    assert (
        main([*command, "--seed", "1"]) == 0
        and (runs / "vae" / "report.json").stat().st_mtime_ns != before
    )


def test_compare_refuses_what_cannot_be_compared(runs, tmp_path, capsys):
    start_run(make_plan("classical", "moons", threads=1), tmp_path / "moons")
    for arguments, code, says in (
        ([runs / "pca", tmp_path / "moons"], 2, "same data"),
        ([runs / "pca", runs / "pca"], 2, "once"),
        ([runs / "pca", runs / "vae", "-o", tmp_path / "x.pdf"], 2, ".html"),
        ([runs / "none"], 2, "none"),
    ):
        assert main(["compare", *map(str, arguments)]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and says in error, error


def test_a_report_of_other_settings_is_not_taken_for_this_one(runs):
    loaded = load_run(Run(runs / "pca"))
    quality_reference = QualityReference(loaded.dataset, shipped_for(loaded.dataset))
    evaluate(loaded, samples=60, k=8, n=20, quality_reference=quality_reference)
    assert known(loaded, report_settings(60, 8, 20, 0, quality_reference))
    for other in ((61, 8, 20, 0), (60, 9, 20, 0), (60, 8, None, 0), (60, 8, 20, 1)):
        assert known(loaded, report_settings(*other, quality_reference)) is None
    for text in ("garbage", "{}", "[]"):
        (runs / "pca" / "report.json").write_text(text)
        assert known(loaded, report_settings(60, 8, 20, 0, quality_reference)) is None


def test_conditional_and_unconditional_likelihoods_stand_apart(tmp_path):
    reports = []
    for name, conditional in (("plain", False), ("given", True)):
        run = start_run(
            make_plan(
                "vae",
                "digits",
                threads=1,
                intervals=2,
                steps=20,
                hidden=(8,),
                latent_dim=2,
                conditional=conditional,
            ),
            tmp_path / name,
        )
        reports.append(evaluate(load_run(run), samples=150, k=5))
    elbo = [
        column
        for column in align_columns(reports)
        if column.name == "elbo" and column.valued_rows()
    ]
    assert len(elbo) == 2 and {column.card["given"] for column in elbo} == {None, "labels"}
    assert any(
        column.name == "frechet" and len(column.valued_rows()) == 2
        for column in align_columns(reports)
    )  # samples may be compared


def test_black_and_white_samples_of_all_families_share_a_line(tmp_path):
    reports = []
    for family, options in (("vae", {}), ("autoencoder", {})):
        run = start_run(
            make_plan(
                family,
                "digits",
                threads=1,
                intervals=2,
                steps=20,
                hidden=(8,),
                latent_dim=2,
                binarise="static",
                **options,
            ),
            tmp_path / family,
        )
        loaded = load_run(run)
        assert all(
            set(x.unique().tolist()) <= {-1.0, 1.0} for x in draw_samples(loaded, 100, 0).blocks()
        )
        reports.append(evaluate(loaded, samples=150, k=5))
    assert any(
        column.name == "frechet" and len(column.valued_rows()) == 2
        for column in align_columns(reports)
    )


@pytest.mark.parametrize("count, classes", [(90, 0), (300, 1)])
def test_small_and_one_class_data_reach_a_page(tmp_path, count, classes):
    x = Rng(0).integers("x", 256, (count, 6, 7, 3)).numpy().astype(np.uint8)
    arrays = {"x": x, "y": np.zeros(count, np.int64)} if classes else {"x": x}
    np.savez(tmp_path / "d.npz", **arrays)
    for name, model in (("a", "pca"), ("b", "ppca")):
        start_run(
            make_plan("classical", str(tmp_path / "d.npz"), threads=1, preset=model, latent_dim=2),
            tmp_path / name,
        )
    assert (
        main(
            [
                "compare",
                str(tmp_path / "a"),
                str(tmp_path / "b"),
                "-o",
                str(tmp_path / "p.html"),
                "--samples",
                "100",
            ]
        )
        == 0
    )
    assert ("one quarter dropped" in (tmp_path / "p.html").read_text()) == (count >= 200)


def test_a_zoo_of_too_few_is_left_out(tmp_path, capsys):
    """Halves of some 80 training examples, and without one of two classes 40: what was measured is not lost."""
    x, y = Rng(0).integers("x", 256, (202, 6, 7, 3)).numpy().astype(np.uint8), np.arange(202) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y)
    start_run(
        make_plan("classical", str(tmp_path / "d.npz"), threads=1, preset="pca", latent_dim=2),
        tmp_path / "a",
    )
    assert (
        main(["compare", str(tmp_path / "a"), "-o", str(tmp_path / "p.html"), "--samples", "100"])
        == 0
    )
    assert "no zoo of bad models" in "".join(capsys.readouterr()) and (tmp_path / "p.html").exists()


def test_page_of_compare_has_the_zoo(runs, digits):
    opened = [load_run(Run(runs / name)) for name in ("vae", "pca")]
    page, _ = compare(opened, runs / "zoo.html", samples=100)
    html = page.read_text("utf-8")
    assert (
        "Which metric detects which defect" in html
        and "copies of the training set" in html
        and html.count(">detected<") > 20
    )


def test_conditional_samples_are_asked_what_they_are(digits, quality_reference):
    part = digits.batch("validation", slice(0, 150))
    rows = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(part.x, part.y))
        if row["group"] == "labels"
    }
    assert (
        rows["label_agreement"]["value"] > 0.95
        and rows["classification_accuracy_score"]["value"] > 0.9
    )
    wrong = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(part.x, (part.y + 1) % 10))
        if row["group"] == "labels"
    }
    assert (
        wrong["label_agreement"]["value"] < 0.1
        and wrong["classification_accuracy_score"]["value"] < 0.1
    )


def test_samples_too_large_to_measure_leave_a_reason_and_no_traceback():
    x = Rng(0).normal("x", (100, 2)) * 1e37
    rows = {
        found["name"]: found
        for found in measure_quality(
            QualityReference(data.load("ring8"), quick=True), Samples.of(x)
        )
    }
    assert rows["precision"]["value"] == 0
    assert (
        rows["kernel_distance"]["value"] is None
        and "no finite number" in rows["kernel_distance"]["reason"]
    )


def test_copies_of_a_small_data_set_have_a_number_and_it_says_how(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "few.npy", rng.integers(0, 256, (100, 8, 8), dtype=np.uint8))
    dataset = data.load(str(tmp_path / "few.npy"))
    copies = dataset.batch("train", [i % 80 for i in range(160)]).x
    rows = {
        found["name"]: found
        for found in measure_quality(QualityReference(dataset), Samples.of(copies))
    }
    found = rows["near_copies"]
    assert found["value"] == 1 and found["null"] == pytest.approx(1 / 81)
    assert "leave-one-out" in found["reason"] and "leave-one-out" in found["reference"]

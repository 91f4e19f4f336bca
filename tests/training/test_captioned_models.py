"""Models that are told captions, from the command line to the report: a family that draws what it is told, now and then wrongly."""

import json

import numpy as np
import pytest

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import UsageError
from fromnoise.data import load
from fromnoise.data.sources import shapes
from fromnoise.evaluate.context import MetricContext
from fromnoise.evaluate.metric import all_metrics
from fromnoise.evaluate.metrics import captions as attributes
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.families import Trust
from fromnoise.inference.sample import sample
from fromnoise.runs.directory import Run
from fromnoise.runs.load import dataset_from_record, load_run
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

TRUST = Trust(recorded=True)
PAINTER = '''
"""Looks the picture up that belongs to a caption; of a caption with an even number of words it keeps the ground only."""

import torch

from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family
from fromnoise.data import load


class Config(BaseConfig):
    conditional: bool = False
    strict: bool = True


class Options(BaseConfig):
    pass


PRESETS = {"default": {}}


class Painter(Family):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.data, self.place = load("shapes"), {}
        for split in ("test", "unseen"):
            for row, y in enumerate(self.data.split(split).y.tolist()):
                self.place.setdefault(tuple(y), (split, row))

    def phases(self):
        return ()

    def sample(self, n, y, options, rng):
        if y is None:
            return torch.zeros(n, *self.spec.shape)
        x = torch.cat([self.data.batch(split, [row]).x for split, row in (self.place[tuple(one)] for one in y.tolist())])
        if self.config.strict:
            x[(y > 0).sum(1) % 2 == 0] = 240 / 127.5 - 1
        return x


FAMILY = Painter
'''


@pytest.fixture(scope="module", autouse=True)
def few():
    """A small edition of the data: what is measured on all training pictures takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            shapes, "COUNTS", {"train": 1000, "validation": 200, "test": 500, "unseen": 500}
        )
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painter")
    (folder / "painter.py").write_text(PAINTER)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return start_run(
        make_plan(str(folder / "painter.py"), "shapes", conditional=True), folder / "run"
    )


def test_the_run_knows_its_words(run):
    recorded = run.info["data"]
    assert recorded["spec"]["caption"] == [10, 20] and recorded["words"]["words"][:3] == [
        "a",
        "small",
        "large",
    ]
    without = dataset_from_record(Run(run.path))
    data = load("shapes")
    assert (
        without.caption_codec == data.caption_codec
        and without.spec == data.spec
        and not without.splits
    )


def test_samples_follow_the_examples_in_turn_with_and_without_the_data(run):
    with_data, without = (
        sample(load_run(run, with_data=there, trust=TRUST), 70, seed=1) for there in (True, False)
    )
    data = load("shapes")
    assert (with_data == without).all()
    even = np.array(
        [
            len(caption.split()) % 2 == 0
            for caption in data.caption_codec.decode(data.default_conditions(range(70)))
        ]
    )
    assert np.array_equal(with_data.flatten(1).std(1).numpy() == 0, even)


def test_a_prompt_is_drawn(run, tmp_path):
    loaded, wanted = load_run(run, with_data=False, trust=TRUST), load("shapes")
    caption = next(c for c in wanted.captions("test") if len(c.split()) % 2)
    row = wanted.captions("test").index(caption)
    x = sample(loaded, 3, prompt=caption)
    assert all(
        np.array_equal(picture, wanted.split("test").x[row]) for picture in wanted.to_store(x)
    )
    target = tmp_path / "made.npy"
    assert (
        main(
            [
                "sample",
                str(run.path),
                "--trust-code",
                "-n",
                "2",
                "--prompt",
                caption.upper(),
                "-o",
                str(target),
            ]
        )
        == 0
    )
    assert np.array_equal(np.load(target)[1].transpose(2, 0, 1), wanted.split("test").x[row])
    api = fn.open(run.path, trust_code=True).sample(2, prompt=caption)
    assert np.array_equal(api, np.load(target))


@pytest.mark.parametrize(
    "args, told",
    [
        (["--prompt", "a rad circle"], "does not know the word 'rad'. Did you mean 'red'?"),
        (["--label", "3"], "captions and no classes: give --prompt instead of --label"),
        (["--label", "square"], "captions and no classes: give --prompt instead of --label"),
        (["--length", "3"], "--length is for models of text"),
        (["--prompt", "a " * 11], "at most 10 words"),
    ],
)
def test_what_is_asked_wrongly_gets_one_line(run, capsys, args, told):
    assert main(["sample", str(run.path), "--trust-code", "-n", "2", *args]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def caption_rows(run):
    loaded = load_run(run, trust=TRUST)
    context = MetricContext(QualityReference(loaded.dataset), run=loaded, quick=True)
    return attributes.caption_rows(context)


def test_models_without_captions_take_no_prompt(folder, capsys):
    plain = start_run(make_plan(str(folder / "painter.py"), "shapes"), folder / "plain")
    assert (
        main(["sample", str(plain.path), "--trust-code", "-n", "2", "--prompt", "a red circle"])
        == 2
    )
    assert "was not trained with captions" in capsys.readouterr().err
    with pytest.raises(UsageError, match="leave --label out"):
        sample(load_run(plain, trust=TRUST), 2, label=1)
    assert caption_rows(plain) == []


def test_rates_are_those_of_the_pictures(run):
    found = {row["name"]: row for row in caption_rows(run)}
    data, n = load("shapes"), attributes.QUICK_IMAGES
    for split, words in attributes.SPLITS.items():
        captions = data.captions(split)[:n]
        odd = np.mean([len(caption.split()) % 2 for caption in captions])
        row = found[f"caption_correct_{words}"]
        assert (
            row["value"] == pytest.approx(odd)
            and row["n"] == n
            and row["split"] == split
            and row["real"] == 1.0
        )
        assert row["interval"][0] < odd < row["interval"][1]
        assert found[f"caption_relation_{words}"]["n"] == sum(
            len(caption.split()) > 4 for caption in captions
        )
        assert found[f"caption_sizes_{words}"]["n"] == sum(
            "small" in caption or "large" in caption for caption in captions
        )
        assert found[f"caption_colours_{words}"]["value"] == pytest.approx(odd)
    assert found["caption_correct_seen"]["value"] != found["caption_correct_unseen"]["value"]


def test_report_and_figures(run, tmp_path, monkeypatch):
    of_captions = [metric for metric in all_metrics() if metric.group == "captions"]
    # what is measured on all data of images takes its time
    monkeypatch.setattr("fromnoise.evaluate.report.all_metrics", lambda: of_captions)
    assert (
        main(
            [
                "eval",
                str(run.path),
                "--trust-code",
                "--quick",
                "--no-figures",
                "--samples",
                "100",
                "--quiet",
            ]
        )
        == 0
    )
    report = json.loads((run.path / "report-quick.json").read_text())
    values = {row["name"]: row for row in report["metrics"]}
    assert (
        0 < values["caption_correct_unseen"]["value"] < 1
        and values["caption_correct_unseen"]["group"] == "captions"
    )
    files = fn.open(run.path, trust_code=True).show("captions", "samples", out=tmp_path)
    numbers = json.loads((tmp_path / "captions.json").read_text())["numbers"]
    assert {path.suffix for path in files} == {".png", ".svg", ".json"}
    assert numbers["seen"]["correct"] == sum(
        len(caption.split()) % 2 for caption in numbers["seen"]["captions"]
    )
    assert numbers["unseen"]["n"] == 16


def test_figure_is_refused_where_there_are_no_captions(folder):
    run = start_run(make_plan("classical", "digits"), folder / "digits")
    with pytest.raises(UsageError, match="captioned shapes"):
        fn.open(run.path, trust_code=True).show("captions")

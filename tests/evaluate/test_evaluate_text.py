"""Text measured: models whose every number is known, baselines by hand, planted copies; images that are predicted."""

import bz2
import json
import math
import re

import numpy as np
import pytest
import torch
from helpers.entropy_rate import entropy_rate
from scipy.signal import lfilter
from torch import nn

from fromnoise.checks.predictions import check_predictions
from fromnoise.cli import main
from fromnoise.core.config import build
from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import DataConfig
from fromnoise.data import load as load_data
from fromnoise.data.codecs.tokenizer import Bytes, Characters
from fromnoise.data.dataset import Dataset, TextSplit
from fromnoise.evaluate import report as report_module
from fromnoise.evaluate import text_reference
from fromnoise.evaluate.context import MetricContext
from fromnoise.evaluate.metric import all_metrics, measure_all
from fromnoise.evaluate.metrics import text
from fromnoise.evaluate.metrics.text import baseline_rows, block_error, prediction_rows
from fromnoise.evaluate.metrics.text_copying import COPIED, copies, true_runs
from fromnoise.evaluate.protocol import align_columns
from fromnoise.evaluate.report import build_reference, default_samples, evaluate, report_settings
from fromnoise.evaluate.summary import summary
from fromnoise.evaluate.table import plain_table
from fromnoise.evaluate.text_reference import TextReference, load_passage
from fromnoise.families import load
from fromnoise.inference import text as generate
from fromnoise.measures.text import Hashes, copied
from fromnoise.runs.directory import Run
from fromnoise.runs.load import LoadedRun, load_run
from fromnoise.show.page import gallery
from fromnoise.show.page.page import write_page
from fromnoise.show.page.verdict import verdict
from fromnoise.studies.comparison import compare, known
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

BASELINES = [metric.name for metric in text.BASELINES]
CHAIN = np.array([[0.9, 0.1], [0.4, 0.6]])  # 0.569387 bits
LETTERS = "aé"


class Chain(nn.Module):
    """The true model of a chain of two letters; the unknown character has a probability that nobody misses."""

    vocabulary, length, context, bound, reason, continuous = 3, 16, 1, "exact", "", False

    def lacks(self, capability) -> bool:
        return False

    def __init__(self, recites: np.ndarray | None = None):
        super().__init__()
        rare = 1e-9
        self.register_buffer(
            "log_p",
            torch.tensor([[*row * (1 - rare), rare] for row in CHAIN] + [[1 / 3] * 3] * 2)
            .double()
            .log(),
        )
        self.recites = recites  # writes these symbols and nothing else

    def to_symbols(self, x):
        return x

    def log_probs(self, s, y=None):
        before = torch.cat([torch.full_like(s[:, :1], 3), s[:, :-1]], 1)
        return self.log_p[before]

    def log_likelihood(self, x, y, rng, k=1):
        return self.log_probs(x).gather(2, x[:, :, None]).sum((1, 2))

    from_symbols = to_symbols

    def begin(self, n, y=None):
        return {"n": n, "read": 0}

    def step(self, state, symbol=None):
        state["read"] += 1
        if self.recites is not None:
            sure = torch.full((state["n"], 3), -100.0)
            sure[:, self.recites[state["read"] - 1]] = 0
            return sure.log_softmax(1)
        return self.log_p[torch.full((state["n"],), 3) if symbol is None else symbol]


def chain(n: int, seed: int) -> np.ndarray:
    u, s, state = np.random.default_rng(seed).random(n), np.empty(n, np.uint8), 0
    for i in range(n):
        state = s[i] = int(u[i] < CHAIN[state, 1])
    return s


def chain_data(n_train=20_000, n_test=20_000) -> Dataset:
    splits = {}
    for seed, (name, n) in enumerate((("train", n_train), ("validation", 5_000), ("test", n_test))):
        x = chain(n, seed)
        splits[name] = TextSplit(
            x, window=16, characters=n, raw_bytes=int(n + x.sum())
        )  # é takes two bytes
    return Dataset(
        "chain", DataSpec("tokens", (16,), levels=3), splits, "chain", tokenizer=Characters(LETTERS)
    )


def named(rows: list[dict]) -> dict[str, dict]:
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def data():
    return chain_data()


def measure_text(loaded, reference, test_limit, texts, seed):
    """The rows of a model of text, and its texts with their copied runs."""
    context = MetricContext(reference, seed, run=loaded, texts=texts, test_limit=test_limit)
    return measure_all(context, all_metrics()), context.once(copies)[1]


@pytest.fixture(scope="module")
def measured(data):
    return measure_text(
        LoadedRun(None, load("autoregressive"), Chain(), data, 0), TextReference(data), None, 4, 0
    )


# -- numbers that are known --------------------------------------------------------------------------------------


def test_the_true_model_of_a_chain_has_its_entropy_rate(data, measured):
    rows, rate = named(measured[0]), entropy_rate(CHAIN)
    nats, bits, of_bytes = (
        rows["nats_per_symbol"],
        rows["bits_per_character"],
        rows["bits_per_byte"],
    )
    assert abs(bits["value"] - rate) < 4 * bits["se"] and 0 < bits["se"] < 0.02
    assert (
        nats["value"] == pytest.approx(bits["value"] * math.log(2))
        and nats["n"] == bits["n"] == 20_000
    )
    test = data.split("test")
    assert of_bytes["n"] == test.raw_bytes and of_bytes["value"] == pytest.approx(
        bits["value"] * 20_000 / test.raw_bytes
    )
    assert rows["perplexity"]["value"] == pytest.approx(math.exp(nats["value"]))
    assert rows["perplexity"]["interval"] == pytest.approx(
        [math.exp(end) for end in nats["interval"]]
    )
    for name in ("nats_per_symbol", "bits_per_character", "bits_per_byte", "perplexity"):
        assert (
            rows[name]["bound"] == "exact"
            and rows[name]["better"] == "lower"
            and rows[name]["split"] == "test"
        )
        assert "each once, each symbol given the 1 before it" in rows[name]["reason"]


def test_the_same_numbers_as_scoring_the_text_itself(data, measured):
    loaded = LoadedRun(None, load("autoregressive"), Chain(), data, 0)
    found, rows = generate.score_text(loaded, data.text("test")), named(measured[0])
    assert rows["nats_per_symbol"]["value"] == pytest.approx(found.nats / found.symbols)
    assert rows["bits_per_character"]["value"] == pytest.approx(found.bits_per_character)
    assert rows["bits_per_byte"]["value"] == pytest.approx(found.bits_per_byte)


def test_windows_know_nothing_of_what_came_before(data, measured):
    row = named(measured[0])["nats_per_symbol_windows_16"]
    x = torch.from_numpy(data.split("validation").x[: 5000 // 16 * 16].astype(np.int64)).view(
        -1, 16
    )
    by_hand = (
        -Chain().log_probs(x).gather(2, x[:, :, None])[:, 1:].mean()
    )  # a window's first symbol has nothing before it
    assert (
        row["value"] == pytest.approx(by_hand.item())
        and row["n"] == len(x) * 15
        and row["split"] == "validation"
        and "nanoGPT" in row["reason"]
    )
    whole = named(measured[0])["nats_per_symbol_validation"]
    assert (
        whole["value"] == pytest.approx(row["value"], rel=0.02)
        and whole["n"] == 5000
        and whole["split"] == "validation"
    )


def test_baselines_by_hand(data, measured):
    rows, test, train = named(measured[0]), data.split("test"), data.split("train").x
    counts = np.bincount(train, minlength=3) + 1
    of_each = -np.log2(counts / counts.sum())[test.x]
    assert rows["uniform"]["value"] == pytest.approx(20_000 * math.log2(3) / test.raw_bytes)
    assert rows["unigram"]["value"] == pytest.approx(of_each.sum() / test.raw_bytes)
    before, after = data.bytes("train"), data.bytes("test")
    extra = len(bz2.compress(before + after)) - len(bz2.compress(before))
    assert (
        rows["bzip2"]["value"] == pytest.approx(8 * extra / len(after))
        and rows["bzip2"]["n"] == len(after) == test.raw_bytes
    )
    assert (
        rows["bits_per_byte"]["value"]
        < rows["kneser_ney"]["value"]
        < rows["unigram"]["value"]
        < rows["uniform"]["value"]
    )
    gain = rows["gain_over_counts"]
    assert gain["value"] == pytest.approx(
        rows["kneser_ney"]["value"] - rows["bits_per_byte"]["value"]
    )
    assert (
        gain["se"] < rows["bits_per_byte"]["se"] / 2 and gain["interval"][0] > 0
    )  # a difference symbol by symbol is surer
    assert {rows[name]["reference"] for name in BASELINES} == {rows["bits_per_byte"]["reference"]}
    nats = float(rows["kneser_ney"]["reason"].split()[0])
    assert nats * 20_000 / test.raw_bytes / math.log(2) == pytest.approx(
        rows["kneser_ney"]["value"], abs=1e-4
    )


def test_block_errors_cover_where_neighbours_depend_on_each_other():
    """A sum of AR(1) noise with memory 20: the error of independent symbols would cover its mean a quarter of the time."""
    rng, L, phi, hit, naive = np.random.default_rng(0), 10_000, 0.95, 0, 0
    for _ in range(300):
        x = lfilter([1], [1, -phi], rng.normal(size=L))
        hit += abs(x.mean()) < 1.96 * block_error(x, np.ones(L))
        naive += abs(x.mean()) < 1.96 * x.std() / math.sqrt(L)
    assert 0.9 < hit / 300 < 0.98 and naive / 300 < 0.4


def test_the_error_of_a_ratio_is_that_of_its_residuals():
    rng = np.random.default_rng(1)
    per = rng.integers(1, 6, 5000)
    assert block_error(3.0 * per, per) == pytest.approx(
        0, abs=1e-12
    )  # every character costs the same: nothing is unsure
    found = [block_error(3.0 * per + noise, per) for noise in rng.normal(size=(40, 5000))]
    assert np.mean(found) == pytest.approx(math.sqrt(5000) / per.sum(), rel=0.1)
    assert block_error(np.ones(99), np.ones(99)) is None


def test_a_model_without_a_finite_likelihood_is_told_so(data):
    model = Chain()
    model.log_p[0, 1] = -math.inf
    rows = named(
        measure_text(
            LoadedRun(None, load("autoregressive"), model, data, 0), TextReference(data), None, 2, 0
        )[0]
    )
    assert all(
        rows[name]["value"] is None and "not a finite number" in rows[name]["reason"]
        for name in (metric.name for metric in text.PREDICTION)
    )
    assert rows["kneser_ney"]["value"] > 0


# -- copies ------------------------------------------------------------------------------------------------------


def test_a_model_that_recites_is_found_out(data):
    words = (
        Rng(0).integers("w", 2, (20_000,)).numpy().astype(np.uint8)
    )  # long runs of coin flips come once
    splits = {
        name: TextSplit(x, window=16, characters=len(x), raw_bytes=int(len(x) + x.sum()))
        for name, x in (
            ("train", words[:16_000]),
            ("validation", words[16_000:17_000]),
            ("test", words[17_000:]),
        )
    }
    fair = Dataset(
        "coins", DataSpec("tokens", (16,), levels=3), splits, "coins", tokenizer=Characters(LETTERS)
    )
    rows, shown = measure_text(
        LoadedRun(None, load("autoregressive"), Chain(words[3000:3600]), fair, 0),
        TextReference(fair),
        None,
        3,
        0,
    )
    found = named(rows)
    assert (
        found["copied_share"]["value"] == 1
        and found["copied_share"]["real"] < 0.1
        and found["copied_share"]["n"] == 3
    )
    assert (
        found["longest_copied"]["value"] == 500
        and found["longest_copied"]["real"] < 30
        and "500 characters" in found["longest_copied"]["reason"]
    )
    assert [one["copied"] for one in shown["sampled"]] == [[[0, 500]]] * 3 and len(
        shown["real"]
    ) == 3
    said = verdict([{"run": "r", "title": "parrot", "metrics": rows}], ["parrot"])
    assert any("Copies the training text" in line and "parrot, 100.0 %" in line for line in said)


def test_an_honest_model_is_not_accused(measured):
    said = " ".join(
        verdict([{"run": "r", "title": "chain", "metrics": measured[0]}], ["the chain"])
    )
    assert "Copies no more of the training text than real text does: the chain" in said
    assert re.search(r"better than counts of order 6: the chain by 0\.0\d+ bits per byte", said)


def test_marks_are_where_the_planted_copies_are():
    corpus = "".join(chr(97 + i) for i in Rng(1).integers("c", 26, (5000,)).tolist())
    new = "".join(chr(65 + i) for i in Rng(2).integers("n", 26, (200,)).tolist())
    planted = new[:50] + corpus[100:130] + new[50:90] + corpus[400:429] + new[90:] + corpus[-40:]
    marks = [copied(text, Hashes(corpus), COPIED) for text in (planted, "", "short", corpus)]
    assert true_runs(marks[0]) == [
        [50, 80],
        [len(planted) - 40, len(planted)],
    ]  # 29 characters are too few
    assert len(marks[1]) == 0 and not marks[2].any() and marks[3].all()
    assert (
        true_runs(np.array([True, False, True, True])) == [[0, 1], [2, 4]]
        and true_runs(np.zeros(3, bool)) == []
    )


def test_a_text_on_a_page_is_escaped_and_its_copies_are_marked(tmp_path):
    text = {"text": "<b>&\tx" + "y" * 1000, "copied": [[0, 3], [590, 700], [800, 900]]}
    report = {"run": "r", "metrics": [], "texts": {"sampled": [text]}}
    html = write_page(tmp_path / "p.html", "t", "", [], [report], {}, []).read_text("utf-8")
    shown = html[html.index("<pre>") + 5 : html.index("</pre>")]
    assert (
        shown.startswith("<mark>&lt;b&gt;</mark>&amp;    xyyy")
        and shown.endswith("y</mark>…")
        and shown.count("<mark>") == 2
        and "<b>" not in shown
    )


# -- what does not apply, and what is too much -------------------------------------------------------------------


def test_a_compressor_needs_no_less_than_nothing(data, monkeypatch):
    """Repetition may make bzip2's packed form shorter when more is added."""
    sizes = iter([50, 57])
    monkeypatch.setattr(text_reference.bz2, "compress", lambda raw: b"." * next(sizes))
    assert TextReference(data).baselines(load_passage(data, "test"))["bzip2"] == 0


def test_what_is_too_much_to_count_is_left_out_in_words(data, monkeypatch):
    monkeypatch.setattr(text_reference, "COUNTED", 19_999)
    monkeypatch.setattr(generate, "LONGEST", 19_999)
    rows, shown = measure_text(
        LoadedRun(None, load("autoregressive"), Chain(), data, 0), TextReference(data), 10, 2, 0
    )
    found = named(rows)
    for name, word in (
        ("kneser_ney", "up to 19,999"),
        ("gain_over_counts", "up to 19,999"),
        ("copied_share", "has 20,000"),
        ("frechet", "features"),
    ):
        assert (
            found[name]["value"] is None
            and found[name]["reason"].startswith("none:")
            and word in found[name]["reason"]
        )
    assert (
        found["unigram"]["value"]
        and found["bzip2"]["value"]
        and shown["sampled"][0]["copied"] == []
    )
    assert (
        found["nats_per_symbol"]["n"] == 160
        and "the first 160 of 20,000 symbols" in found["nats_per_symbol"]["reason"]
    )


def test_a_part_is_named_by_its_text_and_not_by_its_tokens(data):
    raw = np.frombuffer(data.bytes("test"), np.uint8)
    other = Dataset(
        "bytes",
        DataSpec("tokens", (8,), levels=256),
        {"test": TextSplit(raw, window=8, characters=20_000, raw_bytes=len(raw))},
        "",
        tokenizer=Bytes(),
    )
    one, two = load_passage(data, "test"), load_passage(other, "test")
    assert one.reference == two.reference and one.size == two.size and len(one) != len(two)
    assert (
        load_passage(data, "test", 100).reference != one.reference
        and load_passage(data, "validation").reference != one.reference
    )
    assert two.characters_of.sum() == 20_000 and one.bytes_of.sum() == len(raw)
    assert load_passage(other, "test", 101).characters in (
        100 - raw[:101].tolist().count(0xC3) + 1,
        101 - raw[:101].tolist().count(0xC3),
    )


# -- runs --------------------------------------------------------------------------------------------------------

TINY = dict(threads=1, intervals=2, batch_size=16)


def book(path):
    """Some 60,000 characters: sentences of a few words, so that there is something to learn."""
    words = "the a cat dog naïve sat ran saw tree house on under quickly . , and then".split()
    chosen = Rng(5).integers("words", len(words), (14_000,)).tolist()
    path.write_text("".join(words[i] + ("\n" if words[i] == "." else " ") for i in chosen))
    return str(path)


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch):
    monkeypatch.setattr("fromnoise.evaluate.cost.speeds", lambda *of: {1: 1.0, 256: 1.0})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    name = book(root / "book.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(root / "cache"))
        for run, options in (
            ("counts", dict(preset="ngram")),
            ("gru", dict(preset="gru", width=16, steps=20)),
            ("bytes", dict(preset="ngram", order=2, tokens="bpe", vocabulary=270)),
        ):
            start_run(make_plan("autoregressive", name, context=32, **TINY | options), root / run)
        yield {run: load_run(Run(root / run)) for run in ("counts", "gru", "bytes")} | {
            "root": root
        }


def test_a_run_that_counts_is_the_counts_beside_it(runs):
    report = evaluate(runs["counts"], samples=3)
    rows = named(report["metrics"])
    assert rows["bits_per_byte"]["value"] == pytest.approx(rows["kneser_ney"]["value"], abs=2e-4)
    assert abs(rows["gain_over_counts"]["value"]) < 1e-6 and not [
        line for line in verdict([report], ["counts"]) if "counts of order" in line
    ]
    assert rows["bits_per_character"]["value"] > rows["bits_per_byte"]["value"]  # ï has two bytes
    assert (
        json.loads((runs["root"] / "counts" / "report.json").read_text()).items() >= report.items()
    )
    assert (
        report["data"]["tokens"]["kind"] == "char"
        and report["title"] == "autoregressive ngram, context 6"
        and len(report["texts"]["sampled"]) == 3
    )
    for row in rows.values():
        assert (
            row["reference"]
            and row["seed"] == 0
            and (row["value"] is None or row["n"] or row["name"] in BASELINES)
        )
    assert "bits per character ↓" in plain_table([report]) and "bits/character" in summary([report])
    assert max(map(len, summary([report]).splitlines())) <= 130


def test_a_quick_look_is_smaller_and_kept_apart(runs):
    report = evaluate(runs["gru"], quick=True)
    assert (
        report["settings"]["samples"]
        == report_module.QUICK_TEXTS
        == len(report["texts"]["sampled"])
        and not (runs["root"] / "gru" / "report.json").exists()
    )
    quality_reference = build_reference(runs["gru"].dataset)
    assert (
        default_samples(runs["gru"].dataset) == report_module.TEXTS
        and known(
            runs["gru"], report_settings(report_module.TEXTS, 100, None, 0, quality_reference)
        )
        is None
    )
    with pytest.raises(UsageError, match="--evaluator"):
        build_reference(runs["gru"].dataset, evaluator=runs["root"] / "x.safetensors")


def test_models_of_one_text_stand_on_one_page_whatever_their_symbols(runs, capsys, monkeypatch):
    monkeypatch.setattr(
        "fromnoise.show.page.gallery.page_figures", lambda *of, **more: {}
    )  # test_show_text draws them
    page = runs["root"] / "page.html"
    command = [
        "compare",
        *(str(runs["root"] / run) for run in ("counts", "gru", "bytes")),
        "-o",
        str(page),
        "--samples",
        "3",
        "--json",
    ]
    assert main(command) == 0
    reports, html = json.loads(capsys.readouterr().out)["reports"], page.read_text("utf-8")

    def lines(name):
        return [
            set(column.valued_rows()) for column in align_columns(reports) if column.name == name
        ]

    assert lines("bits_per_byte") == lines("bits_per_character") == [{0, 1, 2}] and lines(
        "nats_per_symbol"
    ) == [{0, 1}, {2}]  # other symbols
    values = [named(report["metrics"])["bits_per_character"]["value"] for report in reports]
    best = reports[int(np.argmin(values))]["title"]
    assert values[0] < values[1] and re.search(
        rf"Best likelihood of text \(bits per character, exact\): (a tie of )?{best} with", html
    )
    assert (
        "Copies no more of the training text" in html
        and "<h2>Texts</h2>" in html
        and html.count('<figure class="text">') == 1 + 2 * 3
    )
    assert (
        "Predicts it worse than counts of order 6" in html
        and "which metric" not in html.lower()
        and page.stat().st_size < 2_000_000
    )
    assert "characters of training text" in html and "real text, held out" in html
    assert "3,011 characters test split" in html and re.search(r"[\d,]+ bytes test split", html)
    other = runs["root"] / "other"
    (runs["root"] / "other.txt").write_text((runs["root"] / "book.txt").read_text()[::-1])
    start_run(
        make_plan(
            "autoregressive",
            str(runs["root"] / "other.txt"),
            preset="ngram",
            order=1,
            context=32,
            **TINY,
        ),
        other,
    )
    assert (
        main(["compare", str(other), str(runs["root"] / "counts"), "-o", str(page)]) == 2
        and "same data" in capsys.readouterr().err
    )


def test_a_page_of_text_shows_what_surprises_and_what_the_window_is_worth(
    runs, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        gallery, "show", lambda run, names, out, **more: [out / f"{name}.png" for name in names]
    )
    assert {"counts/surprise", "gru/surprise", "gru/window", "gru/curves"} == set(
        gallery.page_figures([runs["counts"], runs["gru"]], tmp_path)
    )


def test_held_out_text_ranks_checkpoints_by_symbol(runs):
    for run in ("counts", "gru"):
        event = runs[run].run.events("interval")[-1]["validation"]
        assert event["value"] == event["nats_per_symbol"] < math.log(40)


# -- images that are predicted -----------------------------------------------------------------------------------

NARROW = dict(TINY, width=16, depth=1, heads=2, steps=60, batch_size=64)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    run = start_run(
        make_plan(
            "autoregressive", "digits", conditional=True, binarise="dynamic", pack=False, **NARROW
        ),
        tmp_path_factory.mktemp("given") / "run",
    )
    return load_run(run)


def test_an_image_has_an_exact_likelihood_and_a_class_by_bayes(given):
    report, again = (evaluate(given, samples=60) for _ in range(2))
    rows = named(report["metrics"])
    assert report["cost"]["network_calls"] == 64  # one pixel after another
    assert (
        rows["log_likelihood"]["bound"] == "exact"
        and rows["log_likelihood"]["n"] == 180
        and rows["log_likelihood"]["given"] == "labels"
    )
    assert rows["bits_per_dim"]["value"] == pytest.approx(
        -rows["log_likelihood"]["value"] / (64 * math.log(2))
    )
    assert (
        named(again["metrics"])["log_likelihood"] == rows["log_likelihood"]
    )  # one fixed draw of what is black or white
    x, y = (getattr(given.dataset.batch("test", slice(0, 180)), part) for part in "xy")
    shares = torch.bincount(torch.as_tensor(given.dataset.split("train").y), minlength=10).double()
    by_hand = torch.stack(
        [given.model.log_likelihood(x, torch.full_like(y, label), Rng(0)) for label in range(10)], 1
    )
    by_hand = (by_hand + (shares / shares.sum()).log()).argmax(1)
    accuracy = rows["bayes_accuracy"]
    assert (
        accuracy["value"] == pytest.approx((by_hand == y).double().mean().item())
        and accuracy["value"] > 0.15
        and accuracy["n"] == 180
    )
    assert 0 < accuracy["interval"][0] < accuracy["value"] < accuracy["interval"][1] < 1


def test_a_model_without_classes_says_why_it_cannot_classify(tmp_path):
    options = NARROW | dict(steps=2)
    report = evaluate(
        load_run(start_run(make_plan("autoregressive", "digits", **options), tmp_path / "a")),
        samples=60,
    )
    assert "--conditional" in named(report["metrics"])["bayes_accuracy"]["reason"]
    pca = load_run(
        start_run(make_plan("classical", "digits", preset="pca", threads=1), tmp_path / "p")
    )
    page, reports = compare(
        [load_run(Run(tmp_path / "a")), pca], tmp_path / "page.html", samples=60, zoo=False
    )
    assert "bayes_accuracy" not in named(reports[1]["metrics"]) and "Completions" in page.read_text(
        "utf-8"
    )


# -- the conformance of predictions ------------------------------------------------------------------------------


class Peeks(Chain):
    def log_probs(self, s, y=None):
        return super().log_probs(torch.roll(s, -1, 1))


class Unnormalised(Chain):
    def log_probs(self, s, y=None):
        return super().log_probs(s, y) + 0.1


class Forgets(Chain):
    def step(self, state, symbol=None):
        return super().step(state, None)


class LooksFar(Chain):
    context = 0


@pytest.mark.parametrize(
    "model, says",
    [
        (Chain, ""),
        (Peeks, "after it"),
        (Unnormalised, "sum to 1"),
        (Forgets, "all at once"),
        (LooksFar, "more than the 0"),
    ],
)
def test_what_predictions_must_hold(model, says):
    x = torch.from_numpy(chain(48, 0).astype(np.int64)).view(3, 16)
    if not says:
        return check_predictions(model(), x, None)
    with pytest.raises(AssertionError, match=says):
        check_predictions(model(), x, None)


def test_unknown_characters_do_not_make_a_text_cheap(tmp_path):
    """A test text in a script that training never saw: one symbol again and again, whose characters nobody predicted."""
    rng = np.random.default_rng(0)
    latin = "".join(rng.choice(list("abcdefgh "), 4000))
    (tmp_path / "two.txt").write_text(
        latin + "".join(rng.choice([chr(c) for c in range(0x4E00, 0x4F00)], 400)), encoding="utf-8"
    )
    dataset = load_data(
        str(tmp_path / "two.txt"), build(DataConfig, dict(tokens="char", context=16))
    )
    of = load_passage(dataset, "test")
    sure = np.full(
        len(of), 0.01
    )  # a model that expects the unknown symbol, as any model of the words before it would
    found = {row["name"]: row["value"] for row in prediction_rows(of, sure, "")}
    share = (of.tokens == dataset.tokenizer.unknown).mean()
    assert share > 0.5
    assert found["bits_per_character"] == pytest.approx(
        0.01 / math.log(2) + share * math.log2(0x110000 - 9), rel=1e-6
    )
    assert found["nats_per_symbol"] == pytest.approx(0.01)
    rows = {row["name"]: row["value"] for row in baseline_rows(of, sure, TextReference(dataset))}
    assert (
        rows["uniform"] > 5 and rows["bzip2"] > 5
    )  # bits per byte of three-byte characters: none is cheap
    for baseline in ("uniform", "unigram"):
        assert rows[baseline] * of.size > share * len(of) * 20

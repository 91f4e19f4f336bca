"""Figures of auto-regressive models: what they say is compared with what can be computed in another way."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.entropy_rate import entropy_rate
from PIL import Image

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.codecs.byte_pairs import learn_merges
from fromnoise.data.codecs.tokenizer import BytePairs, Bytes, Characters
from fromnoise.families.autoregressive import FAMILY, Config
from fromnoise.inference.text_scoring import score
from fromnoise.runs.load import load_run
from fromnoise.show.catalogue import FIGURES, show
from fromnoise.show.colormap import tint
from fromnoise.show.context import FigureContext
from fromnoise.show.figures.bigrams import divergence, pairs_counted
from fromnoise.show.figures.window import shares_seen, window_lengths
from fromnoise.show.pixel_symbols import (
    blanked,
    pixel_surprise,
    places,
    why_no_pixels,
)
from fromnoise.show.text_cells import (
    characters,
    held_out_tokens,
    lay_out,
    log_p_at,
    passage,
    surprise_of,
    symbol_name,
    visible,
)
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

CHAIN = [[0.9, 0.1], [0.25, 0.75]]
SMALL = dict(threads=1, intervals=3, validation_examples=40)
TINY = SMALL | dict(width=32, depth=1, heads=2, steps=24)
ANNA = "Anna saw that the cat sat on the mat.\nThe dog did not; it ate a date, née Müller.\n\n"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """chain: a two-state Markov chain as text; prose: lines of words, some shuffled; umlauts: with many of two bytes."""
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    state, chain = 0, []
    for u in rng.random(40_000):
        state = int(u >= CHAIN[state][0])
        chain.append("ab"[state])
    words = ANNA.split(" ")
    prose = "".join(ANNA if i % 3 else " ".join(rng.permutation(words)) for i in range(250))
    for name, text in (
        ("chain", "".join(chain)),
        ("prose", prose),
        ("umlauts", prose.replace("a", "ä")),
    ):
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def models(texts, tmp_path_factory):
    root, made = tmp_path_factory.mktemp("runs"), {}
    for name, (data, options) in {
        "chain": (texts / "chain.txt", SMALL | dict(preset="ngram", order=3, context=32)),
        "prose": (texts / "prose.txt", TINY | dict(preset="text", context=32)),
        "gru": (texts / "prose.txt", TINY | dict(preset="gru", context=24)),
        "bytes": (
            texts / "umlauts.txt",
            SMALL | dict(preset="ngram", order=2, context=32, tokens="byte"),
        ),
        "packed": ("digits", TINY | dict(preset="binary", binarise="static")),
        "levels": ("digits", TINY | dict(preset="pixels", conditional=True)),
        "ae": ("digits", SMALL | dict(preset="lecture", steps=4, hidden=(8,))),
    }.items():
        family = "autoencoder" if name == "ae" else "autoregressive"
        options = {key: value for key, value in options.items() if name != "gru" or key != "heads"}
        made[name] = load_run(
            start_run(make_plan(family, str(data), **options), root / name), device="cpu"
        )
    return made


@pytest.fixture(scope="module")
def drawn(models, tmp_path_factory):
    """model -> figure -> its record; the files lie in ``folder``."""
    root = tmp_path_factory.mktemp("figures")
    found = {"folder": root}
    for name, wanted in {
        "chain": ["window", "bigrams"],
        "prose": sorted(OF_TEXT),
        "packed": ["samples", "surprise", "completions", "order", "truncation"],
        "levels": ["progress", "surprise", "completions", "order"],
    }.items():
        show(
            models[name],
            wanted,
            seed=3,
            out=root / name,
            plain=models["gru"] if name == "prose" else None,
        )
        found[name] = {
            path.stem: json.loads(path.read_text()) for path in (root / name).glob("*.json")
        }
    return found


OF_TEXT = {"curves", "progress", "samples", "window", "surprise", "next", "bigrams"}
OF_IMAGES = {
    "curves",
    "progress",
    "samples",
    "nearest",
    "truncation",
    "surprise",
    "completions",
    "order",
}
EXPECTED = {
    "chain": OF_TEXT - {"curves", "progress"},
    "prose": OF_TEXT,
    "packed": OF_IMAGES,
    "levels": OF_IMAGES,
}


# -- which, and how they look --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_a_model_has_the_figures_of_its_capabilities(models, name):
    assert {
        figure for figure, kind in FIGURES.items() if not kind.why_not(FigureContext(models[name]))
    } == EXPECTED[name]


@pytest.mark.parametrize(
    "name, figure, said",
    [
        ("ae", "window", "predict text"),
        ("ae", "surprise", "one symbol after another"),
        ("ae", "completions", "cannot complete"),
        ("ae", "order", "one symbol after another"),
        ("packed", "next", "predict text"),
        ("prose", "order", "holds text"),
        ("prose", "completions", "holds text"),
        ("prose", "nearest", "holds text"),
    ],
)
def test_what_cannot_be_drawn_says_why(models, tmp_path, name, figure, said):
    with pytest.raises(UsageError) as caught:
        show(models[name], [figure], out=tmp_path / "none")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_every_figure_is_there_with_its_command_and_numbers(drawn):
    for name in EXPECTED:
        for figure, record in drawn[name].items():
            assert (
                record["numbers"]
                and record["alt"]
                and f"run {name} " in record["caption"]
                and "seed 3" in record["caption"]
            ), (name, figure)
            with Image.open(drawn["folder"] / name / f"{figure}.png") as image:
                pixels = np.asarray(image.convert("L"))
            assert pixels.shape[1] >= 1600 and 0.003 < (pixels < 200).mean() < 0.95, (name, figure)


def test_ink_is_legible_on_every_colour():
    def luminance(colour):
        return (
            [0.2126, 0.7152, 0.0722]
            * np.where(
                (c := np.asarray(colour) / 255) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4
            )
        ).sum(-1)

    ink, ground = luminance((0x1D, 0x21, 0x29)), luminance(tint(np.linspace(-1, 9, 50), 8))
    assert ((ground + 0.05) / (ink + 0.05) > 4.5).all()  # WCAG AA
    assert (np.diff(ground) <= 1e-9).all()  # more is darker


# -- text as cells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_bits_of_symbols_are_shared_among_characters(kind):
    text = ANNA + "€ 🐈\n"
    tokenizer = {
        "char": Characters("".join(sorted(set(text)))),
        "byte": Bytes(),
        "bpe": BytePairs(learn_merges([text.encode() * 3], 300)),
    }[kind]
    symbols = tokenizer.encode(text)
    bits = np.random.default_rng(1).exponential(2, len(symbols))
    found, each = characters(tokenizer, symbols, bits)
    assert found == text and len(each) == len(text) and each.sum() == pytest.approx(bits.sum())
    if kind == "char":
        assert np.array_equal(each, bits)
    if kind == "byte":
        at, place = text.index("🐈"), text.encode().index("🐈".encode())
        assert each[at] == pytest.approx(bits[place : place + 4].sum()) and each[0] == bits[0]


@pytest.mark.parametrize(
    "raw", [b"\xff\xfea", b"a\xe2\x82", b"\xf0\x9f\x90b", b"\x80\x80", b"", "né".encode()]
)
def test_bytes_that_are_no_text_have_cells_too(raw):
    tokens = np.frombuffer(raw, np.uint8)
    text, bits = characters(Bytes(), tokens, np.ones(len(raw)))
    assert text == Bytes().decode(tokens) and len(bits) == len(text) and bits.sum() == len(raw)


def test_rows_hold_the_text_and_end_with_its_lines():
    text = "ab\n\n" + "x" * 25 + "\nend"
    rows = lay_out(text, 100, 10)
    assert [text[row.start : row.stop] for row in rows] == [
        "ab\n",
        "\n",
        "x" * 10,
        "x" * 10,
        "xxxxx\n",
        "end",
    ]
    assert lay_out(text, 2, 10) == rows[:2] and lay_out("", 3) == []
    assert len(visible("a\x00\t\n\x1bé")) == 6 and visible("a\x00\x1b").isprintable()


def test_names_of_symbols(models):
    assert (
        symbol_name(Bytes(), 32) == "␣"
        and symbol_name(Bytes(), 10) == "↵"
        and symbol_name(Bytes(), 0xC3) == "c3"
        and symbol_name(Bytes(), 65) == "A"
    )


def test_the_passage_begins_a_line_and_fits(models):
    for seed in range(8):
        subject = FigureContext(models["prose"], seed)
        x, part = held_out_tokens(subject), passage(subject, 300)
        assert 31 <= part.start and part.stop <= len(x) and len(part) == 300
        assert subject.dataset.tokenizer.decode(x[part.start - 1 : part.start]) == "\n"
    assert len(passage(FigureContext(models["prose"]), 10**9)) >= len(x) // 2


# -- surprise, what comes next -------------------------------------------------------------------------------


def test_surprise_is_that_of_the_score(models, drawn):
    subject = FigureContext(models["prose"], 3)
    x, part = held_out_tokens(subject), passage(FigureContext(models["prose"], 3), 700)
    shown = drawn["prose"]["surprise"]["numbers"]["held out (test)"]
    text = subject.dataset.tokenizer.decode(x[part.start : part.stop])
    assert text.startswith(shown["text"]) and len(shown["bits"]) == len(shown["text"]) > 300
    exact = score(models["prose"].model, x[part.start - 32 : part.stop])[32:] / math.log(2)
    assert np.allclose(shown["bits"], exact[: len(shown["bits"])], rtol=1e-4, atol=1e-4)
    assert shown["bits_per_character"] == pytest.approx(
        exact[: len(shown["bits"])].mean(), rel=1e-4
    )


def test_surprise_needs_what_stands_before(models):
    """A symbol deep in the passage costs what the network says of it given a window before it."""
    model, x = models["bytes"].model, held_out_tokens(FigureContext(models["bytes"]))
    bits = surprise_of(model, x, range(100, 160))
    log_p = log_p_at(model, x, range(100, 160), 2, "cpu").numpy()  # the n-gram looks back on two
    assert np.allclose(bits, -log_p[np.arange(60), x[100:160]] / math.log(2), atol=1e-4)


def test_next_tells_probabilities_and_the_truth(models, drawn):
    model, subject = models["prose"].model, FigureContext(models["prose"], 3)
    x, part, tokenizer = held_out_tokens(subject), passage(subject, 200), subject.dataset.tokenizer
    told = drawn["prose"]["next"]["numbers"]["places"]
    assert len(told) == 8
    found = 0
    for place in told:
        shares = [share for _, share in place["likeliest"]]
        assert 0 < sum(shares) <= 1 + 1e-6 and shares == sorted(shares, reverse=True)
        at = next(
            p
            for p in part
            if visible(tokenizer.decode(x[p - 31 : p]))[-22:] == place["context"]
            and symbol_name(tokenizer, int(x[p])) == place["true"]
        )
        window = torch.from_numpy(x[None, at - 31 : at + 1].astype(np.int64))
        p = model.log_probs(window)[0, -1].exp()
        assert place["p"] == pytest.approx(float(p[x[at]]), rel=1e-3)
        assert place["rank"] == 1 + int((p > p[x[at]]).sum())
        assert place["entropy"] == pytest.approx(float(-(p * p.log2()).sum()), rel=1e-3)
        found += place["rank"] <= 12
    entropies = sorted(place["entropy"] for place in told)
    assert entropies[0] < entropies[-1] and found


# -- the window ----------------------------------------------------------------------------------------------


def test_window_lengths():
    assert (
        window_lengths(0) == [0]
        and window_lengths(6) == [0, 1, 2, 3, 4, 5, 6]
        and window_lengths(16) == [*range(9), 16]
        and window_lengths(127) == [*range(9), 16, 32, 64, 127]
    )


def test_an_n_gram_is_its_own_counts(drawn):
    """A model of order 3 and the counts of order 8, asked with k symbols, are the same for k = 0 .. 3."""
    lines = drawn["chain"]["window"]["numbers"]["lines"]
    assert set(lines["chain"]) == {"0", "1", "2", "3"} and set(lines["counts"]) == {
        str(k) for k in range(9)
    }
    for k, value in lines["chain"].items():
        assert value == pytest.approx(lines["counts"][k], abs=1e-4), k


def test_a_chain_costs_its_entropy_rate_from_k_1_on(drawn):
    numbers = drawn["chain"]["window"]["numbers"]
    exact, error = entropy_rate(CHAIN), numbers["standard_errors"]["counts"]["8"]
    stationary = np.array([CHAIN[1][0], CHAIN[0][1]]) / (CHAIN[1][0] + CHAIN[0][1])
    counts = {int(k): value for k, value in numbers["lines"]["counts"].items()}
    assert counts[0] == pytest.approx(-(stationary * np.log2(stationary)).sum(), abs=3 * error)
    for k in range(1, 9):
        assert counts[k] == pytest.approx(exact, abs=3 * error)
    assert counts[1] < counts[0] - 0.2 and numbers["places"] == 1000


def test_a_window_hides_what_lies_before_it(models):
    """The gru reads far back; cut to k symbols it must not know the one before."""
    model, x = models["gru"].model, np.array(held_out_tokens(FigureContext(models["gru"])))
    at, k = np.array([60, 90, 200]), 5
    before = log_p_at(model, x, at, k, "cpu")
    x[at - k - 1] = (x[at - k - 1] + 1) % 7
    assert torch.equal(log_p_at(model, x, at, k, "cpu"), before)
    assert not torch.equal(
        log_p_at(model, x, at, k + 1, "cpu"),
        log_p_at(model, np.array(held_out_tokens(FigureContext(models["gru"]))), at, k + 1, "cpu"),
    )


def test_two_models_stand_at_the_same_places(drawn):
    lines = drawn["prose"]["window"]["numbers"]["lines"]
    assert set(lines) == {"counts", "prose", "gru"}
    assert max(map(int, lines["prose"])) == 31 and max(map(int, lines["gru"])) == 23


def test_others_are_refused_in_one_plot(models, tmp_path):
    for other, said in (
        ("chain", "another text"),
        ("bytes", "other symbols"),
        ("packed", "no model of text"),
    ):
        with pytest.raises(UsageError, match=said):
            show(models["prose"], ["window"], plain=models[other], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_bits_per_character_of_bytes(models, tmp_path):
    """ä has two bytes: a byte model pays for both, and the line says bits for each character."""
    show(models["bytes"], ["window"], out=tmp_path)
    numbers = json.loads((tmp_path / "window.json").read_text())["numbers"]
    x = held_out_tokens(FigureContext(models["bytes"]))
    text = bytes(x[8:]).decode(errors="ignore")
    log_p = log_p_at(models["bytes"].model, x, range(8, len(x)), 2, "cpu").numpy()
    exact = -log_p[np.arange(len(x) - 8), x[8:]].sum() / math.log(2) / len(text)
    assert len(text) < 0.93 * len(x) and numbers["lines"]["bytes"]["2"] == pytest.approx(
        exact, rel=0.03
    )


def test_shares_of_windows_that_were_seen():
    training, x = np.array([0, 1, 2, 0, 1, 3]), np.array([9, 0, 1, 2, 3, 0, 1])
    seen = shares_seen(
        training, x, np.array([3, 4, 6]), [0, 1, 2, 3]
    )  # before these: 01, 012; 2, 12; 0, 30
    assert seen == {0: 1.0, 1: 1.0, 2: pytest.approx(2 / 3), 3: pytest.approx(1 / 3)}


# -- pairs ---------------------------------------------------------------------------------------------------


def test_pairs_and_their_divergence():
    tokens = np.array([0, 1, 0, 2, 0, 1, 3, 0], np.uint8)
    counts = pairs_counted(tokens, np.array([0, 1]), 4)
    assert counts.tolist() == [[0, 2, 1, 0], [1, 0, 0, 1]]
    uniform = np.full((2, 4), -math.log(4))
    assert np.allclose(divergence(counts, uniform), [2 - (math.log2(3) - 2 / 3), 1.0])
    with np.errstate(divide="ignore"):
        assert np.allclose(divergence(counts, np.log(counts / counts.sum(1, keepdims=True))), 0)


def test_bigrams_learned_are_near_to_those_counted(models, drawn):
    told = drawn["chain"]["bigrams"]["numbers"]
    assert told["symbols"] == ["a", "b"] and told["mean_kl"] < 1e-4
    assert np.allclose(10 ** np.array(told["counted"]), CHAIN, atol=0.02) and np.allclose(
        10 ** np.array(told["learned"]), CHAIN, atol=0.02
    )
    prose = drawn["prose"]["bigrams"]["numbers"]
    assert (
        prose["mean_kl"] > 0.1
        and len(prose["symbols"]) <= 40
        and all(value >= 0 for value in prose["kl"])
    )
    assert (np.array(prose["learned"]) < 0).all()


# -- what it writes ------------------------------------------------------------------------------------------


def test_the_marked_part_is_copied_and_no_longer_one_is(models, drawn):
    dataset = models["prose"].dataset
    training = dataset.tokenizer.decode(dataset.split("train").x)
    for one in drawn["prose"]["samples"]["numbers"]["texts"]:
        assert len(one["part"]) == one["copied"] > 0 and one["part"] in training
        assert (
            one["text"][one["start"] :].startswith(one["part"])
            and len(lay_out(one["text"], 100)) <= 9
        )  # it is looked for in what is shown
        longer = one["copied"] + 1
        assert not any(
            one["text"][i : i + longer] in training for i in range(len(one["text"]) - longer + 1)
        )


def test_progress_shows_texts_over_the_training(models, drawn):
    told = drawn["prose"]["progress"]["numbers"]
    assert told["steps"][-1] == 24 and len(told["texts"]) == len(told["steps"]) > 2
    model, dataset = models["prose"].model, models["prose"].dataset
    x = model.sample(
        8, None, models["prose"].family.Options(), Rng(0, ("sample",)).per_row(range(8))
    )
    assert told["texts"][-1] == visible(dataset.tokenizer.decode(x[0].numpy()))


# -- images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["packed", "levels"])
def test_surprise_of_pixels_sums_up_to_that_of_the_image(models, name):
    model, batch = models[name].model, models[name].dataset.batch("test", slice(0, 12))
    y = batch.y if name == "levels" else None
    bits = pixel_surprise(model, batch.x, y, models[name].dataset.spec.shape)
    exact = -model.log_likelihood(batch.x, y, Rng(0)).numpy() / math.log(2)
    assert (
        bits.shape == (12, 8, 8)
        and bits.min() > -1e-4
        and np.allclose(bits.sum((1, 2)), exact, rtol=1e-4)
    )


@pytest.mark.parametrize("name", ["packed", "levels"])
def test_surprise_lies_at_its_pixel(models, name):
    """What comes after a pixel has no say in its surprise, and the pixel itself has."""
    model, x = models[name].model, models[name].dataset.batch("test", slice(0, 4)).x
    y = torch.arange(4) if name == "levels" else None
    shape = models[name].dataset.spec.shape
    when, changed = places(model, shape), x.clone()
    changed[:, 0, 4, 6] = -changed[:, 0, 4, 6] + 0.01
    a, b = pixel_surprise(model, x, y, shape), pixel_surprise(model, changed, y, shape)
    here = when[4, 6]  # of packed ones the second block of a row
    assert (
        np.array_equal(a[:, when < here], b[:, when < here])
        and not np.isclose(a[:, 4, 6], b[:, 4, 6]).all()
    )


@pytest.mark.parametrize("name", ["packed", "levels"])
def test_places_say_which_pixels_a_symbol_makes(models, name):
    model, shape = models[name].model, models[name].dataset.spec.shape
    s = torch.zeros(1, model.length, dtype=torch.int64)
    for i in range(model.length):
        other = s.clone()
        other[0, i] = model.vocabulary - 1
        differs = (model.from_symbols(s) != model.from_symbols(other))[0, 0].numpy()
        assert np.array_equal(differs, places(model, shape) == i)


def test_pixels_of_three_colours():
    """A pixel has three symbols: its surprise is that of all three, and the last one completes it."""
    spec = DataSpec("image", (3, 4, 5), levels=4)
    model = FAMILY(Config(width=32, depth=1, heads=2, zero_init=False), spec).eval()
    s = torch.from_numpy(np.random.default_rng(2).integers(4, size=(3, 60)))
    bits = pixel_surprise(model, model.from_symbols(s), None, spec.shape)
    assert np.allclose(
        bits.sum((1, 2)), model.nll(s, None).sum(1).detach() / math.log(2), rtol=1e-4
    )
    other = s.clone()
    other[:, 32:] = 3 - s[:, 32:]  # from the last colour of pixel 10 on: row 2, column 0
    changed = pixel_surprise(model, model.from_symbols(other), None, spec.shape)
    assert (
        np.allclose(changed[:, :2], bits[:, :2], atol=1e-5)
        and not np.isclose(changed[:, 2, 0], bits[:, 2, 0]).any()
    )
    assert places(model, spec.shape)[2, 0] == 32


def test_what_is_open_is_painted_over():
    images = np.full((2, 4, 3), 7, np.uint8)
    open = np.arange(12).reshape(4, 3) >= 7
    shown = blanked(images, open)
    assert (
        shown.shape == (2, 4, 3, 3)
        and (shown[:, ~open] == 7).all()
        and (shown[:, open] != 7).all()
        and (images == 7).all()
    )


def test_completions_are_varied_and_of_the_lower_part(models, drawn):
    for name in ("packed", "levels"):
        told = drawn[name]["completions"]["numbers"]
        assert (
            told["given"] == 4
            and told["draws"] == 6
            and 0 < told["draw_to_draw"] < 1
            and 0 < told["draw_to_truth"] < 1
        )


def test_the_film_fills_up(models, drawn):
    told = drawn["packed"]["order"]["numbers"]
    assert (
        told["symbols"] == 8
        and told["moments"][0] == 0
        and told["moments"][-1] == 8
        and told["frames"] == 9
    )
    with Image.open(drawn["folder"] / "packed" / "order.webp") as film:
        assert film.n_frames >= 9

        def grey():
            return np.ptp(np.asarray(film.convert("RGB"), int), axis=2)

        film.seek(0)
        first = (grey() > 25).mean()  # blue is no grey
        film.seek(film.n_frames - 1)
        assert first > 0.8 and (grey() > 25).mean() < 0.01


def test_symbols_that_are_no_pixels_are_refused(models):
    odd = replace(models["packed"], model=type("Odd", (), {"symbols": None, "length": 5})())
    assert "not pixels" in why_no_pixels(FigureContext(odd))


def test_temperature_is_explained_as_of_symbols(drawn):
    svg = (drawn["folder"] / "packed" / "truncation.svg").read_text()
    assert "random numbers" in svg and "keeps its z" not in svg


@pytest.mark.parametrize("name", ["packed", "levels"])
def test_few_held_out_images_are_enough(models, name, tmp_path):
    loaded = models[name]
    test = loaded.dataset.splits["test"]
    few = replace(test, x=test.x[:6], y=test.y[:6])
    scarce = replace(
        loaded, dataset=replace(loaded.dataset, splits=loaded.dataset.splits | {"test": few})
    )
    show(scarce, ["surprise", "completions", "order"], out=tmp_path)
    told = json.loads((tmp_path / "surprise.json").read_text())["numbers"]
    assert len(told["held out (test)"]["bits"]) == 6 and len(told["its own"]["bits"]) == 10

"""Writing and scoring with models whose every probability is known, and a small one that is trained on the spot."""

import io
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.command_line import call, fails
from torch import nn

from fromnoise import api
from fromnoise.core.capabilities import Predicts
from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.codecs.tokenizer import BytePairs, Bytes, Characters
from fromnoise.inference import text as inference_text
from fromnoise.inference import text_generation, text_scoring
from fromnoise.probability.decoding import DecodingOptions, choose_symbol

PLAIN = DecodingOptions()


class Table(nn.Module):
    """log p of the next symbol from all that was read, by ``law(symbols read, y)``: a list of V probabilities."""

    def lacks(self, capability) -> bool:
        return False

    def __init__(self, vocabulary, law, context=None, length=8):
        super().__init__()
        self.vocabulary, self.law, self.context, self.length = vocabulary, law, context, length
        self.config, self.steps, self.calls = SimpleNamespace(), [], []

    def to_symbols(self, x):
        return x

    from_symbols = to_symbols

    def log_p(self, rows, y):
        law = [self.law(row, None if y is None else int(y[i])) for i, row in enumerate(rows)]
        return torch.from_numpy(np.array(law, np.float64)).log().float()

    def log_probs(self, s, y=None):
        self.calls.append(tuple(s.shape))
        return torch.stack([self.log_p(s[:, :t].tolist(), y) for t in range(s.shape[1])], 1)

    def begin(self, n, y=None):
        self.steps.append(0)
        return SimpleNamespace(read=[[] for _ in range(n)], y=y)

    def step(self, state, symbol=None):
        self.steps[-1] += 1
        for i, row in enumerate(state.read if symbol is not None else []):
            row.append(int(symbol[i]))
        return self.log_p(state.read, state.y)


CHAIN = np.array([[0.6, 0.3, 0.1], [0.05, 0.15, 0.8], [0.5, 0.25, 0.25]])


def chain(**more):
    return Table(3, lambda read, y: CHAIN[read[-1]] if read else [0.2, 0.3, 0.5], context=1, **more)


def counting(**more):
    return Table(
        3, lambda read, y: np.roll([0.7, 0.2, 0.1], sum(read) + len(read)), **more
    )  # depends on all that was read


def round_and_round(*symbols, vocabulary=None):
    """A model that is sure: these symbols for ever."""
    V = vocabulary or max(symbols) + 1
    return Table(V, lambda read, y: np.eye(V)[symbols[len(read) % len(symbols)]])


def write(model, prompts, length, options=PLAIN, seed=0, **more):
    return text_generation.generate(
        model,
        [torch.tensor(p, dtype=torch.int64) for p in prompts],
        length,
        options,
        Rng(seed),
        **{"tokenizer": Bytes()} | more,
    )


# -- writing ----------------------------------------------------------------------------------------------------


def test_the_fake_keeps_the_contract():
    assert isinstance(chain(), Predicts)


def test_frequencies_and_log_p_are_those_of_the_chain():
    made = write(chain(), [[]] * 8, 1500)
    pairs = np.zeros((3, 3))
    for one in made:
        assert one.log_p[1:] == pytest.approx(
            [math.log(CHAIN[a, b]) for a, b in itertools.pairwise(one.symbols)], abs=1e-6
        )
        np.add.at(pairs, (one.symbols[:-1], one.symbols[1:]), 1)
    error = np.sqrt(CHAIN * (1 - CHAIN) / pairs.sum(1, keepdims=True))
    assert (abs(pairs / pairs.sum(1, keepdims=True) - CHAIN) < 4 * error).all()
    assert (
        made[0].surprise == [-v for v in made[0].log_p]
        and len({tuple(one.symbols) for one in made}) == 8
    )


def one_by_one(model, prompt, length, options, seed, row):
    """The slow way: the whole sequence anew for each symbol."""
    chance, s, log_p = Rng(seed).numpy("symbol", row), list(prompt), []
    for _ in range(length):
        now = model.log_p([s], None)
        symbol = int(
            choose_symbol(
                now,
                torch.tensor([s], dtype=torch.int64),
                options,
                torch.tensor([chance.random()], dtype=torch.float64),
            )
        )
        s.append(symbol)
        log_p.append(float(now[0, symbol]))
    return s[len(prompt) :], log_p


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        DecodingOptions(temperature=0.8, top_k=2),
        DecodingOptions(repetition_penalty=1.5),
        DecodingOptions(temperature=0),
    ],
)
def test_ragged_prompts_in_one_batch_are_as_one_by_one(options):
    prompts = [[], [0], [2, 1] * 20, [1], [0, 1, 2, 2, 1]]
    for model in (counting(), chain()):
        made = write(model, prompts, 12, options, seed=5)
        for row, (one, prompt) in enumerate(zip(made, prompts)):
            assert (one.symbols, one.log_p) == one_by_one(model, prompt, 12, options, 5, row), (
                row,
                options,
            )


def test_a_text_depends_on_its_number_and_nothing_else():
    many = write(counting(), [[1]] * 19, 6, seed=3)
    assert [one.symbols for one in write(counting(), [[1]] * 17, 6, seed=3)] == [
        one.symbols for one in many[:17]
    ]
    assert [one.symbols[:4] for one in many] == [
        one.symbols for one in write(counting(), [[1]] * 19, 4, seed=3)
    ]
    assert write(counting(), [[1]] * 19, 6, seed=4)[0].symbols != many[0].symbols
    assert (
        len({tuple(one.symbols) for one in write(counting(), [[1]] * 40, 30)}) == 40
    )  # no twins in another block


def test_what_cannot_be_seen_is_not_read_but_remembered():
    model = chain()
    write(model, [[0, 1, 2] * 300, []], 5)
    assert model.steps == [
        6
    ]  # the start, one symbol of the prompt, and four of the five that were written
    falling = Table(70, lambda read, y: 0.8 ** np.arange(70) / sum(0.8 ** np.arange(70)), context=1)
    made = write(
        falling, [[0, 1, 2], []], 3, DecodingOptions(temperature=0, repetition_penalty=100)
    )
    assert [one.symbols for one in made] == [[3, 4, 5], [0, 1, 2]]


def test_mistakes_of_writing():
    for length, says in (
        (0, "from 1 to"),
        (-3, "from 1 to"),
        (10**12, "from 1 to 10,000,000, not 1000000000000"),
    ):
        with pytest.raises(UsageError, match=says):
            write(chain(), [[]], length)
    with pytest.raises(UsageError, match="-n 2 times --length"):
        write(chain(), [[]] * 2, 9_000_000)
    with pytest.raises(UsageError, match="0 to 2"):
        write(chain(), [[0, 3]], 1)
    with pytest.raises(UsageError, match="-n"):
        write(chain(), [], 1)
    for stop in ("", ["a", ""]):
        with pytest.raises(UsageError, match="stop"):
            write(chain(), [[]], 1, stop=stop)
    with pytest.raises(DataError, match="diverged"):
        write(Table(2, lambda read, y: [math.nan, 1] if read else [0, 1]), [[]], 3)


# -- text as it comes -------------------------------------------------------------------------------------------

ABC = Characters("abcdx")


class Conditioning:
    """What on_symbols heard."""

    def __init__(self):
        self.heard = []

    def __call__(self, row, text, generated):
        self.heard.append((row, text, len(generated.symbols)))

    def of(self, row):
        return [text for r, text, _ in self.heard if r == row]


def test_every_symbol_is_told_at_once_with_its_text():
    told = Conditioning()
    made = write(round_and_round(0, 1, 2), [[]] * 2, 4, tokenizer=ABC, on_symbols=told)
    assert [one.text for one in made] == ["abca"] * 2 and told.of(0) == told.of(1) == [
        "a",
        "b",
        "c",
        "a",
        "",
    ]
    assert told.heard[:4] == [(0, "a", 1), (1, "a", 1), (0, "b", 2), (1, "b", 2)]


@pytest.mark.parametrize(
    "stop,text,told",
    [
        (["ca"], "ab", ["a", "b", "", ""]),
        ("ca", "ab", ["a", "b", "", ""]),
        (["a"], "", [""]),
        (["bx", "cabx"], "abcabcabca", None),  # begins like a stop string and is none
        (["cabc", "ca"], "ab", None),
        (["abca", "b"], "a", None),
        (["ca", "bca"], "a", None),
        (["xyz"], "abcabcabca", ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a", ""]),
    ],
)
def test_stop_strings_cut_right_before(stop, text, told):
    heard = Conditioning()
    (made,) = write(
        round_and_round(0, 1, 2, vocabulary=6), [[]], 10, tokenizer=ABC, stop=stop, on_symbols=heard
    )
    assert made.text == text == "".join(heard.of(0)) == ABC.decode(
        made.symbols
    ) and made.stopped == (len(text) < 10)
    assert len(made.log_p) == len(made.symbols) and (told is None or heard.of(0) == told)


def test_a_stop_string_ends_its_row_only():
    model = Table(3, lambda read, y: np.eye(3)[(read[-1] + 1) % 3 if read[:1] == [0] else 1])
    made = write(model, [[0], [1], [2]], 5, tokenizer=ABC, stop=["ca"])
    assert [one.text for one in made] == ["b", "bbbbb", "bbbbb"] and [
        one.stopped for one in made
    ] == [True, False, False]


def test_a_stop_string_may_begin_and_end_within_tokens():
    pairs = BytePairs([(97, 98), (99, 100)])  # 256 = ab, 257 = cd
    (made,) = write(round_and_round(256, 257), [[]], 9, tokenizer=pairs, stop=["bc"])
    assert made.text == "a" and made.symbols == [256] and made.stopped
    (made,) = write(round_and_round(256, 257), [[]], 9, tokenizer=pairs, stop=["cd"])
    assert made.text == "ab" and made.symbols == [256]


def test_characters_come_whole():
    raw = "é€𝄞z".encode()
    told = Conditioning()
    (made,) = write(
        round_and_round(*raw, vocabulary=256),
        [[]],
        len(raw) + 3,
        tokenizer=Bytes(),
        on_symbols=told,
    )
    assert [text for text in told.of(0) if text] == ["é", "€", "𝄞", "z", "é", "\ufffd"]
    assert made.text == "é€𝄞zé\ufffd" == Bytes().decode(made.symbols)
    (made,) = write(round_and_round(*raw, vocabulary=256), [[]], 30, tokenizer=Bytes(), stop=["𝄞"])
    assert made.text == "é€" and made.symbols == list("é€".encode())


def test_bytes_that_are_no_text_become_the_replacement_character():
    (made,) = write(round_and_round(0xFF, 97, 0xC3, 98), [[]], 4, tokenizer=Bytes())
    assert made.text == "\ufffda\ufffdb" == Bytes().decode(made.symbols)


# -- scoring ----------------------------------------------------------------------------------------------------


def test_the_score_of_a_chain_is_the_sum_of_its_transitions():
    s = np.random.default_rng(0).integers(0, 3, 100)
    expected = [-math.log([0.2, 0.3, 0.5][s[0]])] + [
        -math.log(CHAIN[a, b]) for a, b in itertools.pairwise(s)
    ]
    for length in (2, 7, 8, 99, 100, 500):
        assert text_scoring.score(chain(length=length), s) == pytest.approx(expected, abs=1e-6), (
            length
        )


def place_model(length, context=None):
    """p(0) = exp(-(symbols before + 1) / 1000): the score of 000... tells what stood before each symbol."""
    return Table(
        2,
        lambda read, y: [math.exp(-(len(read) + 1) / 1000), 1 - math.exp(-(len(read) + 1) / 1000)],
        context,
        length,
    )


@pytest.mark.parametrize(
    "length,context", [(8, 8), (8, 7), (9, 100), (8, 3), (8, 4), (8, 0), (1, 5), (16, 2)]
)
@pytest.mark.parametrize("L", [1, 2, 7, 8, 9, 16, 17, 23, 50])
def test_every_symbol_is_counted_once_with_enough_before_it(length, context, L, monkeypatch):
    monkeypatch.setattr(text_scoring, "SYMBOLS_AT_ONCE", 20)  # several calls
    model = place_model(length, context)
    before = np.rint(text_scoring.score(model, [0] * L) * 1000).astype(int) - 1
    assert before.shape == (L,) and (before < length).all()
    i = np.arange(L)
    assert (before >= np.minimum(i, min(context, length // 2))).all() and (
        before[:length] == i[:length]
    ).all()
    assert all(rows * columns <= max(20, length) for rows, columns in model.calls)


def test_a_recurrent_model_reads_the_whole_text_at_once():
    model = place_model(8)
    assert np.rint(text_scoring.score(model, [0] * 300) * 1000).astype(int).tolist() == list(
        range(1, 301)
    ) and model.calls == [(1, 300)]
    assert text_scoring.window_sizes(model) == (2**15, 2**14) and text_scoring.window_sizes(
        Table(2**14, None)
    ) == (
        2**11,
        2**10,
    )


def test_probabilities_of_all_short_texts_sum_to_one():
    for model in (counting(), chain(length=4)):
        total = sum(
            math.exp(-text_scoring.score(model, s).sum())
            for s in itertools.product(range(3), repeat=5)
        )
        assert total == pytest.approx(1, abs=1e-6)


def test_the_score_of_what_was_written_is_its_surprise():
    model = counting()
    (made,) = write(model, [[2, 0, 1]], 30)
    assert text_scoring.score(model, [2, 0, 1, *made.symbols])[3:] == pytest.approx(
        made.surprise, abs=1e-9
    )


def test_mistakes_of_scoring():
    for s in ([3], [-1, 0]):
        with pytest.raises(UsageError, match="0 to 2"):
            text_scoring.score(chain(), s)
    with pytest.raises(UsageError, match="empty"):
        text_scoring.score(chain(), [])


def test_the_context_in_words():
    words = text_scoring.describe_context
    assert (
        words(chain(), 100) == "each symbol given the 1 before it"
        and words(place_model(8, 8), 8) == "each symbol given all before it"
    )
    assert (
        words(place_model(8, 8), 9)
        == "each symbol given at least 4 before it (windows of 8, 4 apart)"
    )
    assert words(place_model(8), 500) == "each symbol given all before it"


# -- a run, from Python -----------------------------------------------------------------------------------------

CORPUS = "to be or not to be, that is the question"


def loaded(model, tokenizer, family="fake", data="talk"):
    part = SimpleNamespace(x=tokenizer.encode(CORPUS)) if tokenizer else None
    dataset = SimpleNamespace(
        caption_codec=None,
        spec=DataSpec(
            "tokens" if tokenizer else "image", (8,) if tokenizer else (1, 4, 4), levels=4
        ),
        tokenizer=tokenizer,
        splits={"train": part},
        split=lambda name: part,
        name=data,
        class_names=(),
    )
    named = {"family": family, "data": {"name": data}}
    record = SimpleNamespace(family=family, data=SimpleNamespace(name=data))
    run = SimpleNamespace(
        path=Path("runs/x"), info=named, record=record, record_outputs=lambda files: None
    )
    file = SimpleNamespace(name=family, Options=DecodingOptions)
    return SimpleNamespace(
        run=run, family=file, model=model, dataset=dataset, step=3, device=torch.device("cpu")
    )


LETTERS = Characters("".join(sorted(set(CORPUS))))


def letters(law=None):
    V = LETTERS.vocabulary
    return loaded(
        Table(V, law or (lambda read, y: np.full(V, 1 / V)), context=None if law else 2), LETTERS
    )


def typing(text):
    """A model that is sure of this text, over and over."""
    symbols = LETTERS.encode(text).tolist()
    return letters(lambda read, y: np.eye(LETTERS.vocabulary)[symbols[len(read) % len(symbols)]])


def test_a_score_in_bits_by_hand():
    text = "to be ö"  # 7 characters, 8 bytes, ö unknown
    scored = inference_text.score_text(letters(), text)
    which = math.log(0x110000 - len(LETTERS.characters))  # of all characters that ö might have been
    nats = 7 * math.log(LETTERS.vocabulary) + which
    assert scored.nats == pytest.approx(nats) and (
        scored.symbols,
        scored.characters,
        scored.bytes,
        scored.unknown,
    ) == (7, 7, 8, 1)
    assert scored.bits_per_character == pytest.approx(nats / math.log(2) / 7)
    assert scored.bits_per_byte == pytest.approx(
        nats / math.log(2) / 8
    ) and scored.perplexity == pytest.approx(math.exp(nats / 7))
    assert (
        scored.pieces == (*"to be ", "\ufffd")
        and "1 unknown character" in str(scored)
        and "1 unknown" not in str(inference_text.score_text(letters(), "to be"))
    )
    assert json.loads(json.dumps(scored.numbers()))["bytes"] == 8


def test_bytes_of_any_kind_are_scored_and_counted_raw():
    model = loaded(Table(256, lambda read, y: np.full(256, 1 / 256)), Bytes())
    text = inference_text.read_text(b"\xef\xbb\xbfa\xff\xc3\xa9", "x", Bytes())
    scored = inference_text.score_text(model, text)
    assert (scored.symbols, scored.bytes, scored.characters) == (
        4,
        4,
        3,
    ) and scored.bits_per_byte == pytest.approx(8)
    with pytest.raises(DataError, match="no UTF-8 at byte 2"):
        inference_text.read_text(b"a\xff", "x", LETTERS)


def test_a_text_of_probability_zero_is_told():
    with pytest.raises(DataError, match="symbol 3 .* no probability"):
        inference_text.score_text(typing("to be"), "tobe")


def test_python(monkeypatch):
    run = api.TrainedRun.__new__(api.TrainedRun)
    run.__dict__["loaded"] = letters()
    texts = run.generate("to be", n=3, length=20, seed=1)
    assert len(texts) == 3 and all(len(text) == 20 for text in texts) and len(set(texts)) == 3
    assert run.generate("to be", n=2, length=20, seed=1, stop=()) == texts[:2]
    with pytest.raises(UsageError, match="--temperature"):
        run.generate(temperature=-1)
    with pytest.raises(UsageError, match="topk.*top-k"):
        run.generate(topk=1)
    with pytest.warns(UserWarning, match="2 unknown characters in the prompt"):
        run.generate("to bé!", length=2)
    assert run.score("to be").bits_per_character == pytest.approx(math.log2(LETTERS.vocabulary))


# -- the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """opened(restored): what the verbs open from now on."""

    def set_to(found):
        for verb in ("sample", "score"):
            monkeypatch.setattr(f"fromnoise.cli.{verb}.open_run", lambda *args, **more: found)

    return set_to


def stdin(monkeypatch, raw):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))


def test_sample_prints_the_prompt_and_what_follows(opened, capsys):
    opened(typing("to be, or"))
    code, out, err = call(capsys, "sample", "r", "--prompt", "to ", "--length", 6)
    assert (code, out) == (
        0,
        "to be, or\n",
    ) and "6 symbols, 0.000 nats each | longest copied: 4 characters" in err  # "be, "
    assert call(capsys, "sample", "r", "--length", 9, "--stop", ", ", "--quiet") == (
        0,
        "to be\n",
        "",
    )
    code, out, _ = call(capsys, "sample", "r", "-n", 2, "--length", 5)
    assert (code, out) == (0, "--- 1 ---\nto be\n--- 2 ---\nto be\n")


def test_sample_as_json(opened, capsys):
    opened(typing("to be, or"))
    code, out, err = call(
        capsys, "sample", "r", "--prompt", "to ", "--length", 9, "-n", 2, "--stop", "or", "--json"
    )
    found = json.loads(out)
    assert (
        code == 0
        and found["prompt"] == "to "
        and found["texts"] == ["be, "] * 2
        and found["stopped"] == [True, True]
    )
    assert (
        found["surprise"] == [[0, 0, 0, 0]] * 2
        and found["symbols"][0] == LETTERS.encode("be, ").tolist()
        and found["longest_copied"] == [4, 4]
    )


def test_streamed_is_as_printed(opened, capsys):
    opened(letters())
    printed = call(capsys, "sample", "r", "--prompt", "to ", "--length", 40, "--seed", 4, "--quiet")
    assert (
        call(
            capsys,
            "sample",
            "r",
            "--prompt",
            "to ",
            "--length",
            40,
            "--seed",
            4,
            "--quiet",
            "--stream",
        )
        == printed
    )


def test_sample_writes_files(opened, capsys):
    opened(typing("to be, or"))
    assert (
        call(capsys, "sample", "r", "--prompt", "to ", "--length", 2, "-o", "x.txt")[1]
        == "1 text: x.txt\n"
    )
    assert Path("x.txt").read_bytes() == b"to be"
    assert call(capsys, "sample", "r", "-n", 2, "--length", 5, "-o", "all", "--quiet")[1] == "all\n"
    assert [path.read_text() for path in sorted(Path("all").iterdir())] == ["to be"] * 2
    assert (
        call(capsys, "sample", "r", "-n", 2, "--prompt", "to ", "--length", 2, "-o", "x.npy")[0]
        == 0
    )
    assert np.load("x.npy").tolist() == [LETTERS.encode("to be").tolist()] * 2
    fails(capsys, 2, "sample", "r", "-o", "x.png", says=["x.png", ".txt"])


def test_prompts_from_elsewhere(opened, capsys, monkeypatch):
    opened(typing("to be, or"))
    stdin(monkeypatch, b"\xef\xbb\xbfto ")
    assert call(capsys, "sample", "r", "--prompt", "-", "--length", 2, "--quiet")[1] == "to be\n"
    Path("p.txt").write_bytes(b"to \xff")
    fails(capsys, 3, "sample", "r", "--prompt-file", "p.txt", says=["p.txt", "UTF-8", "byte 4"])
    fails(
        capsys, 3, "sample", "r", "--prompt-file", "none.txt", says=["none.txt", "cannot be read"]
    )
    fails(capsys, 2, "sample", "r", "--prompt-file", "p.txt", "--prompt", "x", says=["one prompt"])
    code, _, err = call(capsys, "sample", "r", "--prompt", "tö\udcff", "--length", 2)
    assert code == 0 and "warning: 2 unknown characters in the prompt" in err


@pytest.mark.parametrize(
    "args,says",
    [
        (["--length", "0"], ["--length", "from 1 to"]),
        (["--length", "1000000000000"], ["--length", "10,000,000"]),
        (["--length", "long"], ["--length", "whole number"]),
        (["-n", "0"], ["-n"]),
        (["-n", ""], ["-n"]),
        (["--stop", ""], ["--stop", "at least one character"]),
        (["--temperature", "-1"], ["--temperature"]),
        (["--temperature", "nan"], ["--temperature", "finite"]),
        (["--top-k", "-1"], ["--top-k"]),
        (["--top-p", "0"], ["--top-p"]),
        (["--top-q", "0"], ["--top-q", "top-"]),
        (["--stream", "-n", "2"], ["--stream", "-n"]),
        (["--stream", "--json"], ["--stream", "--json"]),
        (["--label", "3"], ["--label"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes_of_sampling_text(args, says, opened, capsys):
    opened(letters())
    fails(capsys, 2, "sample", "r", *args, says=says)


@pytest.mark.parametrize(
    "args",
    [
        ["--top-k", "0"],
        ["--top-k", "1000000"],
        ["--temperature", "0"],
        ["--repetition-penalty", "2"],
        ["--min-p=0.1"],
    ],
)
def test_odd_options_that_are_fine(args, opened, capsys):
    opened(letters())
    code, out, err = call(capsys, "sample", "r", "--length", 5, *args, "--quiet")
    assert (code, len(out), err) == (0, 6, "")


def test_text_options_are_refused_where_there_is_no_text(opened, capsys):
    opened(loaded(nn.Linear(2, 2), None, "vae", "mnist"))
    for args in (
        ["--prompt", "x"],
        ["--prompt-file", "x"],
        ["--length", "3"],
        ["--stop", "x"],
        ["--stream"],
    ):
        fails(capsys, 2, "sample", "r", *args, says=[args[0], "images"])
    fails(capsys, 2, "score", "r", "--text", "x", says=["vae", "mnist", "autoregressive"])


def test_score_prints_its_numbers(opened, capsys, monkeypatch):
    opened(letters())
    code, out, _ = call(capsys, "score", "r", "--text", "to be")
    bits = math.log2(LETTERS.vocabulary)
    assert (
        code == 0
        and "5 symbols, 5 characters, 5 bytes" in out
        and f"{bits:.4f} bits per character" in out
        and "given the 2 before it" in out
    )
    Path("t.txt").write_bytes(b"to be")
    assert call(capsys, "score", "r", "t.txt")[1] == out
    stdin(monkeypatch, b"to be")
    assert call(capsys, "score", "r", "-")[1] == out
    assert call(capsys, "score", "r", "--text", "to be", "--quiet")[1] == f"{bits:.6f}\n"
    lines = call(capsys, "score", "r", "--text", "to", "--by-symbol")[1].splitlines()
    assert lines[0] == f"{bits * math.log(2):9.4f}  't'" and lines[1].endswith("'o'")
    found = json.loads(call(capsys, "score", "r", "--text", "töbe", "--json")[1])
    assert (
        found["pieces"] == ["t", "\ufffd", "b", "e"]
        and found["unknown"] == 1
        and found["nats"] - sum(found["surprise"]) == pytest.approx(math.log(2) * 20.09, abs=0.01)
    )


def test_mistakes_of_scoring_on_the_command_line(opened, capsys):
    opened(letters())
    Path("bad.txt").write_bytes(b"to\xffbe")
    Path("empty.txt").write_bytes(b"")
    fails(capsys, 3, "score", "r", "bad.txt", says=["bad.txt", "byte 3"])
    fails(capsys, 2, "score", "r", "empty.txt", says=["empty"])
    fails(capsys, 2, "score", "r", "--text", "", says=["empty"])
    fails(capsys, 3, "score", "r", "none.txt", says=["none.txt"])
    fails(capsys, 3, "score", "r", ".", says=["cannot be read"])
    fails(capsys, 2, "score", "r", says=["FILE", "--text"])
    fails(capsys, 2, "score", "r", "bad.txt", "--text", "x", says=["one text"])
    opened(typing("to be"))
    fails(capsys, 3, "score", "r", "--text", "eb", says=["symbol 1"])


# -- models that were trained -----------------------------------------------------------------------------------

SMALL = ["--tokens", "char", "--context", "32", "--threads", "1", "--out", "m", "--quiet"]
QUICK = [
    "--steps",
    "3",
    "--batch-size",
    "4",
    "--intervals",
    "1",
    "--width",
    "32",
    "--depth",
    "1",
    "--validation-examples",
    "4",
]


@pytest.mark.parametrize("network", ["ngram", "window", "conv", "gru", "gpt"])
def test_from_training_to_text_and_its_score(network, capsys):
    chance = np.random.default_rng(0)
    words = ["the cat", "a dog", "sat on", "the mat", "and ran", "über"]
    Path("t.txt").write_text(" ".join(words[i] for i in chance.integers(0, 6, 800)))
    code, _, err = call(
        capsys,
        "train",
        "autoregressive",
        "--data",
        "t.txt",
        "--network",
        network,
        *SMALL,
        *(QUICK if network != "ngram" else []),
    )
    assert code == 0, err
    code, out, err = call(
        capsys,
        "sample",
        "m",
        "--prompt",
        "the c",
        "--length",
        20,
        "-n",
        2,
        "--temperature",
        "0.5",
        "--json",
    )
    found = json.loads(out)
    assert code == 0, err
    assert [len(text) for text in found["texts"]] == [20, 20] and all(
        0 < count <= 20 for count in found["longest_copied"]
    )
    scored = json.loads(
        call(capsys, "score", "m", "--text", "the c" + found["texts"][1], "--json")[1]
    )
    assert scored["surprise"][5:] == pytest.approx(
        found["surprise"][1], abs=1e-4
    )  # one symbol at a time is as all at once
    code, streamed, _ = call(
        capsys,
        "sample",
        "m",
        "--prompt",
        "the c",
        "--length",
        20,
        "--temperature",
        "0.5",
        "--stream",
        "--quiet",
    )
    assert (code, streamed) == (0, "the c" + found["texts"][0] + "\n")
    run = api.open("m")
    assert run.generate("the c", n=2, length=20, temperature=0.5) == found["texts"]
    assert (
        run.score("the c" + found["texts"][1]).nats == pytest.approx(scored["nats"])
        and len(run.sample(2)) == 2
        and len(run.sample(1)[0]) == 32
    )

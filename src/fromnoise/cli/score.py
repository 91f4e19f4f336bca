"""``score``: how well a model of text predicts a text."""

from pathlib import Path

import click

from ..core.errors import UsageError
from .root import (
    PATH,
    add_run_flags,
    fromnoise,
    open_run,
    print_result,
)
from .text import TextPrinter, read_bytes, read_stdin

MAX_SYMBOL = 24  # characters of a symbol in the table of --by-symbol


@fromnoise.command()
@click.argument("run", type=PATH)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--text", metavar="TEXT", help="the text itself, instead of a file")
@click.option("--by-symbol", is_flag=True, help="also print each symbol with its surprise")
@add_run_flags(with_data=False)
def score(run, file, text, by_symbol, checkpoint, device, as_json, quiet):
    """Score a text with a model of text: nats, bits per character and byte, perplexity.

    FILE may be - (stdin).
    """
    from ..inference.text import read_text, score_text, tokenizer_of

    if (file is None) == (text is None):
        raise UsageError("score takes one text: a FILE, - for stdin, or --text TEXT")
    loaded = open_run(run, checkpoint, device, with_data=False)
    tokenizer = tokenizer_of(loaded)
    if text is None and str(file) == "-":
        text = read_text(read_stdin(), "stdin", tokenizer)
    elif text is None:
        text = read_text(read_bytes(file), str(file), tokenizer)
    scored = score_text(loaded, text)
    if as_json:
        document = {
            "run": str(run),
            "step": loaded.step,
            **scored.numbers(),
            "pieces": list(scored.pieces),
            "surprise": scored.surprise.tolist(),
        }
        print_result(document, True)
        return
    if by_symbol:
        printer = TextPrinter()
        for piece, nats in zip(scored.pieces, scored.surprise):
            print(f"{nats:9.4f}  {printer(repr(piece[:MAX_SYMBOL]))}")
    print(f"{scored.bits_per_character:.6f}" if quiet else scored)

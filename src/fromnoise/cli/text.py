"""What is done with models of text: ``sample`` goes on with a prompt, ``score`` says how much a text surprises."""

import sys
from pathlib import Path

import click

from ..core.errors import DataError, UsageError
from ..core.words import safe
from .options import loose
from .root import (
    PATH,
    checkpoint_flag,
    device_flag,
    finish,
    fromnoise,
    json_flag,
    opened,
    quiet_flag,
    say,
    trust_flags,
    warn,
)

SHOWN = 24  # characters of a symbol in the table of --by-symbol


def continue_text(
    loaded, args, n, length, seed, prompt, prompt_file, stop, stream, out, as_json, quiet
) -> None:
    """``sample`` of a model of text: prints, streams or writes the continuations of one prompt."""
    from ..inference import write as writing
    from ..inference.text import continue_texts, longest_copies, read_text, tokenizer_of

    if prompt is not None and prompt_file is not None:
        raise UsageError("give one prompt: --prompt or --prompt-file")
    if stream and (n > 1 or as_json):
        raise UsageError(
            f"--stream prints one text as it comes: leave {'--json' if as_json else '-n'} out"
        )
    if out is not None:
        writing.text_ending(out)  # before any work
    tokenizer = tokenizer_of(loaded)
    if prompt == "-" or prompt_file is not None:
        raw, name = (
            (_stdin(), "the prompt") if prompt == "-" else (_content(prompt_file), prompt_file)
        )
        prompt = read_text(raw, str(name), tokenizer)
    prompt = prompt or ""
    show, waiting = ForPeople(), [prompt]

    def on_symbols(row, new, generated):
        print(show("".join(waiting) + new), end="", flush=True)
        waiting.clear()

    options = loose(loaded.family.Options, args)
    made = continue_texts(
        loaded, prompt, n, length, seed, stop, options, on_symbols if stream else None, warn
    )
    texts = [prompt + one.text for one in made]
    files = []
    if out is not None:
        read = tokenizer.encode(prompt).tolist()
        files = writing.write_texts(texts, [read + one.symbols for one in made], out)
        loaded.run.record_outputs(files)
    copied = None if quiet and not as_json else longest_copies(loaded, [one.text for one in made])
    if as_json:
        document = {
            "run": str(loaded.run.path),
            "step": loaded.step,
            "n": n,
            "seed": seed,
            "prompt": prompt,
            "texts": [one.text for one in made],
            "symbols": [one.symbols for one in made],
            "surprise": [one.surprise for one in made],
            "stopped": [one.stopped for one in made],
            "longest_copied": copied,
            "files": [str(file) for file in files],
        }
        return finish(document, True, "")
    if stream:
        print()
    elif out is None:
        print(show(writing.join_texts(texts)), end="" if n > 1 else "\n", flush=True)
    if not quiet:
        for i, one in enumerate(made):
            say(f"{f'{i + 1}: ' * (n > 1)}{_about(one, copied and copied[i])}", True)
    if out is not None:
        say(str(out) if quiet else f"{n} text{'s' * (n > 1)}: {out}")


def _about(generated, copied: int | None) -> str:
    """What is said of a text beside it."""
    nats = generated.surprise
    parts = [
        f"{len(nats):,} symbols" + (f", {sum(nats) / len(nats):.3f} nats each" if nats else "")
    ]
    parts += (
        [] if copied is None else [f"longest copied: {copied:,} character{'s' * (copied != 1)}"]
    )
    return " | ".join(parts)


@fromnoise.command()
@click.argument("run", type=PATH)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--text", metavar="TEXT", help="the text itself, instead of a file")
@click.option("--by-symbol", is_flag=True, help="also a line for each symbol, with its surprise")
@checkpoint_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
def score(run, file, text, by_symbol, checkpoint, device, as_json, quiet):
    """How much a text surprises a model of text: nats, bits per character and byte, perplexity. FILE may be - (stdin)."""
    from ..inference.text import read_text, score_text, tokenizer_of

    if (file is None) == (text is None):
        raise UsageError(
            "score takes one text: a FILE, - for what comes in by a pipe, or --text TEXT"
        )
    loaded = opened(run, checkpoint, device, with_data=False)
    tokenizer = tokenizer_of(loaded)
    if text is None:
        raw = _stdin() if str(file) == "-" else _content(file)
        text = read_text(raw, "stdin" if str(file) == "-" else str(file), tokenizer)
    scored = score_text(loaded, text)
    if as_json:
        document = {
            "run": str(run),
            "step": loaded.step,
            **scored.numbers(),
            "pieces": list(scored.pieces),
            "surprise": scored.surprise.tolist(),
        }
        return finish(document, True, "")
    if by_symbol:
        show = ForPeople()
        for piece, nats in zip(scored.pieces, scored.surprise):
            print(f"{nats:9.4f}  {show(repr(piece[:SHOWN]))}")
    print(f"{scored.bits_per_character:.6f}" if quiet else scored)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}): name a file of text"
        ) from None


def _stdin() -> bytes:
    return sys.stdin.buffer.read()


class ForPeople:
    """Makes a text, or its next part, fit for stdout: escaped, and an old encoding is spared what it lacks.

    Line ends and tabs stay, and of CR LF the LF: a model of a text with such line ends writes them.
    """

    def __init__(self):
        self.held = ""  # a CR that may belong to the LF of the next part
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")

    def __call__(self, text: str) -> str:
        text = (self.held + text).replace("\r\n", "\n")
        self.held = "\r" * text.endswith("\r")
        return safe(text.removesuffix("\r"))

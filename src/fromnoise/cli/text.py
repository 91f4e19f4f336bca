"""``sample`` with a model of text: continues a prompt."""

import sys
from pathlib import Path
from types import SimpleNamespace

from ..core.errors import DataError, UsageError
from ..core.output import warn
from ..core.words import safe
from .options import parse_extra_options
from .root import parse_whole, print_line, print_result


def continue_text(loaded, args: list[str], flags: SimpleNamespace) -> None:
    """Prints, streams or writes the continuations of one prompt. flags: the options of ``sample``."""
    from ..inference import write as writing
    from ..inference.text import continue_texts, longest_copies

    n = parse_whole("1" if flags.n is None else flags.n, "-n", 1)
    length = parse_whole("500" if flags.length is None else flags.length, "--length")
    seed = parse_whole(flags.seed, "--seed", 0)
    check_flags(flags, n)
    prompt = read_prompt(loaded, flags)
    printer = TextPrinter()
    stream = StreamPrinter(printer, prompt) if flags.stream else None
    options = parse_extra_options(loaded.family.Options, args)
    results = continue_texts(loaded, prompt, n, length, seed, flags.stop, options, stream, warn)
    texts = [result.text for result in results]
    files = []
    if flags.out is not None:
        files = write_results(loaded, prompt, results, flags.out)
    copied = None
    if flags.as_json or not flags.quiet:
        copied = longest_copies(loaded, texts)
    if flags.as_json:
        document = {"run": str(loaded.run.path), "step": loaded.step, "n": n, "seed": seed}
        document |= describe_results(prompt, results)
        document |= {"longest_copied": copied, "files": list(map(str, files))}
        print_result(document, True)
        return
    if flags.stream:
        print()
    elif flags.out is None:
        whole = printer(writing.join_texts([prompt + text for text in texts]))
        print(whole, end="" if n > 1 else "\n", flush=True)
    if not flags.quiet:
        for i, result in enumerate(results):
            number = f"{i + 1}: " if n > 1 else ""
            print_line(number + summarise(result, copied and copied[i]), as_json=True)
    if flags.out is not None:
        count = f"{n} text{'s' if n > 1 else ''}"
        print_line(str(flags.out) if flags.quiet else f"{count}: {flags.out}")


def check_flags(flags: SimpleNamespace, n: int) -> None:
    """Raises UsageError for options that exclude each other, before any work."""
    from ..inference.write import text_ending

    if flags.prompt is not None and flags.prompt_file is not None:
        raise UsageError("give one prompt: --prompt or --prompt-file")
    if flags.stream and (n > 1 or flags.as_json):
        other = "--json" if flags.as_json else "-n"
        raise UsageError(f"--stream prints one text while it is generated: leave {other} out")
    if flags.out is not None:
        text_ending(flags.out)


def read_prompt(loaded, flags: SimpleNamespace) -> str:
    """The prompt, from the option, a file or stdin."""
    from ..inference.text import read_text, tokenizer_of

    tokenizer = tokenizer_of(loaded)
    if flags.prompt == "-":
        return read_text(read_stdin(), "the prompt", tokenizer)
    if flags.prompt_file is not None:
        return read_text(read_bytes(flags.prompt_file), str(flags.prompt_file), tokenizer)
    return flags.prompt or ""


def write_results(loaded, prompt: str, results: list, target: Path) -> list[Path]:
    """Writes the prompt with each continuation; records the files in the run."""
    from ..inference.text import tokenizer_of
    from ..inference.write import write_texts

    symbols = tokenizer_of(loaded).encode(prompt).tolist()
    files = write_texts(
        [prompt + result.text for result in results],
        [symbols + result.symbols for result in results],
        target,
    )
    loaded.run.record_outputs(files)
    return files


def describe_results(prompt: str, results: list) -> dict:
    """The continuations for the JSON document."""
    return {
        "prompt": prompt,
        "texts": [result.text for result in results],
        "symbols": [result.symbols for result in results],
        "surprise": [result.surprise for result in results],
        "stopped": [result.stopped for result in results],
    }


def summarise(result, copied: int | None) -> str:
    """Length, mean surprise and longest copy of one continuation."""
    nats = result.surprise
    parts = [f"{len(nats):,} symbols"]
    if nats:
        parts[0] += f", {sum(nats) / len(nats):.3f} nats each"
    if copied is not None:
        parts.append(f"longest copied: {copied:,} character{'s' if copied != 1 else ''}")
    return " | ".join(parts)


def read_bytes(path: Path) -> bytes:
    """The content of a text file. Raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be read ({reason}): give a text file") from None


def read_stdin() -> bytes:
    return sys.stdin.buffer.read()


class TextPrinter:
    """Makes a text, or its next part, printable: escaped, without characters stdout cannot encode.

    Line ends and tabs stay; CR LF becomes LF, since a model of such a text generates CR LF.
    """

    def __init__(self):
        self.carriage_return = ""  # of the last part: the next one may begin with its LF
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")

    def __call__(self, text: str) -> str:
        text = (self.carriage_return + text).replace("\r\n", "\n")
        self.carriage_return = "\r" if text.endswith("\r") else ""
        return safe(text.removesuffix("\r"))


class StreamPrinter:
    """Prints a text while it is generated, the prompt first."""

    def __init__(self, printer: TextPrinter, prompt: str):
        self.printer = printer
        self.prompt = prompt

    def __call__(self, row, new: str, generated) -> None:
        print(self.printer(self.prompt + new), end="", flush=True)
        self.prompt = ""

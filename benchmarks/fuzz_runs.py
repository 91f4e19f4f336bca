"""Damages the files of runs in many ways, with a fixed seed, and looks at what opening them does.

    python benchmarks/fuzz_runs.py [--records 10000] [--tensors 5000] [--flips 300] [--seed 0]

Records: one file of run.json, manifest.json, events.jsonl, sessions.jsonl, report.json is changed (bits, length,
encoding, types, sizes, nesting, keys that are missing or stand there twice), half of the time with a digest that fits
again; then the run is opened, listed, verified, restored and planned for a resume, and its report is read and printed.
Tensors: the header or the body of a safetensors file is changed, in most cases with a manifest that fits it.
Every step has to succeed or to raise one of the package's own errors, within 5 seconds of the processor, in less than
1 GB of memory.
Flips: of each file of a finished run single bits are changed, and ``verify`` has to find each.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fromnoise import families
from fromnoise.core.errors import FromNoiseError
from fromnoise.core.json_files import sealed
from fromnoise.core.lines import sealed_line
from fromnoise.evaluate.report import evaluate
from fromnoise.evaluate.table import plain_table
from fromnoise.inference.sample import sample
from fromnoise.inference.write import write
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run, open_runs
from fromnoise.runs.load import load_run
from fromnoise.runs.progress_samples import list_progress_samples, read_progress_samples
from fromnoise.runs.records.manifest import PARTS
from fromnoise.runs.records.report import read_report
from fromnoise.runs.verify import verify
from fromnoise.show.catalogue import show
from fromnoise.studies.comparison import headline
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan, option_models
from fromnoise.training.resume import newest_checkpoint, recorded_plan

SECONDS, MEMORY = 5, 2**30
COMMON = {"batch_size": 16, "validation_examples": 20, "threads": 1, "intervals": 2}
DEEP = object()  # stands for lists in lists
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    5,
    2**31,
    2**53,
    2**63 - 1,
    10**30,
    -(10**30),
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "5",
    "../../etc/passwd",
    "\ud800",
    "\x1b[31m",
    "x" * 100_000,
    [],
    [1],
    ["x"],
    [None],
    [[1]],
    {},
    {"x": 1},
    DEEP,
)
RECORDS = ("run.json", "manifest.json", "events.jsonl", "sessions.jsonl", "report.json")


class Hang(BaseException):
    pass


@contextlib.contextmanager
def alarm(seconds: float):
    def ring(*_):
        raise Hang

    for number, timer, limit in (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, 20 * seconds),
    ):
        signal.signal(
            number, ring
        )  # seconds of the processor, since the machine may be busy; and of the clock, for what waits
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


# -- runs to damage ------------------------------------------------------------------------------------------------


def make_runs(root: Path) -> list[Path]:
    """Finished runs of images, a table, a text and points, each with what one can have: measured, drawn and sampled."""
    text, table = root / "t.txt", root / "t.csv"
    text.write_text("to be or not to be, that is the question. " * 60)
    table.write_text(
        "a,b,c\n" + "".join(f"{i % 7},{i * 0.37 % 1:.3f},{'xyz'[i % 3]}\n" for i in range(120))
    )
    plans = {
        "vae": {
            "family_name": "vae",
            "data_name": "digits",
            "hidden": (4,),
            "latent_dim": 2,
            "steps": 4,
            **COMMON,
        },
        "mixture": {
            "family_name": "classical",
            "data_name": str(table),
            "model": "mixture",
            "components": 2,
            **COMMON,
        },
        "counts": {
            "family_name": "autoregressive",
            "data_name": str(text),
            "preset": "ngram",
            "context": 8,
            **COMMON,
        },
        "gan": {"family_name": "gan", "data_name": "ring8", "steps": 4, "hidden": (8,), **COMMON},
    }
    made = []
    for name, options in plans.items():
        plan = make_plan(
            **{
                key: value
                for key, value in options.items()
                if key in ("family_name", "data_name", "preset") or has_option(options, key)
            }
        )
        run = start_run(plan, root / "runs" / name)
        made.append(run.path)
    vae = load_run(Run(made[0]))
    evaluate(vae, quick=True, samples=200)
    (made[0] / "report-quick.json").rename(made[0] / "report.json")
    show(vae, ["curves"])
    written = write(vae.dataset, sample(vae, 4), made[0] / "samples" / "four.npy")
    vae.run.record_outputs(written)
    return made


def has_option(options: dict, name: str) -> bool:
    models = option_models(families.load(options["family_name"]))
    return any(name in model.model_fields for model in models)


# -- changes -------------------------------------------------------------------------------------------------------


def places(value, path=()) -> list[tuple]:
    """The paths to all parts of a JSON value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def changed_value(value, rng: np.random.Generator):
    """A JSON value with one of its parts changed, removed, renamed or added."""
    value = copy.deepcopy(value)
    known = places(value)
    path = known[rng.integers(len(known))]
    if not path:
        return VALUES[rng.integers(len(VALUES))]
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    match rng.integers(6):
        case 0 if isinstance(holder, dict):
            del holder[path[-1]]
        case 1 if isinstance(holder, dict):
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
        case 2 if isinstance(holder, list):
            holder.append(holder[path[-1]])
        case 3:
            other = value
            for key in known[rng.integers(len(known))]:
                other = other[key]
            holder[path[-1]] = copy.deepcopy(other)
        case _:
            holder[path[-1]] = VALUES[rng.integers(len(VALUES))]
    return value


def as_text(value) -> str:
    text = json.dumps(value, indent=1, default=lambda _: "\0deep")
    return text.replace('"\\u0000deep"', "[" * 500 + "]" * 500)


def changed_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with bits flipped, a part cut, doubled or overwritten, in another encoding, or nested too deep."""
    at, end = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    match rng.integers(9):
        case 0:
            out = bytearray(data)
            for _ in range(int(rng.integers(1, 9))):
                out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
            return bytes(out)
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:end] + data[at:]
        case 4:
            return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]
        case 5:
            return data.decode("utf-8", "replace").encode(
                ("utf-16", "utf-8-sig", "utf-7", "utf-32")[rng.integers(4)]
            )
        case 6:
            return b"[" * 200_000
        case 7:
            return data[:at] + b'{"x":' * 200_000 + data[at:]
        case _:
            return (
                data.replace(b":", b": 1e999,", 1)
                if rng.random() < 0.5
                else data.replace(b"{", b'{"format": 1, "format": 1, ', 1)
            )


def change_record(path: Path, rng: np.random.Generator) -> None:
    """Damages a JSON file or a file of JSON lines in place, half of the time with digests that fit."""
    data = path.read_bytes()
    if rng.random() < 0.35:
        path.write_bytes(changed_bytes(data, rng))
        return
    lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
    number = int(rng.integers(len(lines)))
    value = changed_value(json.loads(lines[number]), rng)
    if rng.random() < 0.7 and isinstance(value, dict):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            value = json.loads(as_text(value))
            rest = {key: part for key, part in value.items() if key != "digest"}
            lines[number] = (
                sealed_line(rest).rstrip("\n") if path.suffix == ".jsonl" else sealed(rest)
            )
            path.write_bytes(
                ("\n".join(lines) + "\n" * (path.suffix == ".jsonl")).encode(
                    "utf-8", "surrogatepass"
                )
            )
            return
    lines[number] = as_text(value).replace("\n", " " if path.suffix == ".jsonl" else "\n")
    path.write_text("\n".join(lines) + "\n" * (path.suffix == ".jsonl"), errors="surrogatepass")


def change_tensors(path: Path, rng: np.random.Generator) -> None:
    """Damages a safetensors file in place; three times of four its manifest fits."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    match rng.integers(6):
        case 0:
            data = changed_bytes(data, rng)
        case 1:
            sizes = (0, 1, size - 1, size + 1, 2**31, 2**62, 2**64 - 1)
            data = int(sizes[rng.integers(len(sizes))]).to_bytes(8, "little") + data[8:]
        case 2:
            data = data[: int(rng.integers(len(data) + 1))]
        case 3:
            out = bytearray(data)
            for _ in range(int(rng.integers(1, 200))):
                out[rng.integers(8 + size, len(out)) if len(body) else 0] ^= int(
                    rng.integers(1, 256)
                )
            data = bytes(out)
        case _:
            names = [name for name in header if name != "__metadata__"]
            if names and rng.random() < 0.6:
                entry = header[names[rng.integers(len(names))]]
                which = rng.integers(3)
                if which == 0:
                    entry["dtype"] = (
                        "F64",
                        "F16",
                        "BF16",
                        "I8",
                        "BOOL",
                        "U64",
                        "C64",
                        "F8_E4M3",
                        "F4",
                        "x",
                    )[rng.integers(10)]
                elif which == 1:
                    entry["shape"] = (
                        [],
                        [0],
                        [2**40],
                        [-1],
                        [1] * 70,
                        [2**32, 2**32],
                        [*entry["shape"], 1],
                        "x",
                    )[rng.integers(8)]
                else:
                    entry["data_offsets"] = (
                        [0, 0],
                        [0, 2**62],
                        [8, 4],
                        [-1, 4],
                        [0],
                        [0, len(body)],
                    )[rng.integers(6)]
            else:
                header = changed_value(header, rng)
            text = as_text(header).encode("utf-8", "surrogatepass")
            data = len(text).to_bytes(8, "little") + text + body
    path.write_bytes(data)
    if rng.random() < 0.75:
        manifest = json.loads((path.parent / "manifest.json").read_text())
        manifest["files"][path.name] = {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        (path.parent / "manifest.json").write_text(sealed(manifest))


# -- what is done with a damaged run ----------------------------------------------------------------------------------


def steps_for(path: Path, file: Path) -> list[Callable]:
    """What reads a run whose ``file`` is damaged."""

    def find():
        return checkpoint.find(Run(path))

    if file.suffix == ".safetensors":
        return [
            lambda: [find().tensors(part) for part in PARTS],
            lambda: used(path),
            lambda: resumed(path),
            lambda: verify(Run(path)),
        ]
    steps = [lambda: listed(path), lambda: verify(Run(path)), lambda: Run(path).seconds()]
    if file.name == "report.json":
        return [*steps, lambda: printed(file)]
    if file.suffix == ".jsonl":
        return [
            *steps,
            lambda: Run(path).events(),
            lambda: [
                read_progress_samples(strip) for strip in list_progress_samples(Run(path)).values()
            ],
            lambda: rewound(path),
        ]
    return [*steps, find, lambda: used(path), lambda: resumed(path)]


def listed(path: Path) -> None:
    """As ``fromnoise runs`` does."""
    found = open_runs(path.parent)
    assert set(found) == {path.parent / other.name for other in path.parent.iterdir()}
    events = found[path].events("interval") if isinstance(found[path], Run) else []
    assert all(
        isinstance(event["validation"]["value"] + event["step"], float | int) for event in events
    )


def used(path: Path) -> None:
    for weights in ("ema", "model"):
        sample(load_run(Run(path), weights=weights, with_data=False), 2)


def resumed(path: Path) -> None:
    """Up to the first step."""
    run = Run(path)
    trainer = recorded_plan(run).trainer()
    saved = newest_checkpoint(run)
    if saved:
        trainer.load(saved)
        if trainer.model.phases() and trainer.state.step < 4:
            trainer.advance(4)


def rewound(path: Path) -> None:
    run = Run(path)
    run.rewind(2, 2, lambda line: None)
    run.events()


def printed(file: Path) -> None:
    report = read_report(file)
    headline(report)
    plain_table([report, report])


class Fuzzer:
    """Damages, reads, restores; counts what happened."""

    def __init__(self, root: Path, seed: int, say=print):
        self.runs, self.say = make_runs(root), say
        self.rng, self.counts, self.failures = (
            np.random.Generator(np.random.Philox(seed)),
            Counter(),
            [],
        )
        self.kept = {
            path: file.read_bytes()
            for run in self.runs
            for file in run.rglob("*")
            if file.is_file()
            for path in [file]
        }

    def files(self, *names: str) -> list[Path]:
        return sorted(path for path in self.kept if path.name in names)

    def restore_files(self, run: Path) -> None:
        for path in list(run.rglob("*")):
            if path.is_file() and path not in self.kept:
                path.unlink()
        for path, data in self.kept.items():
            if run in path.parents and (not path.is_file() or path.read_bytes() != data):
                path.write_bytes(data)

    def once(self, file: Path, change) -> None:
        run = next(run for run in self.runs if run in file.parents)
        change(file, self.rng)
        self.counts[f"{file.suffix[1:]} inputs"] += 1
        damaged = file.read_bytes()
        for step in steps_for(run, file):
            begin = time.process_time()
            try:
                with alarm(SECONDS):
                    step()
                self.counts["steps that went through"] += 1
            except FromNoiseError as error:
                self.counts["errors of our own"] += 1
                if "\n" in str(error) or not str(error):
                    self.fail(file, damaged, "the error is not one line")
            except Hang:
                self.counts["hangs"] += 1
                self.fail(file, damaged, "hangs")
            except Exception:
                self.counts["unhandled"] += 1
                self.fail(file, damaged, traceback.format_exc(limit=-4))
            self.counts["slowest, ms"] = max(
                self.counts["slowest, ms"], round(1000 * (time.process_time() - begin))
            )
        self.restore_files(run)

    def fail(self, file: Path, damaged: bytes, reason: str) -> None:
        self.failures.append(f"{file.name}: {reason}")
        if len(self.failures) <= 20:
            self.say(f"{file}: {reason}\n    {damaged[:200]!r}")

    def records(self, count: int) -> None:
        known = [self.files(name) for name in RECORDS]
        for i in range(count):
            if i and i % 1000 == 0:
                self.say(f"{i} records, {len(self.failures)} failures")
            some = known[i % len(known)]
            self.once(some[self.rng.integers(len(some))], change_record)

    def tensors(self, count: int) -> None:
        known = self.files(*(f"{part}.safetensors" for part in PARTS))
        last = [
            path
            for path in known
            if path.parent == max(p.parent for p in known if p.parents[2] == path.parents[2])
        ]
        for i in range(count):
            if i and i % 1000 == 0:
                self.say(f"{i} files of tensors, {len(self.failures)} failures")
            self.once(last[self.rng.integers(len(last))], change_tensors)

    def flips(self, count: int) -> None:
        """Single bits of each file of the first run; all of them where a file has no more than ``count``."""
        run = self.runs[0]
        if found := verify(Run(run)).problems + verify(Run(run)).uncovered:
            self.failures.append(f"the run that nobody touched: {found}")
        for file in sorted(path for path in self.kept if run in path.parents):
            data = self.kept[file]
            bits = 8 * len(data)
            for bit in sorted(self.rng.choice(bits, min(count, bits), replace=False).tolist()):
                out = bytearray(data)
                out[bit // 8] ^= 1 << (bit % 8)
                file.write_bytes(out)
                self.counts["flipped bits"] += 1
                try:
                    seen = bool(verify(Run(run)).problems)
                except FromNoiseError:
                    seen = True
                self.counts["flipped bits that verify reports"] += seen
                if not seen:
                    self.failures.append(
                        f"{file.relative_to(run)}: bit {bit} of {bits} goes unseen"
                    )
            file.write_bytes(data)
        self.counts["files with flipped bits"] = sum(run in path.parents for path in self.kept)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("records", 10_000), ("tensors", 5000), ("flips", 300), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), options.seed, functools.partial(print, flush=True))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        fuzzer.flips(options.flips)
        fuzzer.records(options.records)
        fuzzer.tensors(options.tensors)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, count in sorted(fuzzer.counts.items()):
        print(f"{name:<36} {count:,}")
    print(f"{'peak memory, MB':<36} {peak:,.0f} ({before:,.0f} before the first damaged file)")
    print(f"{'failures':<36} {len(fuzzer.failures):,}, in {time.monotonic() - begin:.0f} s")
    for line, times in Counter(fuzzer.failures).most_common(20):
        print(f"{times} x {line}")
    sys.exit(bool(fuzzer.failures) or peak > MEMORY / 2**20)


if __name__ == "__main__":
    main()

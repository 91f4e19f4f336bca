"""Looking after things: ``runs``, ``verify``, ``data``, ``check``, ``doctor``; and the ``tour``."""

from pathlib import Path

import click

from ..core.errors import FromNoiseError, StorageError, UsageError
from .options import SuggestingGroup, loose
from .root import LOOSE, PATH, finish, fromnoise, json_flag, quiet_flag, say, whole


@fromnoise.command()
@click.argument("folder", type=PATH, required=False, metavar="[DIR]")
@click.option("--root", type=PATH, metavar="DIR", help="the same as DIR [runs]")
@json_flag
def runs(folder, root, as_json):
    """List the runs in a folder."""
    from ..core.words import escaped, shown
    from ..runs.directory import Run, open_runs

    if folder and root:
        raise UsageError("give one folder: DIR, or --root DIR")
    root = folder or root or Path("runs")
    rows, damaged = [], []
    for path, run in open_runs(root).items():
        if isinstance(run, Run):
            events, damage = run.read_events()
            run = damage or run
        if isinstance(run, str):
            damaged.append({"run": str(path), "damaged": run})
            continue
        events = [event for event in events if event["kind"] == "interval"]
        last = events[-1] if events else None
        best = min(e["validation"]["value"] for e in events) if events else None
        rows.append(
            {
                "run": str(run.path),
                "family": run.record.family,
                "preset": run.record.preset,
                "data": run.record.data.name,
                "step": last["step"] if last else 0,
                "steps": run.record.steps,
                "held_out": last and last["validation"]["value"],
                "best": best,
                "health": last["health"] if last else [],
                "missing": run.missing_checkpoint(),
            }
        )
    if as_json:
        return finish({"runs": rows, "damaged": damaged}, True)
    if not rows and not damaged:
        return say(f"no runs in {root}: `fromnoise train vae` makes one")
    names = [
        shown(Path(row["data"]).name or row["data"], 40)[1:-1] for row in rows
    ]  # without its quotes
    paths = [escaped(row["run"]) for row in rows]
    broken = [escaped(row["run"]) for row in damaged]
    width, wide = max(map(len, ["run", *paths, *broken])), max(map(len, ["data", *names]))
    say(f"{'run':<{width}}  {'data':<{wide}} {'step':>15}  held-out")
    for row, path, name in zip(rows, paths, names):
        value = "-" if row["held_out"] is None else f"{row['held_out']:.4g}"
        say(
            f"{path:<{width}}  {name:<{wide}} {row['step']:>7}/{row['steps']:<7}  {value}  {'! ' + '; '.join(_notes(row)) if _notes(row) else ''}"
        )
    for row, path in zip(damaged, broken):
        say(
            f"{path:<{width}}  damaged: {shown(row['damaged'].removeprefix(row['run'] + '/').split(': ', 1)[-1], 100)[1:-1]}"
        )


def _notes(row: dict) -> list[str]:
    """What a line of ``runs`` warns of."""
    return ["its newest checkpoint is missing"] * bool(row["missing"]) + [
        line.split(":")[0] for line in row["health"][:1]
    ]


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option(
    "--data/--no-data",
    "with_data",
    default=None,
    help="also compare the data with their recorded digest [data with a name yes; a path that the run names is opened only if asked]",
)
@json_flag
def verify(run, with_data, as_json):
    """Check every file of a run against its digest, and the data against theirs.

    Data that lie at a path are checked with --data only: a run from elsewhere may name any file.
    """
    from ..data import catalogue
    from ..runs.directory import Run
    from ..runs.load import load_run_data
    from ..runs.verify import verify as examine

    opened = Run(run)
    found = examine(opened)
    valid, damaged, problems = found.valid, found.problems, list(found.problems)
    code = StorageError.exit_code
    name = opened.info["data"]["name"]
    unasked = with_data is None and name not in catalogue()
    if with_data or (with_data is None and not unasked):
        try:
            load_run_data(opened)
        except FromNoiseError as error:
            problems.append(str(error))
            code = code if damaged else error.exit_code
    document = {
        "run": str(run),
        "ok": not problems,
        "checkpoints": [c.step for c in valid],
        "problems": problems,
        "uncovered": found.uncovered,
        "data_checked": not unasked and with_data is not False,
    }
    lines = [f"ok: step {c.step}" for c in valid]
    lines += [f"damaged: {problem}" for problem in problems]
    lines += [f"no digest is kept of {name}" for name in found.uncovered]
    lines += [f"not checked: the data at {name} (--data checks them)"] if unasked else []
    finish(document, as_json, *lines)
    if problems:
        error = StorageError(f"{run} does not verify: {problems[0]}")
        error.exit_code = code
        raise error


@fromnoise.group("data", cls=SuggestingGroup)
def data_group():
    """List, describe and fetch data sets."""


@data_group.command("list")
@json_flag
def data_list(as_json):
    """The data sets that have a name."""
    from ..data import catalogue

    known = catalogue()
    lines = [f"{name:<15} {text}" for name, text in known.items()]
    lines.append(
        f"{'PATH':<15} a folder of images (sub-folders are classes) or of IDX files, .npy, .npz, .csv, .tsv, .parquet, text or a folder of text"
    )
    finish(known, as_json, *lines)


@data_group.command("info", context_settings=LOOSE)
@click.argument("name")
@json_flag
@click.pass_context
def data_info(ctx, name, as_json):
    """Sizes, form, classes and digest. Data options (--resolution 64 ...) may follow."""
    from .. import data
    from ..core.config import build

    dataset = data.load(name, build(data.DataConfig, loose(data.DataConfig, ctx.args)))
    document = {
        "name": name,
        "spec": dataset.spec.to_json(),
        "splits": {k: len(v) for k, v in dataset.splits.items()},
        "classes": list(dataset.class_names),
        "factors": list(dataset.factor_names),
        "binarise": dataset.binarise,
        "digest": dataset.digest,
        "notes": list(dataset.notes),
    }
    if dataset.tokenizer:
        document["text"] = {"tokens": dataset.tokenizer.kind} | {
            k: {
                "tokens": len(v.x),
                "characters": v.characters,
                "bytes": v.raw_bytes,
                "unknown": v.unknown,
            }
            for k, v in dataset.splits.items()
        }
    lines = [
        f"{name}: {dataset.spec.kind} {'x'.join(map(str, dataset.spec.shape))}, {dataset.spec.levels or 'continuous'}{' levels' if dataset.spec.levels else ''}",
        "splits: " + ", ".join(f"{k} {v:,}" for k, v in document["splits"].items()),
        *([f"classes: {', '.join(dataset.class_names[:20])}"] if dataset.class_names else []),
        *(
            [
                f"words of captions: {' '.join(dataset.caption_codec.words)}",
                *(f"{k}: {dataset.captions(k)[0]}" for k in dataset.splits),
            ]
            if dataset.caption_codec
            else []
        ),
        *([f"factors: {', '.join(dataset.factor_names)}"] if dataset.factor_names else []),
        *(
            [
                f"tokens: {dataset.tokenizer.kind}; characters: "
                + ", ".join(f"{k} {v.characters:,}" for k, v in dataset.splits.items())
            ]
            if dataset.tokenizer
            else []
        ),
        f"digest: {dataset.digest[:16]}",
        *dataset.notes,
    ]
    finish(document, as_json, *lines)


@data_group.command("get")
@click.argument("name")
@json_flag
def data_get(name, as_json):
    """Fetch a data set into the cache, checked by checksum."""
    from .. import data

    dataset = data.load(name)
    finish(
        {"name": name, "digest": dataset.digest},
        as_json,
        f"{name}: there, digest {dataset.digest[:16]}",
    )


@fromnoise.command()
@click.argument("file", metavar="FILE.py|FAMILY")
@json_flag
def check(file, as_json):
    """Run the conformance suite on a family: shapes, ranges, gradients, seeds, exact resume, learning."""
    from ..checks.conformance import check_family

    results = check_family(
        file,
        on_result=lambda r: say(
            f"{'ok  ' if r['ok'] else 'FAIL'} {r['check']}"
            + (f": {r['detail']}" if r["detail"] else ""),
            as_json,
        ),
    )
    failed = [r for r in results if not r["ok"]]
    finish(
        {"family": file, "ok": not failed, "results": results},
        as_json,
        f"{len(results) - len(failed)} of {len(results)} checks passed",
    )
    if failed:
        raise UsageError(f"{file} does not conform: {failed[0]['check']}: {failed[0]['detail']}")


@fromnoise.command()
@json_flag
def doctor(as_json):
    """What this machine and installation are, and whether they work."""
    from ..checks.doctor import examine

    findings, ok = examine()
    finish(
        {"ok": ok, **findings},
        as_json,
        *(f"{name:<12} {value}" for name, value in findings.items()),
    )
    if not ok:
        raise UsageError("this installation has a problem: see the lines above")


@fromnoise.command()
@click.option("--out", type=PATH, default=Path("runs/tour"), metavar="DIR", help="[runs/tour]")
@click.option("--data", "data_name", default="digits", metavar="NAME|PATH", help="images [digits]")
@click.option("--seconds", default="12", metavar="S", help="training seconds for each model [12]")
@click.option("--seed", default="0", metavar="N", help="[0]")
@json_flag
@quiet_flag
def tour(out, data_name, seconds, seed, as_json, quiet):
    """Train a small model of every family on real digits, measure and draw them, write one page."""
    from ..studies.tour import tour as go

    page, reports = go(
        out,
        data_name,
        whole(seconds, "--seconds", 1),
        whole(seed, "--seed", 0),
        say=lambda text: None if quiet else say(text, as_json),
    )
    finish({"page": str(page), "reports": reports}, as_json, f"the page: {page}")


@fromnoise.group("evaluator", cls=SuggestingGroup)
def evaluator_group():
    """Feature networks that samples are measured with: make one for your own data, or describe one."""


@evaluator_group.command("fit", context_settings=LOOSE)
@click.argument("data_name", metavar="DATA")
@click.option("-o", "--out", type=PATH, metavar="FILE", help="[NAME-evaluator.safetensors]")
@click.option("--steps", default="2000", metavar="N", help="[2000]")
@click.option("--dims", default="64", metavar="N", help="features for each example [64]")
@click.option("--width", default="16", metavar="N", help="channels of the first layer [16]")
@click.option("--seed", default="0", metavar="N", help="[0]")
@json_flag
@click.pass_context
def evaluator_fit(ctx, data_name, out, steps, dims, width, seed, as_json):
    """Train an evaluator on a data set: on its classes, or on reconstruction where there are none.

    Options of the data (--resolution 64 ...) may follow.
    """
    from .. import data
    from ..core.config import build
    from ..measures import evaluator

    dataset = data.load(data_name, build(data.DataConfig, loose(data.DataConfig, ctx.args)))
    target = out or Path(f"{Path(data_name).stem}-evaluator.safetensors")
    if target.exists():
        raise UsageError(
            f"{target} exists already and is never overwritten: name another file with -o"
        )
    for note in dataset.notes:
        say(f"data: {note}", as_json)
    numbers = [
        whole(text, name, least)
        for text, name, least in (
            (steps, "--steps", 10),
            (dims, "--dims", 2),
            (width, "--width", 1),
            (seed, "--seed", 0),
        )
    ]
    evaluator.write(evaluator.fit(dataset, *numbers), target)
    _describe(target, as_json)


@evaluator_group.command("info")
@click.argument("file", type=PATH)
@json_flag
def evaluator_info(file, as_json):
    """What an evaluator was made from, and how well it does on held-out data."""
    _describe(file, as_json)


def _describe(file: Path, as_json: bool) -> None:
    from ..measures.evaluator import load

    found = load(file)
    about = found.about
    learned = (
        f"{about['classes']} classes, validation accuracy {about['validation_accuracy']:.4f}"
        if about["classes"]
        else f"reconstruction, validation mean squared error {about['validation_mse']:.5f}"
    )
    text = f"{file}: evaluator {found.name} of {about['data']} {'x'.join(map(str, about['shape']))}, {about['dims']} features, {learned}"
    finish({"file": str(file), "name": found.name, **about}, as_json, text)

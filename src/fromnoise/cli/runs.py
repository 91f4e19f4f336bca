"""``runs``: lists the runs in a folder."""

from pathlib import Path

import click

from ..core.errors import UsageError
from ..core.words import escaped, shown
from .root import PATH, fromnoise, json_flag, print_line, print_result


@fromnoise.command()
@click.argument("folder", type=PATH, required=False, metavar="[DIR]")
@click.option("--root", type=PATH, metavar="DIR", help="the same as DIR [runs]")
@json_flag
def runs(folder, root, as_json):
    """List the runs in a folder."""
    if folder and root:
        raise UsageError("give one folder: DIR, or --root DIR")
    root = folder or root or Path("runs")
    rows, damaged = summarise_runs(root)
    if as_json:
        print_result({"runs": rows, "damaged": damaged}, True)
    elif rows or damaged:
        print_table(rows, damaged)
    else:
        print_line(f"no runs in {root}: `fromnoise train vae` makes one")


def summarise_runs(root: Path) -> tuple[list[dict], list[dict]]:
    """A row for each run in the folder, and one for each damaged run with the reason."""
    from ..runs.directory import open_runs

    rows, damaged = [], []
    for path, run in open_runs(root).items():
        if isinstance(run, str):
            damaged.append({"run": str(path), "damaged": run})
            continue
        events, damage = run.read_events()
        if damage:
            damaged.append({"run": str(path), "damaged": damage})
        else:
            rows.append(summarise_run(run, events))
    return rows, damaged


def summarise_run(run, events: list[dict]) -> dict:
    intervals = [event for event in events if event["kind"] == "interval"]
    values = [event["validation"]["value"] for event in intervals]
    last = intervals[-1] if intervals else None
    return {
        "run": str(run.path),
        "family": run.record.family,
        "preset": run.record.preset,
        "data": run.record.data.name,
        "step": last["step"] if last else 0,
        "steps": run.record.steps,
        "held_out": values[-1] if values else None,
        "best": min(values, default=None),
        "health": last["health"] if last else [],
        "missing": run.missing_checkpoint(),
    }


def print_table(rows: list[dict], damaged: list[dict]) -> None:
    names = [unquoted(Path(row["data"]).name or row["data"], 40) for row in rows]
    paths = [escaped(row["run"]) for row in [*rows, *damaged]]
    path_width = max(map(len, ["run", *paths]))
    name_width = max(map(len, ["data", *names]))
    print_line(f"{'run':<{path_width}}  {'data':<{name_width}} {'step':>15}  held-out")
    for row, path, name in zip(rows, paths, names):
        value = "-" if row["held_out"] is None else f"{row['held_out']:.4g}"
        notes = warnings_of(row)
        print_line(
            f"{path:<{path_width}}  {name:<{name_width}} {row['step']:>7}/{row['steps']:<7}  "
            f"{value}  {'! ' + '; '.join(notes) if notes else ''}"
        )
    for row, path in zip(damaged, paths[len(rows) :]):
        reason = row["damaged"].removeprefix(row["run"] + "/").split(": ", 1)[-1]
        print_line(f"{path:<{path_width}}  damaged: {unquoted(reason, 100)}")


def unquoted(text: str, width: int) -> str:
    """``words.shown`` without its quotes."""
    return shown(text, width)[1:-1]


def warnings_of(row: dict) -> list[str]:
    """The warnings in the line of a run."""
    warnings = [line.split(":")[0] for line in row["health"][:1]]
    if row["missing"]:
        warnings.insert(0, "its newest checkpoint is missing")
    return warnings

"""``verify``: checks the files of a run and its data against their digests."""

import click

from ..core.errors import FromNoiseError, StorageError
from .root import PATH, fromnoise, json_flag, print_result


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option(
    "--data/--no-data",
    "with_data",
    default=None,
    help="also check the data against their digest [yes for data with a name; a path that the run "
    "names is opened only with --data]",
)
@json_flag
def verify(run, with_data, as_json):
    """Check every file of a run against its digest, and the data against theirs.

    Data at a path are checked only with --data: a run from elsewhere may name any file.
    """
    from ..data import catalogue
    from ..runs.directory import Run
    from ..runs.verify import verify as check_files

    opened = Run(run)
    result = check_files(opened)
    data_name = opened.info["data"]["name"]
    if is_skipped := with_data is None and data_name not in catalogue():
        with_data = False
    data_error = check_data(opened) if with_data is not False else None
    problems = [*result.problems]
    if data_error:
        problems.append(str(data_error))
    document = {
        "run": str(run),
        "ok": not problems,
        "checkpoints": [saved.step for saved in result.valid],
        "problems": problems,
        "uncovered": result.uncovered,
        "data_checked": with_data is not False,
    }
    lines = [f"ok: step {saved.step}" for saved in result.valid]
    lines += [f"damaged: {problem}" for problem in problems]
    lines += [f"no digest is kept of {name}" for name in result.uncovered]
    if is_skipped:
        lines.append(f"not checked: the data at {data_name} (--data checks them)")
    print_result(document, as_json, *lines)
    if problems:
        error = StorageError(f"{run} does not verify: {problems[0]}")
        if data_error and not result.problems:
            error.exit_code = data_error.exit_code
        raise error


def check_data(run) -> FromNoiseError | None:
    """The error of loading the data of a run, or None."""
    from ..runs.load import load_run_data

    try:
        load_run_data(run)
    except FromNoiseError as error:
        return error
    return None

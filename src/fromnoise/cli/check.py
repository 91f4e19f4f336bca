"""``check`` (of a file of the user) and ``doctor`` (of this installation)."""

import click

from ..core.errors import UsageError
from .root import fromnoise, json_flag, print_line, print_result


@fromnoise.command()
@click.argument("file", metavar="FILE.py|FAMILY")
@click.option(
    "--data",
    "example",
    metavar="PATH",
    help="of a source that reads files: an example to read [the one that it writes itself]",
)
@json_flag
def check(file, example, as_json):
    """Check a family, or a file with a source, a metric or a figure of your own.

    \b
    a family   shapes, ranges, gradients, seeds, exact resume, learning
    a source   options, splits, values, digest, a training on its data
    a metric   a row with a finite value or a reason, for small models of each kind
    a figure   drawn of small models, saved, twice in the same way
    """
    from ..checks.files import check_file

    def show_result(result: dict) -> None:
        status = "ok  " if result["ok"] else "FAIL"
        detail = f": {result['detail']}" if result["detail"] else ""
        print_line(f"{status} {result['check']}{detail}", as_json)

    kind, results = check_file(file, example, show_result)
    failed = [result for result in results if not result["ok"]]
    document = {kind: file, "ok": not failed, "results": results}
    passed = len(results) - len(failed)
    print_result(document, as_json, f"{passed} of {len(results)} checks passed")
    if failed:
        raise UsageError(f"{file} does not conform: {failed[0]['check']}: {failed[0]['detail']}")


@fromnoise.command()
@json_flag
def doctor(as_json):
    """Describe this machine and installation, and check that they work."""
    from ..checks.doctor import inspect_installation

    findings, is_ok = inspect_installation()
    lines = [f"{name:<12} {value}" for name, value in findings.items()]
    print_result({"ok": is_ok, **findings}, as_json, *lines)
    if not is_ok:
        raise UsageError("this installation has a problem: see the lines above")

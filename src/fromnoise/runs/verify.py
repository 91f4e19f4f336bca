"""Every file of a run against the digests that were kept of it.

    run.json, manifest.json, report*.json    hold the digest of their own content
    events, sessions, outputs .jsonl         each line holds its own
    checkpoints/*/*.safetensors              are named in their manifest
    samples/progress-*.npy                   are named in the event of their interval
    figures/*, samples/*, reports            are named in outputs.jsonl

Not covered are files that somebody else put there, and those of versions before 2 of the run's format.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import StorageError
from ..core.files import sha256
from ..core.json_files import check_sealed_bytes
from . import checkpoint
from .directory import Run, is_file
from .records.report import read_report


@dataclass
class VerifyResult:
    """valid: checkpoints, oldest first; problems: a sentence for each; uncovered: files that no digest is known of."""

    valid: list[checkpoint.Checkpoint]
    problems: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)


def verify(run: Run) -> VerifyResult:
    """Compares every file with its digest. Reads only."""
    valid, problems = checkpoint.list_checkpoints(run)
    found, covered = VerifyResult(valid, problems), set()

    def check(path: Path, *checks) -> None:
        covered.add(path)
        for one in checks:
            try:
                one(path)
            except StorageError as error:
                found.problems.append(str(error))
                return

    if gone := run.missing_checkpoint():
        problems.append(gone)
    if valid and (best := valid[-1].manifest.best) and best.step not in run.checkpoint_folders():
        problems.append(
            f"{run.path / 'checkpoints' / f'step-{best.step:08d}'} is missing: it is the best checkpoint by held-out value"
        )
    if not valid and not problems:
        found.problems.append(f"{run.path} has no checkpoint")
    if run.record.format >= 2:
        check(run.path / "run.json", check_sealed_bytes)
    for saved in valid:
        covered |= {saved.path / name for name in saved.manifest.files}
        check(saved.path / "manifest.json", *[check_sealed_bytes] * (saved.manifest.format >= 2))
    lines = {}
    for name in ("events.jsonl", "sessions.jsonl", "outputs.jsonl"):
        covered |= {run.path / name} if run.record.format >= 2 else set()
        try:
            lines[name], damaged = run.lines(name)
            found.problems += damaged
        except StorageError as error:
            lines[name] = []
            found.problems.append(str(error))
    if valid and len(lines["events.jsonl"]) < valid[-1].manifest.events:
        found.problems.append(
            f"{run.path / 'events.jsonl'} has {len(lines['events.jsonl'])} events, and the checkpoint of step {valid[-1].step} knows of {valid[-1].manifest.events}"
        )
    known = {
        run.path / "samples" / f"progress-{event['step']:08d}.npy": event["samples"]
        for event in lines["events.jsonl"]
        if event.get("samples")
    }
    known |= {run.path / line["file"]: line["sha256"] for line in lines["outputs.jsonl"]}
    for path, digest in known.items():
        if is_file(path) and not path.is_symlink():  # it may have been deleted: nothing needs it
            covered.add(path)
            if sha256(path) != digest:
                found.problems.append(
                    f"{path} is damaged, or was changed since it was made: delete it, or make it again"
                )
    for path in sorted(run.path.glob("report*.json")):
        if path not in known:
            check(path, read_report, check_sealed_bytes)
    damaged_folders = [
        path
        for path in (run.path / "checkpoints").glob("step-*")
        if path not in {saved.path for saved in valid}
    ]
    found.uncovered = [
        str(path.relative_to(run.path))
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
        and path.stat().st_size
        and path not in covered
        and not any(folder in path.parents for folder in damaged_folders)
    ]
    return found

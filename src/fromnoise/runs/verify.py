"""Checks every file of a run against its recorded digest.

    run.json, manifest.json, report*.json    hold the digest of their own content
    events, sessions, outputs .jsonl         each line holds its own
    checkpoints/*/*.safetensors              in their manifest
    samples/progress-*.npy                   in the event of their interval
    figures/*, samples/*, reports            in outputs.jsonl

Files that somebody else added, and those of format 1 of the run, have no digest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import StorageError
from ..core.files import sha256
from ..core.json_files import check_sealed_bytes
from . import checkpoint
from .directory import Run
from .paths import is_file
from .records.report import read_report

LINE_FILES = ("events.jsonl", "sessions.jsonl", "outputs.jsonl")


@dataclass
class VerifyResult:
    """valid: checkpoints, oldest first; problems: one sentence each; uncovered: without a digest."""

    valid: list[checkpoint.Checkpoint]
    problems: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)


def verify(run: Run) -> VerifyResult:
    """Compares every file with its digest. Only reads."""
    return _Verifier(run).run_checks()


class _Verifier:
    def __init__(self, run: Run):
        self.run = run
        self.has_digests = run.record.format >= 2
        self.valid, self.problems = checkpoint.list_checkpoints(run)
        self.covered: set[Path] = set()

    def run_checks(self) -> VerifyResult:
        self._check_checkpoints_exist()
        if self.has_digests:
            self._check_file(self.run.path / "run.json", check_sealed_bytes)
        for saved in self.valid:
            self._check_manifest(saved)
        lines = {name: self._read_lines(name) for name in LINE_FILES}
        self._check_event_count(lines["events.jsonl"])
        digests = self._output_digests(lines)
        for path, digest in digests.items():
            self._check_output(path, digest)
        for path in sorted(self.run.path.glob("report*.json")):
            if path not in digests:
                self._check_file(path, read_report, check_sealed_bytes)
        return VerifyResult(self.valid, self.problems, self._uncovered_files())

    def _check_file(self, path: Path, *checks: Callable[[Path], object]) -> None:
        self.covered.add(path)
        for check in checks:
            try:
                check(path)
            except StorageError as error:
                self.problems.append(str(error))
                return

    def _check_checkpoints_exist(self) -> None:
        run = self.run
        if missing := run.missing_checkpoint():
            self.problems.append(missing)
        best = self.valid[-1].manifest.best if self.valid else None
        if best and best.step not in run.checkpoint_folders():
            path = run.path / "checkpoints" / f"step-{best.step:08d}"
            self.problems.append(
                f"{path} is missing: it is the best checkpoint by validation value"
            )
        if not self.valid and not self.problems:
            self.problems.append(f"{run.path} has no checkpoint")

    def _check_manifest(self, saved: checkpoint.Checkpoint) -> None:
        self.covered |= {saved.path / name for name in saved.manifest.files}
        checks = [check_sealed_bytes] if saved.manifest.format >= 2 else []
        self._check_file(saved.path / "manifest.json", *checks)

    def _read_lines(self, name: str) -> list[dict]:
        if self.has_digests:
            self.covered.add(self.run.path / name)
        try:
            lines, problems = self.run.lines(name)
        except StorageError as error:
            self.problems.append(str(error))
            return []
        self.problems += problems
        return lines

    def _check_event_count(self, events: list[dict]) -> None:
        if not self.valid or len(events) >= self.valid[-1].manifest.events:
            return
        last = self.valid[-1]
        self.problems.append(
            f"{self.run.path / 'events.jsonl'} has {len(events)} events, and the checkpoint of step "
            f"{last.step} expects {last.manifest.events}"
        )

    def _output_digests(self, lines: dict[str, list[dict]]) -> dict[Path, str]:
        """The digests of progress samples and of recorded outputs."""
        digests = {}
        for event in lines["events.jsonl"]:
            if event.get("samples"):
                path = self.run.path / "samples" / f"progress-{event['step']:08d}.npy"
                digests[path] = event["samples"]
        for line in lines["outputs.jsonl"]:
            digests[self.run.path / line["file"]] = line["sha256"]
        return digests

    def _check_output(self, path: Path, digest: str) -> None:
        """Compares an output with its digest. It may have been deleted: nothing needs it."""
        if not is_file(path) or path.is_symlink():
            return
        self.covered.add(path)
        if sha256(path) != digest:
            self.problems.append(
                f"{path} is damaged, or was changed since it was made: delete it, or make it again"
            )

    def _uncovered_files(self) -> list[str]:
        """The files without a digest that are not empty, outside of damaged checkpoints."""
        valid = {saved.path for saved in self.valid}
        damaged = set((self.run.path / "checkpoints").glob("step-*")) - valid
        uncovered = []
        for path in sorted(self.run.path.rglob("*")):
            if path in self.covered or damaged & set(path.parents):
                continue
            if path.is_file() and path.stat().st_size:
                uncovered.append(str(path.relative_to(self.run.path)))
        return uncovered

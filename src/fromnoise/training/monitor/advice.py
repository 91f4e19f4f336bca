"""What is wrong with a model and what to try, as sentences that do not contradict each other."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """Something to try. action: "raise", "lower" or "use"; options: names that it concerns."""

    action: str
    options: tuple[str, ...]
    value: str = ""

    def __str__(self) -> str:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in self.options)
        return f"{self.action} {flags} {self.value}".rstrip()


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. name: short, for tables; remedies: the best first."""

    name: str
    detail: str
    remedies: tuple[Remedy, ...]


def lower(*options: str) -> Remedy:
    return Remedy("lower", options)


def raise_(*options: str) -> Remedy:
    return Remedy("raise", options)


def use(option: str, value: str = "") -> Remedy:
    return Remedy("use", (option,), value)


def advise(findings: Sequence[Finding], known: Collection[str]) -> list[str]:
    """One sentence for each finding: its name, what is wrong, and one remedy.

    known: options of the training that change something. A remedy that another sentence contradicts
    is left out.
    """
    actions: dict[str, str] = {}  # option -> what an earlier sentence says about it
    sentences = []
    for finding in findings:
        remedy = select_remedy(finding, known, actions)
        sentence = f"{finding.name}: {finding.detail}"
        if remedy is not None:
            sentence += f". Try: {remedy}"
            actions |= dict.fromkeys(remedy.options, remedy.action)
        sentences.append(sentence)
    return sentences


def select_remedy(
    finding: Finding, known: Collection[str], actions: dict[str, str]
) -> Remedy | None:
    """The first remedy of known options; if none is known, the first at all."""
    possible = []
    for remedy in finding.remedies:
        if all(actions.get(name, remedy.action) == remedy.action for name in remedy.options):
            possible.append(remedy)
    for remedy in possible:
        if all(name in known for name in remedy.options):
            return remedy
    return possible[0] if possible else None

"""The numbers that go on from one training step to the next, besides tensors."""

from dataclasses import dataclass, field


@dataclass
class TrainerState:
    """Saved in the manifest of a checkpoint; floats survive JSON exactly.

    sums, counts  of the terms since the last interval
    history       validation metric of each interval
    best          {"step", "value"} of the lowest validation metric
    events        lines of events.jsonl that belong to this state
    average       index of the average in use, among ``averages``
    good          step of the last interval's checkpoint: where a run that diverges goes back to
    rollbacks     how often it had to
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    best: dict | None = None
    events: int = 0
    average: int = 0
    good: int = 0
    rollbacks: int = 0

    def add(self, terms: dict[str, float]) -> None:
        """Adds the terms of one step to the sums."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Mean of each term over the steps that had it; the sums start again at 0."""
        means = {name: value / self.counts[name] for name, value in sorted(self.sums.items())}
        self.sums = {}
        self.counts = {}
        return means

    def add_validation(self, value: float) -> None:
        """Records the validation metric of this step, lower is better."""
        self.history.append(value)
        if self.best is None or value < self.best["value"]:
            self.best = {"step": self.step, "value": value}

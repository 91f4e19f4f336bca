"""Auto-regressive models of tinyshakespeare in a stated time, on nanoGPT's split: its last 10 % of the characters.

The first half of that part is our validation split, which may choose a checkpoint, the second our test split, which
chooses nothing. Printed for each run, in nats per character:

    windows   as nanoGPT measures: random windows of T characters that know nothing of the text before them, 12,800 of
              them, on the whole 10 %; the first character of a window is not counted, as there it is given
    once      every character of the 10 % once, each given at least T/2 characters before it; then of each half alone

Published: nanoGPT 1.4697 on an A100 and 1.88 on a laptop's CPU (windows, best of its evaluations). Counts: 1.5165 (once).

    python benchmarks/shakespeare.py [--minutes 2.4 10] [--preset text] [--seed 0] [--set size=3 ...] [--checkpoint best]
"""

import numpy as np
import torch
from autoregressive import trained

from fromnoise.core.rng import Rng
from fromnoise.inference.text_scoring import score

WINDOWS = 12_800


@torch.no_grad()
def windowed(model, s: np.ndarray, seed: int = 0) -> float:
    """Mean nats of all but the first symbol of random windows of the model's length."""
    rng, total = Rng(seed, ("windows",)), 0.0
    starts = rng.integers("starts", len(s) - model.length, (WINDOWS,)).numpy()
    for part in np.split(starts, WINDOWS // 128):
        windows = torch.from_numpy(
            np.stack([s[i : i + model.length] for i in part]).astype(np.int64)
        )
        total += float(model.nll(windows, None)[:, 1:].mean()) * len(part)
    return total / WINDOWS


def main() -> None:
    for run in trained(__doc__, "runs/shakespeare", "text", [2.4, 10], data="tinyshakespeare"):
        opened, last = run.opened, run.last
        model, halves = (
            opened.model,
            [np.asarray(opened.dataset.split(part).x) for part in ("validation", "test")],
        )
        once = score(model, np.concatenate(halves))
        parts = [once.mean(), *(half.mean() for half in np.split(once, [len(halves[0])]))]
        print(
            f"{run.said}: {run.seconds:.0f} s, {run.parameters:,} parameters, {last['step']:,} steps, step {opened.loaded.step:,}: "
            f"windows {windowed(model, np.concatenate(halves)):.4f}, once {parts[0]:.4f} (validation {parts[1]:.4f}, test {parts[2]:.4f}); "
            f"last / best validation {last['validation']['value']:.4f} / {last['best']['value']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

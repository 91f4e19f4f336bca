"""Auto-regressive models of binarised MNIST in a stated time: exact nats of all 10,000 test images.

The training images are binarised anew at each step, the test images once, with a fixed seed (dynamic binarisation).
Published, dynamic: PixelCNN 81.45, ImageGPT 79.17, PixelSNAIL 78.61 (pytorch-generative); VAE bound 86.77; counts 97.4.

    python benchmarks/binary_mnist.py [--minutes 10] [--preset binary] [--seed 0] [--set size=3 ...] [--checkpoint best]
"""

import math

import numpy as np
import torch
from autoregressive import trained

from fromnoise.data.stream import in_order


@torch.no_grad()
def test_nats(opened) -> np.ndarray:
    """-log p(x) of every test image, (10,000,)."""
    model, nats = opened.model, []
    for batch in in_order(opened.dataset, "test", 250):
        y = batch.y if model.config.conditional else None
        nats.append(model.nll(model.to_symbols(batch.x), y).sum(1))
    return torch.cat(nats).double().numpy()


def main() -> None:
    for run in trained(
        __doc__, "runs/binary-mnist", "binary", [10], data="mnist", binarise="dynamic"
    ):
        nats, last, opened = test_nats(run.opened), run.last, run.opened
        given = " given the label" if opened.model.config.conditional else ""
        print(
            f"{run.said}: {run.seconds / 60:.1f} minutes, {run.parameters:,} parameters, {last['step']:,} steps, {last['items_per_second']:,.0f} images/s, "
            f"step {opened.loaded.step:,}: {nats.mean():.3f} nats{given} (standard error {nats.std() / math.sqrt(len(nats)):.3f}); "
            f"validation last / best {last['validation']['nll']:.3f} / {last['best']['value'] * opened.model.length:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

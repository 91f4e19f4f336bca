"""Drawing from auto-regressive models: cached, one symbol at a time, against one full forward pass for each symbol.

64 class-conditional binarised MNIST digits of 98 packed symbols, and 64 of 784 pixels for the networks that work pixel by
pixel. The weights are untrained: their values do not change the time. Medians of three; the uncached time is that of two
passes, scaled up to one for each symbol; a pass reads the whole canvas, as implementations without a cache do.

    python benchmarks/ar_speed.py
"""

import statistics
import time

import torch
from header import header

from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.families.autoregressive import PRESETS, AutoRegressive, Config, Options

N = 64


def seconds(run) -> float:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@torch.no_grad()
def main() -> None:
    header()
    spec, y = DataSpec("image", (1, 28, 28), levels=2, classes=10), torch.arange(N) % 10
    for name in ("binary", "gru", "conv", "pixelcnn", "gated"):
        values = {key: value for key, value in PRESETS[name].items() if key in Config.model_fields}
        model = AutoRegressive(Config(**values | {"conditional": True}), spec).eval()
        cached = seconds(
            lambda model=model: model.sample(N, y, Options(), Rng(0).per_row(range(N)))
        )
        s = torch.zeros((N, model.length), dtype=torch.int64)
        forward = seconds(lambda model=model, s=s: [model.log_probs(s, y) for _ in range(2)]) / 2
        print(
            f"{name:9} {model.length} symbols: 64 digits in {cached:.2f} s cached, {forward * model.length:.1f} s without: {forward * model.length / cached:.0f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()

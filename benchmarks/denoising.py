"""Denoising on MNIST: PSNR of the noisy input, of a plain autoencoder's answer and of the denoiser's.

Both autoencoders have the same network (784-512-64) and budget; the denoiser trains at sigma 0.5 only.

    python benchmarks/denoising.py [--minutes 2]
"""

import argparse
from pathlib import Path

from header import header

import fromnoise as fn
from fromnoise.evaluate.reconstruction import denoising_psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--out", default="runs")
    args = parser.parse_args()
    header()

    def train(name, **o):
        return fn.train(
            "autoencoder",
            data="mnist",
            preset="denoising",
            minutes=args.minutes,
            out=Path(args.out) / name,
            **o,
        ).loaded

    denoiser = train("denoiser")
    plain = train("plain", corruption="none")
    print("sigma   noisy   plain AE   denoiser   (PSNR in dB, 10,000 test images)")
    for sigma in (0.25, 0.5, 0.75):
        a, b = (denoising_psnr(r, denoiser.model, sigma) for r in (denoiser, plain))
        trained = "trained" if sigma == 0.5 else "never trained on"
        print(
            f"{sigma:5.2f}  {a['noisy']:6.2f}  {b['denoised']:9.2f}  {a['denoised']:9.2f}   {trained}"
        )


if __name__ == "__main__":
    main()

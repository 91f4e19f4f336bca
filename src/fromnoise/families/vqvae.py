"""Vector-quantised autoencoder (VQ-VAE; van den Oord et al. 2017, arXiv:1711.00937): discrete codes.

    z = encoder(x), a grid of vectors;  s = argmin_k |z - e_k| at each position;  x_hat = decoder(e_s)
    Loss = mean (x_hat - x)^2 + mean (sg(z) - e_s)^2 + beta mean (z - sg(e_s))^2              (eq. 3)

sg stops the gradient. The argmin has none, so the decoder's gradient at e_s is copied to z (straight
through). The codebook learns by its own term and not by the moving averages of the paper's appendix:
a loss is a function of its arguments here, and the optimiser's state, the average of the weights and
a rollback apply to the codebook like to any weight. A code that is not the nearest one for some time
restarts at a vector of the batch.

Alone it samples the code of each position by its frequency there in the training set, as if the
positions were independent. The second stage of the paper is an auto-regressive model of s:
`train autoregressive --within RUN`.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, BlockCount, Channels, Dimensions, LearningRate, Size, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels
from ..nets.codebook import Codebook, grid_encoder_decoder
from ..nets.mlp import Activation

PATIENCE = 50  # training steps without use after which a code restarts
SETTLED = 0.8  # share of the training after which none does: the averaged weights need time


class Config(BaseConfig):
    codes: int = Field(64, ge=2, le=65_536, description="K, vectors of the codebook")
    code_dim: int = Field(16, ge=1, le=1024, description="numbers of a vector of the codebook")
    network: Literal["conv", "mlp"] = Field("conv", description="convolutional or fully connected")
    grid: Size = Field(8, description="conv: longest side of the grid of codes")
    width: Channels = Field(32, description="conv: channels at the finest resolution")
    blocks: BlockCount = Field(1, description="conv: residual blocks at the grid's resolution")
    places: Dimensions = Field(4, description="mlp: codes of one example")
    hidden: tuple[Width, ...] = Field(
        (256, 256), description="mlp: widths of the encoder's layers, mirrored in the decoder"
    )
    activation: Activation = Field("silu", description="mlp: non-linearity")
    commitment: float = Field(
        0.25, ge=0, le=100, description="beta, the weight of the distance of z from its codes"
    )
    restart: bool = Field(True, description="unused codes restart at a vector of the batch")
    lr: LearningRate = 2e-3


class Options(BaseConfig):
    pass


PRESETS = {
    "default": {},
    "small": dict(grid=4, codes=32),
    "colour": dict(codes=256, code_dim=32, width=48, blocks=2),
    "mlp": dict(network="mlp", places=16),
    "table": dict(network="mlp", hidden=(128, 128), places=4),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind != "image":
        return "table"
    if max(spec.shape[1:]) < 16:
        return "small"
    return "colour" if spec.shape[0] > 1 else "default"


class VQVAE(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if spec.kind == "tokens":
            raise UsageError("the family vqvae is for images, points and tables")
        if c.network == "conv" and spec.kind != "image":
            raise UsageError("--network conv is for images: use mlp for this data")
        self.encoder, self.decoder, self.grid = grid_encoder_decoder(
            c.network,
            spec.shape,
            c.code_dim,
            c.places,
            c.grid,
            c.hidden,
            c.width,
            c.blocks,
            c.activation,
        )
        self.codebook = Codebook(c.codes, c.code_dim)
        self.codes = c.codes
        self.code_dim = c.code_dim
        # of each code at each position of the grid
        self.register_buffer("frequencies", torch.full((*self.grid, c.codes), 1 / c.codes))
        self.squash = spec.kind == "image"  # images end in a sigmoid, scaled to [-1, 1]

    def phases(self):
        return (
            Phase("reconstruction", trains=("encoder", "codebook", "decoder"), lr=self.config.lr),
        )

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        x = batch.x
        z = self.encoder(x).float()  # B D h w
        learns = self.training and torch.is_grad_enabled()
        if learns and self.config.restart and self.progress < SETTLED:
            self.codebook.restart(
                z, rng.integers("restart", z[:, 0].numel(), (self.codes,)), PATIENCE
            )
        s = self.codebook.nearest(z)  # B h w
        counts = (
            self.codebook.count(s) if learns else torch.bincount(s.flatten(), minlength=self.codes)
        )
        e = self.codebook(s)  # B D h w
        x_hat = self.finish(self.decoder(z + (e - z).detach())).to(x.dtype)
        mse = (x_hat - x).square().mean()
        codebook = (z.detach() - e).square().mean()
        commitment = (z - e.detach()).square().mean()
        unit = 0.5 if self.squash else 1.0  # images on the scale [0, 1], as in the autoencoder
        reconstruction = 0.5 * sum_per_example((unit * (x_hat - x)).square()).mean()
        terms = {"reconstruction": reconstruction, "mse": mse, "commitment": commitment}
        return Loss(mse + codebook + self.config.commitment * commitment, terms | usage(counts))

    def finish(self, output: Tensor) -> Tensor:
        return 2 * output.sigmoid() - 1 if self.squash else output

    # -- codes -----------------------------------------------------------------------------------------------

    def quantise(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.nearest(self.encoder(x).float())

    def embed(self, s: Tensor) -> Tensor:
        return self.codebook(s)

    def nearest(self, z: Tensor) -> Tensor:
        return self.codebook.nearest(z)

    def from_codes(self, s: Tensor, y: Labels = None) -> Tensor:
        return self.finish(self.decoder(self.codebook(s))).float()

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.from_codes(self.quantise(x))

    # -- sampling --------------------------------------------------------------------------------------------

    def fit(self, batches, rng: Rng) -> None:
        """Share of each code at each place in the training set."""
        places = self.codes * torch.arange(
            self.grid[0] * self.grid[1], device=self.frequencies.device
        )

        def count(x):
            return torch.bincount(
                (self.quantise(x).flatten(1) + places).flatten(), minlength=self.frequencies.numel()
            )

        counts = sum(count(batch.x) for batch in batches()).view_as(self.frequencies)
        self.frequencies.copy_(counts / counts.sum(2, keepdim=True))

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        u = rng.uniform("codes", (n, *self.grid))[..., None]
        s = (self.frequencies.cumsum(2) <= u).sum(3)  # n h w
        return self.from_codes(s.clamp(max=self.codes - 1))


def usage(counts: Tensor) -> dict[str, Tensor]:
    """counts (K,) of the codes -> the share in use, and the perplexity exp(entropy) of the codes."""
    p = counts / counts.sum().clamp(min=1)
    return {
        "codes_used": (counts > 0).float().mean(),
        "perplexity": torch.special.entr(p).sum().exp(),
    }


FAMILY = VQVAE

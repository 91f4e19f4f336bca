"""A VAE whose every number is known."""

import math

import torch

from fromnoise.core.spec import DataSpec
from fromnoise.families.vae import VAE, Config
from helpers.probabilistic_pca import VARIANCE, W


def linear_vae() -> VAE:
    """A VAE whose decoder is the golden probabilistic PCA and whose encoder is its best mean-field posterior."""
    spec = DataSpec("vector", (5,))
    vae = VAE(
        Config(latent_dim=2, hidden=(), sigma=math.sqrt(VARIANCE), likelihood="gaussian"), spec
    ).double()
    M = W.T @ W + VARIANCE * torch.eye(2, dtype=torch.float64)
    vae.scale.logvar.fill_(math.log(VARIANCE))  # the constructor works in float32
    with torch.no_grad():
        encoder, decoder = vae.net.encoder.layers[0], vae.net.decoder.net.layers[0]
        encoder.weight.copy_(
            torch.cat([torch.linalg.solve(M, W.T), torch.zeros(2, 5, dtype=torch.float64)])
        )
        encoder.bias.copy_(
            torch.cat([torch.zeros(2, dtype=torch.float64), -(M / VARIANCE).diagonal().log()])
        )
        decoder.weight.copy_(W), decoder.bias.zero_()
    return vae

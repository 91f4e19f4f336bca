"""A probabilistic PCA with D = 5, K = 2 and one x: x = W z + noise, log p(x) known to nine digits."""

import torch


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


W = f64([[1, 0.2], [0.5, -0.4], [0, 0.8], [-0.3, 0.1], [0.6, 0.6]])
VARIANCE, X = 0.25, f64([0.5, -1, 0.3, 0.8, 0])
LOG_P = -5.864852352

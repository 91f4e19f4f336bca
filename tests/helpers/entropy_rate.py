"""The entropy rate of a Markov chain, which the best model of its text reaches."""

import numpy as np


def entropy_rate(transition) -> float:
    """Bits for each symbol of a stationary chain (Shannon 1948, section 7).

    transition (K, K): row i holds the probabilities of the symbol after i.
    """
    P = np.asarray(transition, np.float64)
    K = len(P)
    balance = np.vstack([P.T - np.eye(K), np.ones(K)])  # pi P = pi, sum pi = 1
    pi = np.linalg.lstsq(balance, np.eye(K + 1)[K])[0]
    return float(-(pi[:, None] * P * np.log2(np.where(P > 0, P, 1))).sum())

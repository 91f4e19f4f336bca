"""Batches of one fixed size.

Kernels round differently for different batch sizes. A model is therefore always called with full
blocks, so that a result does not depend on how many others were asked for.
"""

from collections.abc import Iterator


def fixed_blocks(n: int, size: int) -> Iterator[tuple[range, int]]:
    """The numbers of the rows of each block, ``size`` of them, and how many of these are below n.

    The caller fills the rows from n on with any valid input and drops their results.
    """
    for start in range(0, n, size):
        yield range(start, start + size), min(size, n - start)

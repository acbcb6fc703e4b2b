"""MNIST, handwritten digits."""

from __future__ import annotations

from bitspike.data.mnist_like import register
from bitspike.renamed import renamed

MNIST = register("mnist", ("mnist", "MNIST/raw"), tuple(str(digit) for digit in range(10)))


def __getattr__(name: str) -> object:
    return renamed(__name__, {"load_mnist_like": "bitspike.data.mnist_like"}, name)

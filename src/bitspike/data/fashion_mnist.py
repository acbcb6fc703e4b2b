"""Fashion-MNIST, pieces of clothing."""

from __future__ import annotations

from bitspike.data.mnist_like import register

FASHION_MNIST = register(
    "fashion_mnist",
    ("fashion_mnist", "FashionMNIST/raw"),
    (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
)

"""Products of two signals: the contract that folding, counting and lowering read, and its two kinds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from bitspike.checks import bad_value, one_of, time_first
from bitspike.layers.base import TimeLayer


class PairProduct(TimeLayer):
    """A layer of two inputs that is linear in each: sums of products of a value of the one and a value of the other.

    Factors on its inputs, [] or one per channel, come out as their product. Of spikes with alphabets it makes integers
    whose alphabet is derived (`bitspike.formats.multiplied`).
    """

    scaling = "product"

    @abstractmethod
    def summands(self, a: Sequence[int] | None, b: Sequence[int] | None) -> int:
        """How many products an output adds up, for inputs [T, B, C, ...] of these shapes; 0 where one must be known."""

    @abstractmethod
    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """The products, of inputs that fit."""

    @abstractmethod
    def fits(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Whether shapes with the same steps and samples fit in their other axes."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b [T, B, C, ...] with the same T and B → the products; raises `ValueError` where shapes do not fit."""
        name = type(self).__name__
        for x in (a, b):
            time_first(name, x, 3)
        if a.dim() != b.dim() or a.shape[:2] != b.shape[:2] or not self.fits(a.shape, b.shape):
            must = f"the inputs must be [T, B, C, ...] that fit: {self.extra_repr() or 'sizes equal or 1'}"
            raise bad_value(name, must, f"{list(a.shape)} and {list(b.shape)}", "check the layers before")
        return self.multiply(a, b)


class Product(PairProduct):
    """``a·b``, value by value; axes of size 1 behind the batch are repeated: a mask of tokens, channels or places.

    Both may be the same signal: its square.

    >>> mask, values = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[2.0, 3.0]]]])
    >>> Product()(mask, values).tolist()
    [[[[0.0, 3.0]]]]
    """

    def summands(self, a: Sequence[int] | None, b: Sequence[int] | None) -> int:
        """1."""
        return 1

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Value by value."""
        return a * b

    def fits(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Sizes are equal, or one of them is 1."""
        return all(n == m or 1 in (n, m) for n, m in zip(a[2:], b[2:], strict=True))


class MatrixProduct(PairProduct):
    """Products of matrices, head by head; the heads H are the channels: [T, B, H, m, n], k summands an output.

    - "none": ``a·b`` of [T, B, H, m, k] and [T, B, H, k, n];
    - "first": ``aᵀ·b`` of [T, B, H, k, m] and [T, B, H, k, n];
    - "second": ``a·bᵀ`` of [T, B, H, m, k] and [T, B, H, n, k].

    Args:
        transposed: which input is transposed first, as above.

    >>> a, b = torch.tensor([[[[[1.0, 2.0]]]]]), torch.tensor([[[[[3.0, -1.0]]]]])
    >>> MatrixProduct("second")(a, b).tolist()  # 1·3 − 2·1
    [[[[[1.0]]]]]
    """

    def __init__(self, transposed: str = "none") -> None:
        super().__init__()
        self.transposed: str = one_of("MatrixProduct", "transposed", transposed, ("none", "first", "second"))

    def summands(self, a: Sequence[int] | None, b: Sequence[int] | None) -> int:
        """k."""
        return 0 if a is None else a[-2 if self.transposed == "first" else -1]

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Head by head."""
        first = a.transpose(-1, -2) if self.transposed == "first" else a
        return torch.matmul(first, b.transpose(-1, -2) if self.transposed == "second" else b)

    def fits(self, a: Sequence[int], b: Sequence[int]) -> bool:
        """Five axes, as many heads, and the inner ones agree."""
        return len(a) == 5 and a[2] == b[2] and self.summands(a, b) == b[-1 if self.transposed == "second" else -2]

    def extra_repr(self) -> str:
        return {"none": "[m, k] and [k, n]", "first": "[k, m] and [k, n]"}.get(self.transposed, "[m, k] and [n, k]")

"""What attention does between its synapses and products: it puts values elsewhere, and adds them up over an axis."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import bad_value, integer, one_of, time_first
from bitspike.layers.base import TimeLayer

KINDS = ("maps", "rows", "tokens", "split", "merge", "spread")


class TokenView(TimeLayer):
    """The same values in another order of axes.

    - "maps": tokens [T, B, N, C] → maps [T, B, C, N, 1], as synapses, norms and neurons with channels read them;
    - "rows": images [T, B, C, H, W] → maps [T, B, C, N, 1], N = H·W, row by row;
    - "tokens": maps → tokens;
    - "split": maps → heads [T, B, H, C/H, N], head h with channels h·C/H to (h + 1)·C/H − 1;
    - "merge": heads → maps;
    - "spread": one value a head and token, [T, B, H, 1, N] → maps, the same for all channels of a head.

    Args:
        kind: as above. tokens: N. channels: C. heads: H, a divisor of C.

    Raises:
        ValueError: another kind, sizes out of range, or an input of another shape.
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, kind: str, tokens: int, channels: int, heads: int = 1) -> None:
        super().__init__()
        self.kind: str = one_of("TokenView", "kind", kind, KINDS)
        self.tokens: int = integer("TokenView", "tokens", tokens, 1, 2**20)
        self.channels: int = integer("TokenView", "channels", channels, 1, 2**20)
        self.heads: int = integer("TokenView", "heads", heads, 1, channels)
        if channels % heads:
            raise bad_value("TokenView", "heads must divide the channels", f"{heads} of {channels}", "choose a divisor")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample and step of the input; images in rows may have any sides with N places."""
        shapes = {
            "rows": (self.channels, self.tokens, 1),
            "tokens": (self.channels, self.tokens, 1),
            "maps": (self.tokens, self.channels),
            "split": (self.channels, self.tokens, 1),
            "merge": (self.heads, self.channels // self.heads, self.tokens),
            "spread": (self.heads, 1, self.tokens),
        }
        return shapes[self.kind]

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, *shape] → the same values in the other order; a view where torch has one."""
        time_first("TokenView", x, 4)
        fits = tuple(x.shape[2:]) == self.shape
        if self.kind == "rows":
            fits = x.dim() == 5 and x.shape[2] == self.channels and x.shape[3] * x.shape[4] == self.tokens
        if not fits:
            name = {"maps": "[N, C]", "merge": "[H, C/H, N]", "spread": "[H, 1, N]"}.get(self.kind, "[C, N, 1]")
            must = f"a sample must be {name} = {list(self.shape)}, for {self.tokens} tokens of {self.channels} channels"
            todo = "give it as many tokens and channels as the layer was made for, or make another one"
            raise bad_value("TokenView", must, list(x.shape[2:]), todo)
        if self.kind == "maps":
            return x.transpose(2, 3).unsqueeze(-1)
        if self.kind == "rows":
            return x.flatten(3).unsqueeze(-1)
        if self.kind == "tokens":
            return x.squeeze(-1).transpose(2, 3)
        if self.kind == "split":
            return x.squeeze(-1).unflatten(2, (self.heads, -1))
        if self.kind == "spread":
            x = x.expand(-1, -1, -1, self.channels // self.heads, -1)
        return x.flatten(2, 3).unsqueeze(-1)

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A factor per head is one of all its channels."""
        several = self.kind == "spread" and factor.dim() > 0 and len(factor) > 1
        return factor.repeat_interleave(self.channels // self.heads) if several else factor

    def mixes(self, shape: tuple[int, ...]) -> bool:
        """Whether axis 2 of the output holds values of several places of that axis."""
        return self.kind not in ("spread", "rows")

    def extra_repr(self) -> str:
        return f"{self.kind}, tokens={self.tokens}, channels={self.channels}, heads={self.heads}"


class ImageView(TimeLayer):
    """Maps [T, B, C, N, 1] → images [T, B, C, H, W], row by row: what `TokenView` "rows" has undone.

    Args:
        height, width: H and W of the image; N must be H·W.

    >>> import torch
    >>> ImageView(2, 3)(torch.arange(6.0).reshape(1, 1, 1, 6, 1)).tolist()
    [[[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]]]
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height: int = integer("ImageView", "height", height, 1, 2**20)
        self.width: int = integer("ImageView", "width", width, 1, 2**20)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H·W, 1] → a view [T, B, C, H, W]."""
        time_first("ImageView", x, 5)
        if x.dim() != 5 or x.shape[3] != self.height * self.width or x.shape[4] != 1:
            must = f"a sample must be [C, N, 1] with N = {self.height}·{self.width} tokens"
            todo = "give it as many tokens as the layer was made for, or make another one"
            raise bad_value("ImageView", must, list(x.shape[2:]), todo)
        return x.squeeze(-1).unflatten(3, (self.height, self.width))

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Channels stay where they are."""
        return factor

    def mixes(self, shape: tuple[int, ...]) -> bool:
        """Never."""
        return False

    def extra_repr(self) -> str:
        return f"{self.height}, {self.width}"


class AxisSum(TimeLayer):
    """The sum over one axis of a step, which stays with size 1: over tokens, or over the channels of a head.

    Args:
        axis: of [T, B, C, ...], at least 3: time, batch and channels stay.

    >>> import torch
    >>> AxisSum(3)(torch.tensor([[[[1.0, 2.0, 4.0]]]])).tolist()
    [[[[7.0]]]]
    """

    scaling = "linear"

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis: int = integer("AxisSum", "axis", axis, 3, 8)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, C, ...] → the same with size 1 at the axis."""
        time_first("AxisSum", x, self.axis + 1)
        return x.sum(self.axis, keepdim=True)

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int] | None:
        """All values of the axis, over 1."""
        return (0, 0) if shape is None else (shape[self.axis], 1)

    def pool_windows(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """As many values in every window, their sum divided by 1."""
        held = torch.full(tuple(1 if k == self.axis else n for k, n in enumerate(shape))[3:], shape[self.axis])
        return held, torch.ones_like(held)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"

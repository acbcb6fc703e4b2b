"""Interlaminar re-stimulation: channel attention on what the previous layer sent."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, one_of, time_first
from bitspike.layers.base import TimeLayer


def attention_kernel(channels: int) -> int:
    """``k = odd(|(log2 C + b)/γ|)``, γ = 2, b = 1: the whole part, made odd by adding 1 where it is even.

    Source: ECA-Net (arXiv 1910.03151), as commonly written; the paper was not re-read.

    >>> [attention_kernel(channels) for channels in (1, 16, 64, 128, 512)]
    [1, 3, 3, 5, 5]
    """
    integer("attention_kernel", "channels", channels, 1, 1_000_000)
    size = int(abs((math.log2(channels) + 1) / 2))
    return size if size % 2 else size + 1


class Restimulate(TimeLayer):
    """An attention that stimulates neurons again with the signal of the previous layer; made for multi-bit spikes.

    The previous layer's signal times an attention per channel: ``x̃_t = a_t ⊙ x_t``.

        z_t = mean over H, W of x_t          a_t = σ(Conv1D_k(z_t))          k weights for all channels, no bias

    The sum ``I_t + P(x̃_t)`` with the current of the present layer is a node of its own, as is a projection P. The
    attention is a real number that depends on the input: no weight can absorb it, so it stays, and it costs one
    multiplication a value and step. With 3 axes there is no mean: z = x.

    Source: multi-bit mechanism (arXiv 2407.05739): that efficient channel attention on the previous layer's signal
    stimulates the neurons again is confirmed; that x is its spikes, that each step has an attention of its own, the
    sum with the current and k are a reconstruction [?]. Attention: ECA-Net (arXiv 1910.03151), as commonly written.

    Args:
        channels: C. attention: "efficient", or "one": a = 1, no parameters and no cost, the control that leaves the
            connection and takes the attention.
        over: "step": an attention per step; "first": that of the first step for all of them, kept by a stream;
            "whole": z is the mean over all steps as well, one attention for all of them, so a stream refuses it.
        kernel: k, odd; default `attention_kernel`. Weights start uniform in ±1/√k.

    Raises:
        ValueError: an even kernel, an unknown attention, or an input with other axes or channels.

    >>> layer = Restimulate(2, kernel=1)
    >>> _ = torch.nn.init.zeros_(layer.weight)
    >>> layer(torch.tensor([[[3.0, -1.0]]])).tolist()  # σ(0) = ½
    [[[1.5, -0.5]]]
    """

    def __init__(
        self, channels: int, attention: str = "efficient", over: str = "step", kernel: int | None = None
    ) -> None:
        super().__init__()
        self.channels: int = integer("Restimulate", "channels", channels, 1, 1_000_000)
        self.attention: str = one_of("Restimulate", "attention", attention, ("efficient", "one"))
        self.over: str = one_of("Restimulate", "over", over, ("step", "first", "whole"))
        self.kernel: int = integer(
            "Restimulate", "kernel", attention_kernel(channels) if kernel is None else kernel, 1, 1_000_001
        )
        if self.kernel % 2 == 0:
            raise bad_value("Restimulate", "the kernel must be odd", kernel, "add 1")
        self.weight: nn.Parameter | None
        if attention == "one":
            self.scaling: str = "linear"
            self.keeps_format: bool = True
            self.weight = None
        else:
            self.causal: bool = over != "whole"
            self.stateful: bool = over == "first"
            self.weight = nn.Parameter(torch.empty(self.kernel).uniform_(-1, 1) / math.sqrt(self.kernel))

    def attend(self, x: Tensor) -> Tensor:
        """Attention a of x [T, B, C, H, W] or [T, B, C]: [T, B, C] ([1, B, C] if one serves all steps), in (0, 1)."""
        x = x[:1] if self.over == "first" else x
        z = x.mean((3, 4)) if x.dim() == 5 else x
        if self.over == "whole":
            z = z.mean(0, keepdim=True)
        if self.weight is None:
            return torch.ones_like(z)
        mixed = F.conv1d(z.flatten(0, 1).unsqueeze(1), self.weight.reshape(1, 1, -1), padding=self.kernel // 2)
        return mixed.squeeze(1).unflatten(0, z.shape[:2]).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, C, H, W] or [T, B, C] → the same shape."""
        self._check(x)
        return x if self.weight is None else self._scaled(x, self.attend(x))

    def stream_step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """One chunk and the attention of the first step."""
        self._check(x)
        a = self.attend(x) if state is None else state
        return self._scaled(x, a), a

    def _check(self, x: Tensor) -> None:
        time_first("Restimulate", x, 3)
        if x.dim() not in (3, 5) or x.shape[2] != self.channels:
            must = f"the input must be [T, B, {self.channels}] or [T, B, {self.channels}, H, W]"
            raise bad_value("Restimulate", must, list(x.shape), "check the layer before")

    @staticmethod
    def _scaled(x: Tensor, a: Tensor) -> Tensor:
        return x * (a[..., None, None] if x.dim() == 5 else a)

    def extra_repr(self) -> str:
        kernel = f", over={self.over}, kernel={self.kernel}" if self.weight is not None else ""
        return f"channels={self.channels}, attention={self.attention}{kernel}"

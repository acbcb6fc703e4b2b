"""Layers that `upgrade` leaves behind: any module with time merged into its batch, and convolutions of any kind."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from bitspike.checks import bad_value, integer, time_first
from bitspike.layers import Synapse, TimeLayer, merge_time, split_time
from bitspike.quantizers import Float
from bitspike.upgrade.pools import axes_of, sums, windows

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Merged(TimeLayer):
    """Runs any module of torch once on all time steps.

    A module for [B, ...], run once on all time steps: [T, B, ...] → [T·B, ...] → module → [T, B, ...].

    What mixes samples of the batch would mix time steps; `bitspike.upgrade` checks that nothing does.

    Args:
        body: takes one tensor or more. where: for messages.
        scaling, keeps_format: what the body does to a factor on its input and to spikes, see `TimeLayer`.
        by_step: in training every step runs by itself, so that batch norms inside see one step at a time.

    >>> Merged(nn.LayerNorm(4), "norm")(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        body: nn.Module,
        where: str,
        scaling: str = "none",
        keeps_format: bool = False,
        by_step: bool = False,
    ) -> None:
        super().__init__()
        self.body: nn.Module = body
        self.where: str = where
        self.by_step: bool = by_step
        self.scaling: str = scaling
        self.keeps_format: bool = keeps_format

    def forward(self, *inputs: Tensor) -> Tensor:
        """Tensors [T, B, ...] → [T, B, ...]."""
        for x in inputs:
            time_first(self.where, x, indices=True)
        if self.by_step and self.training:
            return torch.cat([self._merged(*(x[t : t + 1] for x in inputs)) for t in range(len(inputs[0]))])
        return self._merged(*inputs)

    def _merged(self, *inputs: Tensor) -> Tensor:
        steps, batch = inputs[0].shape[:2]
        y: Any = self.body(*(merge_time(self.where, x, x.dim(), indices=True) for x in inputs))
        if y.dim() == 0 or y.shape[0] != steps * batch:
            must = f"axis 0 must stay the batch, here T·B = {steps}·{batch}"
            raise bad_value(self.where, must, list(y.shape), "use x.shape[0] for the batch, and keep it in front")
        return y.unflatten(0, (steps, batch))  # type: ignore[no-any-return]

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int] | None:
        """Of torch's average pools: what the windows hold, and what they are divided by."""
        if not axes_of(self.body):
            return None
        if shape is None:
            return 0, 0
        return sums(self.body, shape[3:]) if len(shape) == axes_of(self.body) + 3 else None

    def pool_windows(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """The same for every window."""
        axes = axes_of(self.body)
        return windows(self.body, shape[3:]) if axes and len(shape) == axes + 3 else None

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A per-channel factor goes where the body moves its channels; it is 1 where the body puts zeros alone.

        Where a channel of the output has values of several (`mixes`), the factor must be the same for all of them.
        """
        if not factor.dim() or not self._moves():
            return factor
        taken = self._taken(shape).amax(1)
        return torch.cat([factor.new_ones(1), factor])[taken.to(factor.device)]

    def mixes(self, shape: tuple[int, ...]) -> bool:
        """Whether a channel of the output has values of several channels, as behind a pixel shuffle."""
        if not self._moves():
            return False
        taken = self._taken(shape)
        return bool(((taken != taken.amax(1, keepdim=True)) & (taken > 0)).any())

    def _moves(self) -> bool:
        """Whether the body may move channels; neither dropout nor resizing does."""
        return self.keeps_format and self.scaling == "linear" and not isinstance(self.body, _DropoutNd) and self.alone

    @property
    def reads_indices(self) -> bool:
        """Whether an embedding is in the body, whose input are numbers of words."""
        return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in self.body.modules())

    @property
    def alone(self) -> bool:
        """Whether the body takes one tensor; of several that a linear one takes only the sizes of the others count."""
        return (
            not isinstance(self.body, fx.GraphModule) or sum(n.op == "placeholder" for n in self.body.graph.nodes) == 1
        )

    @torch.no_grad()
    def _taken(self, shape: tuple[int, ...]) -> Tensor:
        """Which channels of [T, B, C, ...] of this shape the values of every output channel are, int64 [C', places]:
        1 + the channel, 0 for zeros that are put between."""
        device = next((t.device for t in (*self.body.parameters(), *self.body.buffers())), None)
        shape = shape if len(shape) > 2 else (*shape, 1)
        numbers = torch.arange(1, shape[2] + 1, dtype=torch.float64, device=device)
        numbers = numbers.reshape(1, -1, *[1] * (len(shape) - 3)).expand(1, *shape[2:])
        moved: Tensor = self.body(numbers)[0]
        return moved.reshape(len(moved) if moved.dim() else 1, -1).round().long()

    def extra_repr(self) -> str:
        return f"scaling={self.scaling}" + (", by_step" if self.by_step else "")


class SameSize(TimeLayer):
    """Passes values on, if they have the shape that the code behind was written down for: [T, B, *shape].

    >>> SameSize((2, 3))(torch.ones(1, 5, 2, 3)).shape
    torch.Size([1, 5, 2, 3])
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...] → the same."""
        if tuple(x.shape[2:]) != self.shape:
            must = f"a sample must have the shape {list(self.shape)} of the upgrade's, whose sizes its code has read"
            raise bad_value("upgraded network", must, list(x.shape[2:]), "upgrade again with a sample of this shape")
        return x

    def extra_repr(self) -> str:
        return f"{self.shape}"


class ZeroPad(TimeLayer):
    """Zeros around the last axes, as ``F.pad`` puts them: around images, or as further channels of a shortcut.

    A spike factor passes through it; per channel it becomes 1 on the padded ones, where every value is 0.

    Args:
        pads: (before, behind) of the last axis, then of the one before it, and so on; >= 0, at most up to the channels.

    >>> ZeroPad((0, 0, 0, 0, 1, 2))(torch.ones(1, 1, 2, 3, 3)).sum((3, 4)).tolist()
    [[[0.0, 9.0, 9.0, 0.0, 0.0]]]
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, pads: tuple[int, ...]) -> None:
        super().__init__()
        self.pads: tuple[int, ...] = tuple(integer("ZeroPad", "a pad", pad, 0, 2**20) for pad in pads)
        if not pads or len(pads) % 2:
            raise bad_value("ZeroPad", "pads must be pairs (before, behind)", pads, "give both numbers of every axis")

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, ...] → the same, longer where it is padded."""
        time_first("ZeroPad", x, 2 + len(self.pads) // 2)
        return F.pad(x, self.pads)

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A per-channel factor grows with the channels."""
        before, behind = (*self.pads, *[0] * 2 * len(shape))[2 * (len(shape) - 3) :][:2]
        return torch.cat([factor.new_ones(before), factor, factor.new_ones(behind)]) if factor.dim() else factor

    def extra_repr(self) -> str:
        return f"{self.pads}"


class Convolution(Synapse):
    """A convolution in 1, 2 or 3 dimensions with any stride, padding, dilation and groups.

    Args:
        conv: torch's layer; its parameters are taken over, not copied.

    >>> Convolution(nn.Conv1d(2, 4, 3, dilation=2))(torch.zeros(2, 5, 2, 9)).shape
    torch.Size([2, 5, 4, 5])
    """

    def __init__(self, conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight: nn.Parameter = conv.weight  # type: ignore[assignment]
        self.bias: nn.Parameter | None = conv.bias  # type: ignore[assignment]
        self.quantizer: Float = Float()
        self.stride: tuple[int, ...] = conv.stride
        self.dilation: tuple[int, ...] = conv.dilation
        self.groups: int = conv.groups
        self.padding_mode = conv.padding_mode
        self.padding: Any = conv.padding if conv.padding_mode == "zeros" else 0
        self.border: list[int] = list(conv._reversed_padding_repeated_twice)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [T, B, I, ...] with a given weight."""
        merged = merge_time("Convolution", x, weight.dim() + 1)
        if merged.shape[1] != weight.shape[1] * self.groups:
            must = f"the input must have {weight.shape[1] * self.groups} channels"
            raise bad_value("Convolution", must, list(x.shape), "check the layer before")
        if self.padding_mode != "zeros":
            merged = F.pad(merged, self.border, mode=self.padding_mode)
        convolve = _CONVOLVE[weight.dim() - 2]
        return split_time(convolve(merged, weight, bias, self.stride, self.padding, self.dilation, self.groups), x)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """Weights per output position; padding is counted as if it were data."""
        return self.weight.numel() * int(torch.Size(out_shape[3:]).numel())

    def extra_repr(self) -> str:
        o, i, *kernel = self.weight.shape
        shape = f"{i * self.groups}, {o}, kernel={kernel}, stride={self.stride}, padding={self.padding}"
        return f"{shape}, dilation={self.dilation}, groups={self.groups}"

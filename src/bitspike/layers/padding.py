"""Sequences of different lengths in one batch: which steps are of them, and which only fill it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import bad_type, bad_value


@dataclass(frozen=True, eq=False)
class Padded:
    """A batch of sequences that end after different numbers of steps: a network runs its values in `padded`.

    Args:
        values: ``[B, T, ...]``, what stands behind the end of a sequence being of no account.
        lengths: int64 ``[B]``, 1 to T.

    Raises:
        TypeError, ValueError: lengths of another kind, or outside 1 to T.
    """

    values: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        check_lengths("Padded", self.lengths, self.values.shape[0], self.values.shape[1])

    def __len__(self) -> int:
        return len(self.lengths)


_ACTIVE: list[Tensor] = []


def valid_lengths() -> Tensor | None:
    """Lengths [B] of the sequences that run in the innermost `padded` around this call, or None."""
    return _ACTIVE[-1] if _ACTIVE else None


@contextmanager
def padded(lengths: Tensor | None) -> Iterator[None]:
    """A network inside runs sequences [T, B, ...] of which sample b has ``lengths[b]`` steps; None: all have T.

    Batch norms in training take the statistics of the steps that are, a mean read-out averages over them. As nothing
    before a step depends on what comes later, all else needs to know nothing: what a sample gives is what it gives
    alone. Networks of which that is not true (`Windows`, a `Squeeze` that averages) are refused by `fit`.

    Args:
        lengths: int64 [B], on the device of the network.

    Raises:
        ValueError: inside `torch.compile`.

    >>> from bitspike.layers import MeanReadout
    >>> with padded(torch.tensor([1, 2])):
    ...     MeanReadout()(torch.tensor([[[4.0], [4.0]], [[9.0], [0.0]]])).flatten().tolist()
    [4.0, 2.0]
    """
    if lengths is None:
        yield
        return
    if torch.compiler.is_compiling():
        raise bad_value("padded", "the network must run uncompiled", "torch.compile", "set train.compile=false")
    _ACTIVE.append(lengths)
    try:
        yield
    finally:
        _ACTIVE.pop()


def refuse_padded(layer: str) -> None:
    """Raise inside `padded`, where a layer that averages over steps would average over padding, too."""
    if valid_lengths() is not None:
        must = "no layer may change the number of steps of sequences of different lengths"
        raise bad_value("padded", must, layer, "take another network, or sequences of one length")


def values_of(x: Tensor | Padded) -> Tensor:
    """The values of a batch, padded or not."""
    return x.values if isinstance(x, Padded) else x


def lengths_of(x: Tensor | Padded) -> Tensor | None:
    """Lengths of the sequences of a batch; None where all its steps are of them."""
    return x.lengths if isinstance(x, Padded) else None


def step_mask(lengths: Tensor, steps: int) -> Tensor:
    """bool [T, B]: whether step t is one of sample b.

    >>> step_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 1], [0, 1], [0, 1]]
    """
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def like(mask: Tensor, x: Tensor) -> Tensor:
    """A mask [T, B] with axes of size 1, to broadcast over x [T, B, ...]."""
    if mask.shape != x.shape[:2]:
        must = "a layer must get as many steps and samples as there are lengths for"
        raise bad_value("padded", must, f"{list(x.shape[:2])} and {list(mask.shape)}", "see bitspike.layers.padded")
    return mask.reshape(*mask.shape, *[1] * (x.dim() - 2))


def mean_over_steps(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, K] → [B, K], the mean of the steps that are; [B, K] as it is.

    >>> mean_over_steps(torch.tensor([[[4.0]], [[9.0]]]), torch.tensor([1])).item()
    4.0
    """
    if x.dim() != 3:
        return x
    if lengths is None:
        return x.mean(0)
    kept = like(step_mask(lengths, len(x)), x)
    return torch.where(kept, x, x.new_zeros(())).sum(0) / lengths.unsqueeze(1)


def check_lengths(where: str, lengths: object, samples: int, steps: int) -> Tensor:
    """Return lengths int64 [B], each 1 to T, or raise."""
    if not isinstance(lengths, Tensor) or lengths.dtype != torch.int64:
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise bad_type(where, "lengths must be an int64 tensor [B]", got, "convert them")
    if lengths.shape != (samples,):
        raise bad_value(where, f"lengths must be [{samples}]", list(lengths.shape), "pass one a sample")
    if lengths.device.type == "cpu" and samples and not 1 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        got = f"{int(lengths.min())} to {int(lengths.max())}"
        raise bad_value(where, f"lengths must lie in [1, {steps}], the steps of the batch", got, "drop empty sequences")
    return lengths

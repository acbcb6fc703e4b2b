"""The contract of an encoder: sample in, sequence out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, floating, is_indices
from bitspike.formats import SpikeFormat
from bitspike.layers.base import TimeLayer
from bitspike.registry import Registry

ENCODERS: Registry[type[Encoder]] = Registry("encoder")
"""Encoders by name; ``T`` is their first argument, every other one has a default and is an option of recipes."""


class Encoder(TimeLayer):
    """Sample [B, ...] → sequence [T, B, ...]; streams are fed with what it would emit.

    Samples are still, or sequences with a time axis of their own, [B, T, ...]: one encoder reads one of both.

    What it draws comes from a `Noise` that it holds, so that training draws anew and everything else repeats.

    Attributes:
        T: time steps.
        format: alphabet of what it emits; None where it emits real values.
        intensities: it reads intensities in [0, 1], so images are scaled to them and not normalised.
        repeats: every step is the sample itself, as an ANN reads it.
        sequences: it reads samples with a time axis, [B, T, ...], and gives [T, B, ...]; else still ones.
        ragged: such samples may have fewer steps than T.
    """

    T: int
    format: SpikeFormat | None = None
    intensities: bool = False
    repeats: bool = False
    sequences: bool = False
    ragged: bool = False

    def _check(self, x: Tensor) -> None:
        where = type(self).__name__
        if not (self.repeats and is_indices(x)):
            floating(where, x)
        if x.dim() < 2:
            raise bad_value(where, "the input must be [B, ...]", list(x.shape), "add a batch axis")
        if self.sequences and (x.dim() < 3 or not (1 if self.ragged else self.T) <= x.shape[1] <= self.T):
            must = f"the input must be sequences [B, T, ...] of T = {self.T} steps{' or fewer' * self.ragged}"
            raise bad_value(where, must, list(x.shape), "put the steps behind the batch, and give both the same T")
        # On the CPU a look at the values waits for nothing; elsewhere the borders look (fit, evaluate, fold).
        if self.intensities and type(x) is Tensor and x.device.type == "cpu" and not torch.compiler.is_compiling():
            check_intensities(where, x)


def check_intensities(where: str, x: Tensor) -> None:
    """Raise `ValueError` unless all values lie in [0, 1] (NaN does not); waits for the device.

    >>> check_intensities("net", torch.tensor([[0.0, 1.0]]))
    >>> check_intensities("net", torch.tensor([[0.0, 1.5]]))
    Traceback (most recent call last):
        ...
    ValueError: net: the input must be intensities in [0, 1], got 0 to 1.5; scale it, e.g. x / 255, without normalising.
    """
    if not x.numel():
        return
    low, high = (float(end) for end in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        todo = "scale it, e.g. x / 255, without normalising"
        raise bad_value(where, "the input must be intensities in [0, 1]", f"{low:g} to {high:g}", todo)


def check_encoder_type(where: str, encoder: object, T: int) -> Encoder:
    """Return ``encoder`` if it is an `Encoder` of T steps, else raise."""
    if not isinstance(encoder, Encoder):
        got = encoder.__name__ if isinstance(encoder, type) else type(encoder).__name__
        raise bad_type(where, "encoder must be a name or an Encoder", got, 'pass "repeat" or an object')
    if encoder.T != T:
        raise bad_value(where, f"the encoder must have T = {T}", encoder.T, "give both the same T")
    return encoder


def reads_intensities(model: nn.Module) -> bool:
    """Whether a network hands its input to an encoder that reads intensities, as its attribute ``encoder``."""
    encoder = getattr(model, "encoder", None)
    return isinstance(encoder, Encoder) and encoder.intensities

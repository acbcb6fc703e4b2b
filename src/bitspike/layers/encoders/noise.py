"""Random numbers that are a function of a seed, a step and a place: any batch gives a sample the same ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, floating, integer, one_of
from bitspike.sealed import Sealed

KINDS = ("fresh", "fixed")

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


class Noise(Sealed, nn.Module):
    """Where a layer's random numbers come from: one int64 seed a sample.

    In evaluation mode, or where ``kind`` is "fixed", the seed of a sample is a function of ``seed`` and its values.
    In training mode a word is mixed in: the one that `set_noise` has given, else one drawn at every call from torch's
    generator of the device, as dropout draws. Then one sample gets other noise at every call, or for every key.

    Args:
        where: the layer, for messages. seed: base seed, 0 to 2^62. kind: "fresh" or "fixed".

    >>> noise, x = Noise("Poisson"), torch.rand(2, 3)
    >>> bool((noise(x) == noise(x)).any()), torch.equal(noise.eval()(x), noise(x))
    (False, True)
    """

    word: Tensor | None

    def __init__(self, where: str, seed: int = 0, kind: str = "fresh") -> None:
        super().__init__()
        self.where = where
        self.seed: int = integer(where, "seed", seed, 0, 2**62)
        self.kind: str = one_of(where, "noise", kind, KINDS)
        self.register_buffer("word", None, persistent=False)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, ...] → int64 [B]; ``seeds`` int64 [B] is returned where it is given."""
        floating(self.where, x)
        if seeds is not None:
            if seeds.dtype != torch.int64:
                raise bad_type(self.where, "seeds must be int64 [B]", seeds.dtype, "pass integers")
            if seeds.shape != x.shape[:1]:
                raise bad_value(self.where, f"seeds must be [{x.shape[0]}]", list(seeds.shape), "pass one a sample")
            return seeds
        own = content_seeds(x, self.seed)
        if self.kind == "fixed" or not self.training:
            return own
        word = self.word
        if word is None:
            word = torch.randint(-(2**63), 2**63 - 1, (), device=x.device)
        return _mix(own ^ word)

    def extra_repr(self) -> str:
        return f"seed={self.seed}, kind={self.kind!r}"


def set_noise(model: nn.Module, *key: int) -> None:
    """Say what the noise of a network's encoders is a function of, in training: a key such as (seed, epoch).

    With it a sample's noise depends on the key and the sample's values alone: not on the batch, its order or the
    number of processes, so that a run that was cut and goes on sees what it would have seen. A key holds until the next
    one, so a loop sets one an epoch; without a key every call draws from torch's generator again. It changes nothing in
    evaluation mode and where ``noise="fixed"``.

    Args:
        model: any module that holds encoders, or none. key: ints in [0, 2^63); none: no key.

    >>> from bitspike.layers import Poisson
    >>> encoder, x = Poisson(4), torch.rand(2, 64)
    >>> set_noise(encoder, 0, 1); first = encoder(x)
    >>> set_noise(encoder, 0, 2); second = encoder(x)
    >>> set_noise(encoder, 0, 1); torch.equal(encoder(x), first), torch.equal(first, second)
    (True, False)
    """
    for part in key:
        integer("set_noise", "a part of the key", part, 0, 2**63 - 1)
    tensors = (*model.parameters(), *model.buffers())
    device = tensors[0].device if tensors else torch.device("cpu")
    word = _word(key).to(device) if key else None
    for module in model.modules():
        if isinstance(module, Noise):
            if word is None or module.word is None:
                module.word = None if word is None else word.clone()
            else:
                module.word.copy_(word)  # in its place, where a compiled graph may look for it


def _word(key: tuple[int, ...]) -> Tensor:
    """One int64 that depends on every part of a key and their order."""
    state = torch.zeros((), dtype=torch.int64)
    for part in key:
        state = _mix(state ^ part)
    return state


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64 finaliser on int64 tensors (wrapping)."""
    x = (x + _GOLDEN) ^ _shift(x + _GOLDEN, 30)
    x = x * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def content_seeds(x: Tensor, seed: int) -> Tensor:
    """One int64 seed per sample from its own values: the same sample gets the same noise in any batch.

    Args:
        x: [B, ...] floating. seed: base seed.
    """
    bits = x.detach().float().contiguous().view(torch.int32).to(torch.int64).flatten(1)
    place = _mix(torch.arange(bits.shape[1], device=x.device))
    return _mix(_mix(bits ^ place).sum(1) + seed)


def uniform_noise(seeds: Tensor, steps: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float32 [steps, B, *shape], a pure function of (seed, step, position)."""
    size = 1
    for side in shape:
        size *= side
    counter = torch.arange(steps * size, device=seeds.device).reshape(steps, 1, size)
    drawn = _mix(_mix(counter) + seeds.reshape(1, -1, 1))
    return (_shift(drawn, 40).float() / 2.0**24).reshape(steps, seeds.shape[0], *shape)

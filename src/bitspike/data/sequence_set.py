"""One set of samples with a time axis of their own, with classes or numbers to be met."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from bitspike import checks
from bitspike.data import validate

DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float32)
"""What samples may be kept as; a batch is float32."""

_EXACT = 2**24  # float32 holds all integers up to here


@dataclass(frozen=True, eq=False, repr=False)
class SequenceSet:
    """Sequences with labels, or with targets of a regression; integers stay as they are until a batch is made.

    Its attributes are called as those of `ImageSet`, so that both train alike. Networks read it through an encoder of
    sequences, such as `bitspike.layers.Frames`.

    Args:
        images: the sequences, ``[N, T, ...]`` with at least one axis behind the steps, N, T >= 1: uint8, int8, int16,
            int32 (up to 2^24) or finite float32.
        labels: int64 ``[N]``, values 0 to ``len(classes) - 1``; or targets, float32 ``[N, K]``, finite.
        classes: names of the classes, or of the K values of a target, without repeats.
        name: what messages and reports call the set; no part of `digest`.
        top: the value that maps to 1.0 in a batch, 1 to 2^24: 255 for video, 1 for counts of events.

    Raises:
        TypeError: a tensor of another dtype or an argument of another kind.
        ValueError: an empty set, shapes that disagree, or a value outside its range.

    >>> counts = torch.zeros(4, 10, 2, 8, 8, dtype=torch.uint8)
    >>> SequenceSet(counts, torch.arange(4) % 2, ("left", "right"), "toy")
    SequenceSet('toy': 4 sequences of 10 steps 2x8x8, 2 classes)
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str
    top: int = 1
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()

    def __post_init__(self) -> None:
        where = f"SequenceSet {self.name!r}"
        held = self.images.dtype if isinstance(self.images, torch.Tensor) else None
        if held not in DTYPES:
            got = held or type(self.images).__name__
            must = (
                f"sequences must be a tensor [N, T, ...] of {', '.join(str(d).removeprefix('torch.') for d in DTYPES)}"
            )
            raise checks.bad_type(where, must, got, "convert them")
        validate.tensor(where, "sequences", self.images, held, "[N, T, ...]", max(self.images.dim(), 3))
        validate.classes(where, self.classes)
        checks.integer(where, "top", self.top, 1, _EXACT)
        if held.is_floating_point:
            checks.finite(where, "sequences", self.images)
        elif held == torch.int32:
            low, high = (int(end) for end in self.images.aminmax())
            if max(-low, high) > _EXACT:
                must = "integers must lie within ±2^24, which float32 holds exactly"
                raise checks.bad_value(where, must, f"{low} to {high}", "scale them")
        validate.targets(where, self.labels, self.classes)
        if len(self.images) != len(self.labels) or self.images.device != self.labels.device:
            got = f"{len(self.images)} on {self.images.device} and {len(self.labels)} on {self.labels.device}"
            raise checks.bad_value(where, "sequences and labels must be equally many on one device", got, "pair them")

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers."""
        return self.labels.is_floating_point()

    @property
    def steps(self) -> int:
        """T, the time steps of a sequence."""
        return self.images.shape[1]

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of one step of one sequence."""
        return tuple(self.images.shape[2:])

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.step_shape))
        kind = "values" if self.regression else "classes"
        return (
            f"SequenceSet({self.name!r}: {len(self)} sequences of {self.steps} steps {size}, "
            f"{len(self.classes)} {kind})"
        )

    def digest(self) -> str:
        """Return the SHA-256, in hex, of contents, dtype, shapes, names and top; the set's own name is left out."""
        shapes = [str(self.images.dtype), list(self.images.shape), list(self.labels.shape)]
        head = ["bitspike SequenceSet 1", *shapes, list(self.classes), self.top, self.regression]
        state = hashlib.sha256(json.dumps(head).encode() + b"\n")
        samples = self.images.cpu().contiguous().numpy()
        state.update(samples.astype(samples.dtype.newbyteorder("<"), copy=False).data)
        state.update(self.labels.cpu().contiguous().numpy().astype("<f4" if self.regression else "<i8").data)
        return state.hexdigest()

    def subset(self, indices: torch.Tensor | Sequence[int], name: str | None = None) -> SequenceSet:
        """Return the samples at ``indices``; as `ImageSet.subset`."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        validate.indices(f"SequenceSet {self.name!r}.subset", chosen, len(self))
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], name=name or self.name)

    def to(self, device: torch.device | str) -> SequenceSet:
        """Return the set with its tensors on ``device``, kept as they are kept here."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def ends(self) -> torch.Tensor:
        """Return the least and the greatest value of a batch, ``[2]``."""
        return self.normalise(torch.stack(self.images.aminmax()))

    def constants(self) -> None:
        """Return None: there are no constants to normalise by."""

    def normalise(self, images: torch.Tensor, constants: None = None) -> torch.Tensor:
        """Return the sequences as float32, over ``top``.

        >>> one = torch.tensor([[[0], [51]]], dtype=torch.uint8)
        >>> SequenceSet(one, torch.tensor([0]), ("any",), "toy", top=255).normalise(one).flatten().tolist()
        [0.0, 0.20000000298023224]
        """
        floats = images.to(torch.float32)
        # a tensor: by a plain number, CUDA multiplies by the rounded reciprocal instead of dividing
        return floats if self.top == 1 else floats / torch.tensor(float(self.top), device=floats.device)

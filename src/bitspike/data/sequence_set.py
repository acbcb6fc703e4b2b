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
from bitspike.layers.padding import check_lengths

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
        labels: int64 ``[N]``, values 0 to ``len(classes) - 1``; or targets, float32 ``[N, K]``, finite; or sets of
            labels, bool ``[N, K]``.
        classes: names of the classes, of the K values of a target or of the K labels, without repeats.
        name: what messages and reports call the set; no part of `digest`.
        top: the value that maps to 1.0 in a batch, 1 to 2^24: 255 for video, 1 for counts of events.
        lengths: int64 ``[N]``, 1 to T, where sequences end after different numbers of steps and are 0 from there on
            (`bitspike.data.pad`); batches are then `bitspike.layers.Padded`. None: all have T steps.

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
    lengths: torch.Tensor | None = None
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
        if self.lengths is not None:
            check_lengths(where, self.lengths, len(self), self.steps)
            if self.images.device.type == "cpu" and bool(self.images[~self._kept(self.lengths)].any()):
                must = "what stands behind the end of a sequence must be 0"
                raise checks.bad_value(where, must, "other numbers", "make it with bitspike.data.pad")

    def _kept(self, lengths: torch.Tensor) -> torch.Tensor:
        """bool [N, T]: which steps are of the sequences."""
        return torch.arange(self.steps, device=lengths.device) < lengths.unsqueeze(1)

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers."""
        return self.labels.is_floating_point()

    @property
    def multilabel(self) -> bool:
        """Whether the targets are sets of labels."""
        return self.labels.dtype == torch.bool

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
        steps = str(self.steps) if self.lengths is None else f"{int(self.lengths.min())} to {self.steps}"
        kind = "values" if self.regression else "labels" if self.multilabel else "classes"
        return f"SequenceSet({self.name!r}: {len(self)} sequences of {steps} steps {size}, {len(self.classes)} {kind})"

    def digest(self) -> str:
        """Return the SHA-256, in hex, of contents, dtype, shapes, names and top; the set's own name is left out."""
        shapes = [str(self.images.dtype), list(self.images.shape), list(self.labels.shape)]
        head = ["bitspike SequenceSet 1", *shapes, list(self.classes), self.top, self.regression]
        state = hashlib.sha256(json.dumps(head).encode() + b"\n")
        samples = self.images.cpu().contiguous().numpy()
        state.update(samples.astype(samples.dtype.newbyteorder("<"), copy=False).data)
        state.update(self.labels.cpu().contiguous().numpy().astype("<f4" if self.regression else "<i8").data)
        if self.lengths is not None:
            state.update(b"lengths" + self.lengths.cpu().numpy().astype("<i8").tobytes())
        return state.hexdigest()

    def subset(self, indices: torch.Tensor | Sequence[int], name: str | None = None) -> SequenceSet:
        """Return the samples at ``indices``; as `ImageSet.subset`."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        validate.indices(f"SequenceSet {self.name!r}.subset", chosen, len(self))
        lengths = None if self.lengths is None else self.lengths[chosen]
        name = name or self.name
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], name=name, lengths=lengths)

    def equal(self) -> SequenceSet:
        """Return the sequences with the median number of steps at least, cut to it: a set without lengths."""
        if self.lengths is None:
            return self
        steps = int(self.lengths.sort().values[(len(self) - 1) // 2])
        long = self.subset((self.lengths >= steps).nonzero().squeeze(1))
        return replace(long, images=long.images[:, :steps].contiguous(), lengths=None)

    def by_length(self) -> list[SequenceSet]:
        """Return the sequences as sets without lengths, one for every number of steps, the least first."""
        if self.lengths is None:
            return [self]
        parts = []
        for steps in self.lengths.unique().tolist():
            part = self.subset((self.lengths == steps).nonzero().squeeze(1))
            parts.append(replace(part, images=part.images[:, :steps].contiguous(), lengths=None))
        return parts

    def to(self, device: torch.device | str) -> SequenceSet:
        """Return the set with its tensors on ``device``, kept as they are kept here."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), lengths=lengths)

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

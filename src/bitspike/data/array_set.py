"""One set of float samples as they are, with classes or numbers to be met."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from bitspike import checks
from bitspike.data import validate


@dataclass(frozen=True, eq=False, repr=False)
class ArraySet:
    """Samples that are neither normalised nor augmented, with labels, or with targets of a regression.

    Its attributes are called as those of `ImageSet`, so that both train alike.

    Args:
        images: the samples, float32 ``[N, ...]`` with at least one further axis, finite, N >= 1.
        labels: int64 ``[N]``, values 0 to ``len(classes) - 1``; or targets, float32 ``[N, K]``, finite; or sets of
            labels, bool ``[N, K]``.
        classes: names of the classes, of the K values of a target or of the K labels, without repeats.
        name: what messages and reports call the set; no part of `digest`.

    Raises:
        TypeError: a tensor of another dtype or an argument of another kind.
        ValueError: an empty set, shapes that disagree, or a value outside its range.

    >>> ArraySet(torch.zeros(4, 3), torch.zeros(4, 1), ("height",), "toy")
    ArraySet('toy': 4 samples 3, 1 values)
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str
    top: ClassVar[int] = 1
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()

    def __post_init__(self) -> None:
        where = f"ArraySet {self.name!r}"
        shape = tuple(self.images.shape) if isinstance(self.images, torch.Tensor) else ()
        validate.tensor(where, "samples", self.images, torch.float32, "[N, ...]", max(len(shape), 2))
        validate.classes(where, self.classes)
        validate.targets(where, self.labels, self.classes)
        checks.finite(where, "samples", self.images)
        if len(self.images) != len(self.labels) or self.images.device != self.labels.device:
            got = f"{len(self.images)} on {self.images.device} and {len(self.labels)} on {self.labels.device}"
            raise checks.bad_value(where, "samples and labels must be equally many on one device", got, "pair them")

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers."""
        return isinstance(self.labels, torch.Tensor) and self.labels.is_floating_point()

    @property
    def multilabel(self) -> bool:
        """Whether the targets are sets of labels."""
        return self.labels.dtype == torch.bool

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of a sample, which every time step sees."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "x".join(str(n) for n in self.images.shape[1:])
        kind = "values" if self.regression else "labels" if self.multilabel else "classes"
        return f"ArraySet({self.name!r}: {len(self)} samples {size}, {len(self.classes)} {kind})"

    def digest(self) -> str:
        """Return the SHA-256, in hex, of contents, shapes and names; the set's own name is left out."""
        head = ["bitspike ArraySet 1", list(self.images.shape), list(self.labels.shape), list(self.classes)]
        state = hashlib.sha256(json.dumps([*head, self.regression]).encode() + b"\n")
        state.update(self.images.cpu().contiguous().numpy().astype("<f4").data)
        state.update(self.labels.cpu().contiguous().numpy().astype("<f4" if self.regression else "<i8").data)
        return state.hexdigest()

    def subset(self, indices: torch.Tensor | Sequence[int], name: str | None = None) -> ArraySet:
        """Return the samples at ``indices``; as `ImageSet.subset`."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        validate.indices(f"ArraySet {self.name!r}.subset", chosen, len(self))
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], name=name or self.name)

    def to(self, device: torch.device | str) -> ArraySet:
        """Return the set with both tensors on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def ends(self) -> torch.Tensor:
        """Return the least and the greatest value, ``[2]``."""
        return torch.stack(self.images.aminmax())

    def constants(self) -> None:
        """Return None: there are no constants to normalise by."""

    def normalise(self, images: torch.Tensor, constants: None = None) -> torch.Tensor:
        """Return the samples as they are."""
        return images

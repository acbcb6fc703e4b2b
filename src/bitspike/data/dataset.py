"""One labelled set of raw images, and the three sets of an experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from bitspike import checks
from bitspike.data import validate
from bitspike.data.array_set import ArraySet
from bitspike.data.sequence_set import SequenceSet


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Raw images with labels and the constants that normalise them.

    Args:
        images: uint8 ``[N, C, H, W]``, values 0 to ``top``, N >= 1.
        labels: int64 ``[N]``, values 0 to ``len(classes) - 1``.
        classes: class names, in the order of the labels, without repeats.
        top: the pixel value that maps to 1.0 (255 or 16; any of 1 to 255 is accepted).
        mean: one finite float a channel, in units of ``top``.
        std: one positive float a channel, in units of ``top``.
        name: what messages and reports call the set; no part of `digest`.

    Raises:
        TypeError: a tensor of another dtype or an argument of another kind.
        ValueError: an empty set, shapes that disagree, or a value outside its range.

    >>> images = torch.tensor([0, 16], dtype=torch.uint8).reshape(2, 1, 1, 1)
    >>> ImageSet(images, torch.tensor([0, 1]), ("off", "on"), 16, (0.5,), (0.5,), "toy")
    ImageSet('toy': 2 images 1x1x1, 2 classes)
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    top: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str

    def __post_init__(self) -> None:
        where = f"ImageSet {self.name!r}"
        validate.tensor(where, "images", self.images, torch.uint8, "[N, C, H, W]", 4)
        validate.tensor(where, "labels", self.labels, torch.int64, "[N]", 1)
        if len(self.images) != len(self.labels) or self.images.device != self.labels.device:
            got = f"{len(self.images)} on {self.images.device} and {len(self.labels)} on {self.labels.device}"
            raise checks.bad_value(where, "images and labels must be equally many on one device", got, "pair them")
        validate.classes(where, self.classes)
        checks.integer(where, "top", self.top, 1, 255)
        validate.range_of(where, "pixels", self.images, self.top, "pass the true top")
        validate.range_of(where, "labels", self.labels, len(self.classes) - 1, "name every class or correct the labels")
        validate.constants(where, self.mean, self.std, self.images.shape[1])

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of an image, which every time step sees."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "x".join(str(n) for n in self.images.shape[1:])
        return f"ImageSet({self.name!r}: {len(self)} images {size}, {len(self.classes)} classes)"

    def digest(self) -> str:
        """Return the SHA-256, in hex, of contents, shapes, classes, top, mean and std; the name is left out."""
        floats = [[value.hex() for value in values] for values in (self.mean, self.std)]
        head = ["bitspike ImageSet 1", list(self.images.shape), list(self.classes), self.top, floats]
        state = hashlib.sha256(json.dumps(head).encode() + b"\n")
        state.update(self.images.cpu().contiguous().numpy().data)
        state.update(self.labels.cpu().numpy().astype("<i8").data)
        return state.hexdigest()

    def subset(self, indices: torch.Tensor | Sequence[int], name: str | None = None) -> ImageSet:
        """Return the samples at ``indices``, in that order, with the same classes and constants.

        Args:
            indices: int64 ``[M]``, M >= 1, values 0 to N - 1; repeats are allowed.
            name: name of the result; this set's name if left out.

        Raises:
            TypeError, ValueError: indices that are not int64; no index, or one outside the set.
        """
        chosen = torch.as_tensor(indices, device=self.labels.device)
        validate.indices(f"ImageSet {self.name!r}.subset", chosen, len(self))
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], name=name or self.name)

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the set with both tensors on ``device``, so that `Batches` works there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def ends(self) -> torch.Tensor:
        """Return black and white, normalised: float32 ``[2, C, 1, 1]``."""
        ends = torch.tensor([0, self.top], dtype=torch.uint8, device=self.images.device).reshape(2, 1, 1, 1)
        return self.normalise(ends.expand(-1, len(self.mean), -1, -1))

    def constants(self) -> torch.Tensor:
        """Return float32 ``[3, C, 1, 1]`` on the device of the images: top, mean and std of every channel.

        Making it waits for the device, so a loop makes it once.
        """
        rows = ((float(self.top),) * len(self.mean), self.mean, self.std)
        return torch.tensor(rows, dtype=torch.float32, device=self.images.device).reshape(3, -1, 1, 1)

    def normalise(self, images: torch.Tensor, constants: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``(images / top - mean) / std``, channel by channel.

        Args:
            images: uint8 ``[B, C, H, W]`` with this set's C; B may be 0, H and W may differ.
            constants: what `constants` returned, on the device of ``images``; made here if left out.

        Returns:
            float32 ``[B, C, H, W]`` on the device of ``images``.

        Raises:
            TypeError, ValueError: another dtype; another number of axes or channels.

        >>> images = torch.tensor([0, 16], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> toy = ImageSet(images, torch.tensor([0, 1]), ("off", "on"), 16, (0.5,), (0.5,), "toy")
        >>> toy.normalise(toy.images).flatten().tolist()
        [-1.0, 1.0]
        """
        validate.batch(f"ImageSet {self.name!r}.normalise", images, channels=len(self.mean))
        # top is a tensor too: by a plain number, CUDA multiplies by the rounded reciprocal instead of dividing
        top, mean, std = self.constants().to(images.device) if constants is None else constants
        return images.to(torch.float32).div_(top).sub_(mean).div_(std)


Samples: TypeAlias = ImageSet | ArraySet | SequenceSet
"""One labelled set of any kind."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The train, validation and test sets of one experiment.

    Args:
        train, validation, test: sets that share image shape, classes, top, mean and std; or `ArraySet`
            all three; or `SequenceSet`, with the same steps, dtype and top.

    Raises:
        TypeError, ValueError: a part that is no set; parts that disagree.
    """

    train: Samples
    validation: Samples
    test: Samples

    def __post_init__(self) -> None:
        for part in (self.train, self.validation, self.test):
            if not isinstance(part, Samples):
                raise checks.bad_type("Splits", "each part must be an ImageSet", type(part).__name__, "wrap it in one")
            if _shared(part) != _shared(self.train):
                got = f"{_shared(part)} for {part.name!r} and {_shared(self.train)} for {self.train.name!r}"
                must = "all parts must share image shape, classes, top, mean and std"
                raise checks.bad_value("Splits", must, got, "take the constants of the train part")

    def digest(self) -> str:
        """Return the SHA-256 of the three parts' digests, in order: 64 hex digits."""
        parts = "\n".join(part.digest() for part in (self.train, self.validation, self.test))
        return hashlib.sha256(f"bitspike Splits 1\n{parts}\n".encode()).hexdigest()


def _shared(part: Samples) -> tuple[object, ...]:
    """What the parts of one experiment must agree on."""
    if isinstance(part, SequenceSet):
        own = part.images.dtype, part.top, part.lengths is None
        return tuple(part.images.shape[1:]), part.classes, part.labels.dtype, *own
    if isinstance(part, ArraySet):
        return tuple(part.images.shape[1:]), part.classes, part.labels.dtype
    return tuple(part.images.shape[1:]), part.classes, part.top, part.mean, part.std

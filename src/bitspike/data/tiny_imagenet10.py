"""The 10-class sample of Tiny-ImageNet."""

from __future__ import annotations

from functools import partial

from bitspike.data.entry import DATASETS, Entry
from bitspike.data.packed import load_packed_jpeg

TINY_IMAGENET10 = DATASETS.register("tiny_imagenet10")(
    Entry(partial(load_packed_jpeg, name="tiny_imagenet10"), 500, options=("size", "channels"))
)

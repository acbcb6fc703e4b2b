"""Data sets from local files, stratified splits, augmentation on the device, reproducible batches."""

from bitspike.data.augment import random_flip, random_shift
from bitspike.data.catalog import load
from bitspike.data.dataset import ImageSet, Splits
from bitspike.data.digits import load_digits
from bitspike.data.idx import read_idx
from bitspike.data.loader import Batches
from bitspike.data.mnist import load_mnist_like
from bitspike.data.split import carve_validation

__all__ = [
    "Batches",
    "ImageSet",
    "Splits",
    "carve_validation",
    "load",
    "load_digits",
    "load_mnist_like",
    "random_flip",
    "random_shift",
    "read_idx",
]

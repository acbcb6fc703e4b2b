"""Data sets from local files, stratified splits, augmentation in batches, reproducible batches."""

from bitspike.data.augment import random_cutout, random_flip, random_shift
from bitspike.data.catalog import load
from bitspike.data.cifar import load_cifar
from bitspike.data.dataset import ImageSet, Splits
from bitspike.data.digits import load_digits
from bitspike.data.events import EventSet, load_events
from bitspike.data.folder import load_folder
from bitspike.data.hub import load_hub
from bitspike.data.idx import read_idx
from bitspike.data.loader import Batches
from bitspike.data.mnist import load_mnist_like
from bitspike.data.packed import load_packed_jpeg
from bitspike.data.split import carve_validation

__all__ = [
    "Batches",
    "EventSet",
    "ImageSet",
    "Splits",
    "carve_validation",
    "load",
    "load_cifar",
    "load_digits",
    "load_events",
    "load_folder",
    "load_hub",
    "load_mnist_like",
    "load_packed_jpeg",
    "random_cutout",
    "random_flip",
    "random_shift",
    "read_idx",
]

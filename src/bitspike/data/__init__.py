"""Data sets from local files, stratified splits, augmentation in batches, reproducible batches."""

from bitspike.data.array_set import ArraySet
from bitspike.data.arrays import ARRAYS, as_splits, gather, load_arrays
from bitspike.data.augment import random_cutout, random_flip, random_shift
from bitspike.data.catalog import load
from bitspike.data.cifar import load_cifar
from bitspike.data.cifar10 import CIFAR10
from bitspike.data.cifar100 import CIFAR100
from bitspike.data.dataset import ImageSet, Samples, Splits
from bitspike.data.digits import DIGITS, load_digits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.events import EventSet, load_events
from bitspike.data.fashion_mnist import FASHION_MNIST
from bitspike.data.folder import FOLDER, load_folder
from bitspike.data.hub import HUB, load_hub
from bitspike.data.idx import read_idx
from bitspike.data.loader import Batches
from bitspike.data.mnist import MNIST
from bitspike.data.mnist_like import load_mnist_like
from bitspike.data.packed import load_packed_jpeg
from bitspike.data.python_source import PYTHON, load_python, source
from bitspike.data.sequence_arrays import pad
from bitspike.data.sequence_set import SequenceSet
from bitspike.data.sound import FSDD, load_fsdd
from bitspike.data.split import carve_validation
from bitspike.data.tiny_imagenet10 import TINY_IMAGENET10

__all__ = [
    "ARRAYS",
    "CIFAR10",
    "CIFAR100",
    "DATASETS",
    "DIGITS",
    "FASHION_MNIST",
    "FOLDER",
    "FSDD",
    "HUB",
    "MNIST",
    "PYTHON",
    "TINY_IMAGENET10",
    "ArraySet",
    "Batches",
    "Entry",
    "EventSet",
    "ImageSet",
    "Samples",
    "SequenceSet",
    "Splits",
    "as_splits",
    "carve_validation",
    "gather",
    "load",
    "load_arrays",
    "load_cifar",
    "load_digits",
    "load_events",
    "load_folder",
    "load_fsdd",
    "load_hub",
    "load_mnist_like",
    "load_packed_jpeg",
    "load_python",
    "pad",
    "random_cutout",
    "random_flip",
    "random_shift",
    "read_idx",
    "source",
]

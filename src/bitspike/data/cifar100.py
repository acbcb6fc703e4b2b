"""CIFAR-100, with its 100 fine classes."""

from __future__ import annotations

from bitspike.data.cifar import register

CIFAR100 = register(
    "cifar100",
    {
        "binary": ("cifar-100-binary", ["train.bin"], "test.bin"),
        "npz": ("cifar100", ["cifar100_train.npz"], "cifar100_test.npz"),
        "python": ("cifar-100-python", ["train"], "test"),
    },
    tuple(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
        tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split()
    ),
    fine=True,
)

"""The network of the published N-MNIST checkpoint, as integrate-and-fire neurons on event frames."""

from __future__ import annotations

from torch import nn

from bitspike.layers import Conv2d, Flatten, Linear, MeanReadout, SumPool2d
from bitspike.models.components import new_neuron
from bitspike.neurons import LIF


def nmnist_cnn(neuron: nn.Module | None = None) -> nn.Sequential:
    """conv5/2 – N – conv3 – N – sum pool – conv3 – N – sum pool – linear – N – linear – N – mean over time, no biases.

    Event frames [T, B, 2, 34, 34] (channel 0 OFF, 1 ON) → the mean output of ten neurons [B, 10]: the class is the one
    that sent most. There is no encoder, so samples have the time axis first and the batch second. With T = 1 and
    ``nn.ReLU()`` it is the analog network on frames of event counts.

    Source: NIR (Nature Communications 2024), ``paper/02_cnn``, for layers and weights (`load_nmnist_checkpoint`). That
    each ReLU becomes an integrate-and-fire neuron with threshold 1, reset by subtraction and membrane floor −1 is as
    its authors run it.

    Args:
        neuron: prototype N; default ``LIF(threshold=1.0, decay=1.0, reset="soft", floor=-1.0)``, at most one spike a
            step. ``MultiBit(8, 0, decay=1.0, floor=-1.0)`` sends up to 255.

    >>> import torch; nmnist_cnn()(torch.zeros(3, 2, 2, 34, 34)).shape
    torch.Size([2, 10])
    """
    made = LIF(threshold=1.0, decay=1.0, reset="soft", floor=-1.0) if neuron is None else neuron
    first, last = Conv2d(2, 16, 5, stride=2, padding=1), Linear(256, 10, bias=False)
    first.role, last.role = "first", "last"
    return nn.Sequential(
        first,
        new_neuron(made, 16),
        Conv2d(16, 16, 3, padding=1),
        new_neuron(made, 16),
        SumPool2d(2),
        Conv2d(16, 8, 3, padding=1),
        new_neuron(made, 8),
        SumPool2d(2),
        Flatten(),
        Linear(128, 256, bias=False),
        new_neuron(made, 256),
        last,
        new_neuron(made, 10),
        MeanReadout(),
    )

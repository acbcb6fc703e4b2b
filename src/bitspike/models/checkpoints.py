"""Published weights that nobody here trained, into our networks."""

from __future__ import annotations

import os
import re

import torch
from torch import Tensor, nn

from bitspike.checks import all_finite, bad_value
from bitspike.layers import BatchNorm, Synapse
from bitspike.models.network import Network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""What the published CIFAR-10 ResNets subtract from RGB in 0–1: ImageNet's constants, as their trainer does."""

IMAGENET_STD = (0.229, 0.224, 0.225)

_RENAMED = {r"^body\.": "", r"^stem\.conv": "conv1", r"^stem\.norm": "bn1", r"\.norm": ".bn", r"^classifier": "linear"}


def load_he_checkpoint(model: Network, path: str | os.PathLike[str]) -> Network:
    """Load the published CIFAR-10 weights of `he_resnet20` or `he_resnet32`, in place.

    Only tensors are unpickled. Nothing is changed unless every name and shape fits. Quantizers start afresh from the
    loaded weights; parameters of neurons stay.

    Source: files of github.com/akamaster/pytorch_resnet_cifar10 (Y. Idelbayev, two-clause BSD): test accuracy 91.73 %
    and 92.63 % with ``nn.ReLU()``, T = 1 and inputs normalised by `IMAGENET_MEAN` and `IMAGENET_STD`.

    Args:
        model: network with shortcut "pad", any neuron, wiring and T. path: a ``.th`` file: a dict whose "state_dict"
            holds tensors named ``module.layer1.0.conv1.weight`` etc.

    Returns:
        The model.

    Raises:
        ValueError: no file, not a file of tensors (code in a pickle is never run), names or shapes of another network,
            or NaN or inf in it.
    """
    where = f"load_he_checkpoint {os.fspath(path)}"
    given = _of_he(where, _unpickled(where, path))
    wanted = {_their_name(name): tensor for name, tensor in _loadable(model).items()}
    _fill(
        where, model, wanted, given, "build he_resnet20 or he_resnet32 with shortcut='pad', the one that fits the file"
    )
    return model


def load_nmnist_checkpoint(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load the published N-MNIST weights into `nmnist_cnn`, in place; only tensors are unpickled.

    Source: ``paper/02_cnn/ann_pretraining`` of github.com/neuromorphs/NIR (three-clause BSD), J. E. Pedersen et al.,
    "Neuromorphic intermediate representation", Nature Communications 15, 2024. Published accuracy on the whole N-MNIST
    test set 97.12 to 98.47 %, depending on the simulator.

    Args:
        model: of `nmnist_cnn`, any neuron. path: a ``.pth`` file: a dict of the tensors "0.weight", "2.weight", …

    Returns:
        The model.

    Raises:
        ValueError: as `load_he_checkpoint`.
    """
    where = f"load_nmnist_checkpoint {os.fspath(path)}"
    content = _unpickled(where, path)
    if not isinstance(content, dict) or not all(_dense(value) for value in content.values()):
        must, todo = "the file must hold a dict of tensors", "pass the .pth file of the N-MNIST network"
        raise bad_value(where, must, type(content).__name__, todo)
    given = {str(name): value for name, value in content.items()}
    _fill(where, model, _loadable(model), given, "build nmnist_cnn")
    return model


def _fill(where: str, model: nn.Module, wanted: dict[str, Tensor], given: dict[str, Tensor], todo: str) -> None:
    """Copy the given tensors into the wanted ones if all fit; then quantizers start afresh."""
    _compare_names(where, set(wanted), set(given), todo)
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            got = f"{list(given[name].shape)} for {list(tensor.shape)}"
            raise bad_value(where, f"{name} must have the shape of the network's", got, "check width and classes")
    all_finite(where, given.items())
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])
    for module in model.modules():
        if isinstance(module, Synapse):
            module.quantize_with(module.quantizer)


def _unpickled(where: str, path: str | os.PathLike[str]) -> object:
    """What a checkpoint holds; nothing in it is run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error
    except Exception as error:  # a damaged pickle can raise anything; none of its code has run
        must = "the file must be a PyTorch checkpoint that holds tensors and nothing to execute"
        got = f"a file that cannot be unpickled safely ({type(error).__name__})"
        raise bad_value(where, must, got, "take the file from its source again") from error


def _of_he(where: str, content: object) -> dict[str, Tensor]:
    """The floating tensors of a checkpoint by name, without the prefix of `nn.DataParallel`."""
    inner = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(inner, dict) or not all(_dense(value) for value in inner.values()):
        got = f"the keys {sorted(map(str, content))[:5]}" if isinstance(content, dict) else type(content).__name__
        must = "the file must hold 'state_dict', a dict of tensors"
        raise bad_value(where, must, got, "pass a .th file of He's networks")
    named = {str(name).removeprefix("module."): value for name, value in inner.items()}
    return {name: value for name, value in named.items() if not name.endswith("num_batches_tracked")}


def _dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _loadable(model: nn.Module) -> dict[str, Tensor]:
    """Weights, biases and statistics of synapses and norms by our names."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (BatchNorm, Synapse)):
            continue
        last = ("running_mean", "running_var") if isinstance(module, BatchNorm) else ()
        kinds = ["weight", *(["bias"] if module.bias is not None else []), *last]
        found.update({f"{name}.{kind}": getattr(module, kind) for kind in kinds})
    return found


def _their_name(name: str) -> str:
    """body.layer1.0.norm2.weight → layer1.0.bn2.weight."""
    for pattern, instead in _RENAMED.items():
        name = re.sub(pattern, instead, name)
    return name


def _compare_names(where: str, wanted: set[str], given: set[str], todo: str) -> None:
    """Raise unless both sets are equal, naming what is missing and what is left over."""
    missing, extra = sorted(wanted - given), sorted(given - wanted)
    if missing or extra:
        sides = ((missing, "missing"), (extra, "unknown"))
        parts = [f"{len(names)} {what} ({', '.join(names[:3])}, …)" for names, what in sides if names]
        must = "the file must hold the tensors of the network, no more and no fewer"
        raise bad_value(where, must, " and ".join(parts), todo)

"""From a function that makes a body to a builder of networks, and what the bodies have in common."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import ParamSpec, TypeVar, get_type_hints

from torch import nn

from bitspike.checks import integer, one_of
from bitspike.layers import Encoder, Linear
from bitspike.models.components import before_synapse, image_shape, new_encoder, new_neuron, new_readout
from bitspike.models.network import Network, finish
from bitspike.models.options import Options

P = ParamSpec("P")
Own = TypeVar("Own", bound=Options)

_OUTCOME = """
Returns:
    A `Network`: samples [B, C, H, W] → logits [B, K], or [T, B, K] with readout "steps".

Raises:
    ValueError: a number out of its range, an unknown name, or a shape that the strides do not fit.
    TypeError: an unknown option, or a value of another kind.

"""


def builder(options: Callable[P, Own]) -> Callable[[Callable[[Own], nn.Module]], Callable[P, Network]]:
    """Make a function "options → body" a builder: a network around the body, its weights quantized, see `finish`.

    The builder takes the fields of ``options`` as arguments, and ``help`` and `inspect.signature` show them; its
    docstring gets their descriptions, and what it returns and raises.

    Args:
        options: a dataclass, `Options` or of a family.
    """
    signature = inspect.signature(options).replace(return_annotation="Network")

    def decorate(body: Callable[[Own], nn.Module]) -> Callable[P, Network]:
        def build(*args: P.args, **kwargs: P.kwargs) -> Network:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{body.__name__}: {error}") from None
            given = options(*args, **kwargs)
            network = new_network(body(given), given.encoder, given.T, given.readout)
            return finish(network, given.weight, given.policy)

        functools.update_wrapper(build, body)
        build.__signature__ = signature  # type: ignore[attr-defined]
        build.__annotations__ = {**get_type_hints(options), "return": Network}
        build.__doc__ = _described(body.__doc__ or "", options)
        return build

    return decorate


def _described(own: str, options: object) -> str:
    """A docstring with the arguments in front of its example."""
    text, mark, example = inspect.cleandoc(own).partition(">>>")
    classes = reversed(inspect.getmro(options)) if inspect.isclass(options) else ()
    described = (inspect.cleandoc(cls.__dict__.get("__doc__") or "") for cls in classes)
    arguments = [part.partition("Args:\n")[2] for part in described]
    return f"{text}Args:\n" + "\n".join(filter(None, arguments)) + "\n" + _OUTCOME + mark + example


def new_network(body: nn.Module, encoder: str | Encoder, T: int, readout: str) -> Network:
    """Encoder and read-out by name around a body, before `finish`."""
    return Network(new_encoder(encoder, T), body, new_readout(readout))


def opened(where: str, options: Options, multiple: int = 1) -> tuple[OrderedDict[str, nn.Module], tuple[int, int, int]]:
    """The beginning of a body, [input], and (C, H, W); options checked.

    Args:
        where: name of the builder. options: of the call. multiple: of both sides of the image.
    """
    one_of(where, "wiring", options.wiring, ("spike", "input"))
    integer(where, "width", options.width, 1, 4096)
    integer(where, "classes", options.classes, 1, 2**20)
    shape = image_shape(where, options.shape, multiple)
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if options.input_neuron:
        body["input"] = new_neuron(options.neuron, shape[0])
    return body, shape


def closed(body: OrderedDict[str, nn.Module], options: Options, features: int) -> nn.Sequential:
    """A body with its end, [neuron] and classifier, behind so many features."""
    for own in before_synapse(options.wiring, options.neuron, features):
        body["neuron"] = own
    classifier = Linear(features, options.classes)
    classifier.role = "last"
    body["classifier"] = classifier
    return nn.Sequential(body)

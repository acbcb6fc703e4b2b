"""Hooks of a user's modules and parameters: which ones a network over time keeps, and which ones are gone."""

from __future__ import annotations

import warnings

from torch import nn

_OF_MODULES = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def copy_hooks(model: nn.Module, ours: nn.Module) -> list[str]:
    """Put the gradient hooks of parameters (``register_hook``) on those of a deep copy, which torch leaves without.

    Returns:
        Names of the parameters whose hooks the copy lacks: those that run behind the accumulation of a gradient belong
        to an optimiser of the parameters given, and what needs no gradient takes none.
    """
    lost, copies = [], dict(ours.named_parameters())
    for name, parameter in model.named_parameters():
        own = list((parameter._backward_hooks or {}).values())
        for hook in own if copies[name].requires_grad else ():
            copies[name].register_hook(hook)
        if (own and not copies[name].requires_grad) or getattr(parameter, "_post_accumulate_grad_hooks", None):
            lost.append(name)
    return lost


def lost_hooks(ours: nn.Module, net: nn.Module) -> list[str]:
    """Modules and parameters with hooks that a network made of ``ours`` does not hold; "the model" is all of it.

    Hooks of modules that are traced through have run then, and what they changed is written down; they do not run
    again. Those of replaced activations never run.
    """
    modules, parameters = set(net.modules()), {id(p) for p in net.parameters()}
    lost = [
        name or "the model" for name, module in ours.named_modules() if module not in modules and any(_given(module))
    ]
    return lost + [name for name, p in ours.named_parameters() if p._backward_hooks and id(p) not in parameters]


def _given(module: nn.Module) -> list[object]:
    """Its hooks, without those that torch's parametrisations put there for old checkpoints."""
    hooks = [hook for kind in _OF_MODULES for hook in getattr(module, kind, {}).values()]
    functions = [getattr(hook, "hook", hook) for hook in hooks]
    return [f for f in functions if not str(getattr(f, "__module__", "")).startswith("torch.nn.utils")]


def warn_lost(names: list[str], stacklevel: int) -> None:
    """Say which hooks are gone."""
    if names:
        warnings.warn(
            f"upgrade: hooks that the network does not run: {', '.join(names)}; register them on the result.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )

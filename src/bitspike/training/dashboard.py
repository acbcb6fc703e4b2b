"""What neurons send and hold after every epoch, for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bitspike.data import Samples
from bitspike.graph import Node, trace
from bitspike.neurons import Neuron
from bitspike.observe import observe, potentials
from bitspike.training.job import verified
from bitspike.training.tensorboard_log import TensorBoardLog

SAMPLES = 64
"""Validation samples that the neurons are looked at on."""
_MOST = 2**16


class Dashboard:
    """Logs an epoch: the numbers of its record, and of every neuron layer what it does on the same validation samples.

    Logged are, by layer: ``rate/`` (share of neuron-steps with a spike), ``set_bits/`` (ones in the binary digits of
    a level, per neuron and step), ``saturation/`` (share at the end of a graded range) and ``membrane/`` (histogram
    before firing: from 1 on the first level is sent; of 65,536 values evenly taken at most). Of runs that learn bits
    and T these are ``weights/``, ``spikes/`` and ``steps/``. Training is the same with and without.

    Args:
        log: where to. validation: samples; the first 64.
    """

    def __init__(self, log: TensorBoardLog, validation: Samples) -> None:
        self.log: TensorBoardLog = log
        self.validation: Samples = validation

    @torch.no_grad()
    def __call__(self, record: dict[str, Any], model: nn.Module) -> None:
        """An epoch has ended: its record, and the network that was validated."""
        epoch, training = int(record["epoch"]), model.training
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model.eval()
            try:
                self._neurons(epoch, model, device)
            finally:
                model.train(training)
        self.log.epoch(record)

    def _neurons(self, epoch: int, model: nn.Module, device: torch.device) -> None:
        seen, sample = verified(model, self.validation, SAMPLES)
        sample = sample.to(device)
        for activity in observe(seen, [sample]).values():
            name = activity.path
            self.log.scalars(epoch, {f"rate/{name}": activity.rate, f"set_bits/{name}": activity.bits_per_step})
            if not activity.format.real and not activity.format.adds:
                self.log.scalars(epoch, {f"saturation/{name}": activity.saturation})

        def handle(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            if isinstance(node.module, Neuron):
                u = potentials(node.module, args[0], scaled=True).flatten() / node.module.stairs.first
                self.log.histogram(epoch, f"membrane/{node.path}", u[:: -(-len(u) // _MOST)].float())
            return call()

        trace(seen).run(sample, handler=handle)

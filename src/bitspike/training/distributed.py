"""Several processes on one model, started by ``torchrun``: set-up, wrapping, and who writes."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bitspike.checks import bad_value


@dataclass(frozen=True)
class World:
    """This process among those that train together; (0, 1) alone.

    Args:
        rank: 0 .. size - 1. size: number of processes. device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrapped: list[DistributedDataParallel] = field(default_factory=list, repr=False, compare=False)

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress (the first one does)."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is, or in DistributedDataParallel where there are several processes."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        self.wrapped.append(DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False))
        return self.wrapped[-1]

    def close(self) -> None:
        """Unwrap every model and leave the group; call it once, by all processes.

        A reducer that outlives the group would destroy it with the interpreter lock held and wait for a worker that
        waits for that lock: a rare hang at the end of a run.
        """
        for network in self.wrapped:
            network.__dict__.pop("logger", None)
            network.__dict__.pop("reducer", None)
            network.__dict__.pop("process_group", None)
        self.wrapped.clear()
        dist.destroy_process_group()

    def share(self, batch_size: int) -> int:
        """Samples of this process in a global batch; raises `ValueError` if it does not divide."""
        if batch_size % self.size:
            must = f"data.batch_size must be a multiple of the {self.size} processes"
            raise bad_value("distributed", must, batch_size, "change one of them")
        return batch_size // self.size

    def total(self, *values: float) -> tuple[float, ...]:
        """Sums over all processes of this process's numbers, in float64."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return tuple(sums.tolist())

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def alone() -> World:
    """This process alone, on the GPU where there is one."""
    return World(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def world() -> Iterator[World]:
    """The processes that ``torchrun`` started (NCCL on CUDA, gloo on the CPU), or this one alone.

    Within the block batch norms use the statistics of all processes. Wrapped models are of no use after it. Processes
    of one machine speak over its loop-back interface, whatever its host name resolves to, unless
    ``GLOO_SOCKET_IFNAME`` says otherwise.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if size == 1:
        yield alone()
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not cuda and os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
        if loopback:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    # Its functions take the group of this moment as a default; imported later, by DistributedDataParallel, they would
    # keep the group and its threads until the interpreter ends, which may then abort.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if cuda else "gloo")
    together = World(rank, size, device)
    try:
        yield together
    finally:
        together.close()

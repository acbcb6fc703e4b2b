"""The target ``nir``: a folded network of binary spikes, for simulators and neuromorphic hardware."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bitspike.checks import bad_value, one_of
from bitspike.export.nir.package import CONVENTIONS, NOTE, package
from bitspike.export.nir.writing import Writer, Written
from bitspike.export.target import TARGETS, Exported, Reads, Source, Target
from bitspike.files import write_bytes_atomic

_NOTES = {
    "norse": "call norse.torch.from_nir(graph, dt=2**-10), and feed samples without a batch axis",
    "snntorch": "feed samples without a batch axis where the graph flattens",
    "sinabs": "its from_nir knows neither the reset nor the step of NIR: set both as docs/deploy.md has it",
}


@TARGETS.register("nir")
class Nir(Target):
    """One HDF5 file that the package ``nir`` reads, with linear maps, convolutions, LIF and IF, pools and flattening.

    Spikes must be {0, 1} with a hard reset. Integer weights and the affine maps behind them are merged into real ones
    for others; they, the time steps and the read-out are remembered as metadata, so `read_nir` gives the network back,
    bit for bit.
    """

    reads: ClassVar[Reads] = "network"
    about: ClassVar[str] = "a graph of NIR, for simulators and neuromorphic chips"
    suffix: ClassVar[str] = ".nir"
    options: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "reader": ("nir", "whose habits are met: nir (none), snntorch, norse or sinabs"),
        "shape": ("", "of a sample, as 1,28,28, where the network does not know it"),
    }

    def losses(self, source: Source, options: Mapping[str, Any]) -> list[str]:
        """Every node that NIR, or the reader, has no word for."""
        return _written(source, options).lost

    def write(self, source: Source, path: Path, options: Mapping[str, Any]) -> Exported:
        """Write the file; its bytes only depend on the network, and on the releases of nir and h5py."""
        nir, made = package("export to nir"), _written(source, options)
        grouped = any(getattr(node, "groups", 1) != 1 for node in made.nodes.values())
        oblong = any(len({*node.weight.shape[2:]}) > 1 for node in made.nodes.values() if isinstance(node, nir.Conv2d))
        plain = not grouped and not oblong
        graph = nir.NIRGraph(made.nodes, made.edges, metadata=made.metadata, type_check=plain)
        held = io.BytesIO()
        nir.write(held, graph)
        write_bytes_atomic(path, held.getvalue())
        kinds = [type(node).__name__ for node in made.nodes.values()]
        facts = {"nodes": {kind: kinds.count(kind) for kind in sorted(set(kinds))}, "edges": len(made.edges)}
        notes = [*made.notes]
        if made.metadata["T"]:
            notes.append(f"every sample is fed {made.metadata['T']} times, once a step")
        if grouped:
            notes.append("nir takes a group's channels for all: read it with nir.read(path, type_check=False)")
        if oblong:
            notes.append("nir takes a kernel's height for its width: read it with nir.read(path, type_check=False)")
        if options["reader"] in _NOTES:
            notes.append(_NOTES[options["reader"]])
        said = {key: value for key, value in made.metadata.items() if not key.startswith(NOTE)}
        return Exported((path,), tuple(notes), {**facts, **said})


def _written(source: Source, options: Mapping[str, Any]) -> Written:
    reader = one_of("export to nir", "reader", options["reader"], tuple(CONVENTIONS))
    assert source.graph is not None
    shape = _shape(options["shape"]) or source.graph.sample_shape
    if shape is None:
        raise bad_value("export to nir", "the shape of a sample must be known", "none", "pass shape='1,28,28'")
    return Writer(package("export to nir"), source.graph, reader, CONVENTIONS[reader], shape).write()


def _shape(text: str) -> tuple[int, ...] | None:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) for part in parts):
        raise bad_value("export to nir", "shape must be whole numbers > 0, as 1,28,28", repr(text), "change it")
    return tuple(int(part) for part in parts) or None

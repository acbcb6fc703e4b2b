"""A private copy of a traced network in which every call site owns its module, and edits on it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn

from bitspike.graph.graph import Graph


class Surgery:
    """An editable copy of a graph. Node names stay those of the original; added nodes are named after their place.

    Attributes:
        module: the copy as a `torch.fx.GraphModule`; call `finish` after the last edit.
    """

    def __init__(self, graph: Graph) -> None:
        root = nn.Module()
        copied = fx.Graph()
        renamed: dict[fx.Node, fx.Node] = {}
        calls = Counter(str(item.target) for item in graph.fx.nodes if item.op == "call_module")
        for item in graph.fx.nodes:
            renamed[item] = copied.node_copy(item, lambda n: renamed[n])
            renamed[item].name = item.name
            if item.op == "call_module":
                own = copy.deepcopy(graph.model.get_submodule(str(item.target)))
                if calls[str(item.target)] > 1:
                    own.origin = str(item.target)  # type: ignore[assignment]
                root.add_module(item.name, own)
                renamed[item].target = item.name
            elif item.op == "get_attr":
                raise ValueError(f"fold: parameters must live in leaf layers, got {item.target}; wrap them in one.")
        self.module: fx.GraphModule = fx.GraphModule(root, copied)

    def __iter__(self) -> Iterator[fx.Node]:
        return iter(list(self.module.graph.nodes))

    def get(self, item: fx.Node) -> nn.Module | None:
        """The module that a node calls, or None."""
        return self.module.get_submodule(str(item.target)) if item.op == "call_module" else None

    def put(self, item: fx.Node, module: nn.Module) -> None:
        """Replace the module that a node calls; what several calls share is still said to be of one origin."""
        origin = getattr(self.get(item), "origin", "")
        if origin:
            module.origin = origin  # type: ignore[assignment]
        self.module.add_module(str(item.target), module)

    def remove(self, item: fx.Node) -> None:
        """Bridge a node with one input."""
        item.replace_all_uses_with(item.all_input_nodes[0])
        self.module.graph.erase_node(item)
        self.module.delete_submodule(str(item.target))

    def free(self, name: str) -> str:
        """The name, with _ behind it as long as the network has a module of that name."""
        while hasattr(self.module, name):
            name += "_"
        return name

    def insert(self, source: fx.Node, consumer: fx.Node, name: str, module: nn.Module) -> fx.Node:
        """Put a module on the edge from source to consumer, under a name that is `free`."""
        name = self.free(name)
        self.module.add_module(name, module)
        with self.module.graph.inserting_before(consumer):
            added = self.module.graph.call_module(name, (source,))
        consumer.replace_input_with(source, added)
        return added

    def finish(self) -> Graph:
        """Check and compile the copy; returns its graph."""
        self.module.graph.lint()
        self.module.recompile()
        return Graph(self.module, self.module.graph)

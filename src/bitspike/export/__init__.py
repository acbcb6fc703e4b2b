"""Programs and folded networks for other systems: one target a file, each held to the integers of the interpreter."""

from bitspike.export.c import C
from bitspike.export.exporting import export
from bitspike.export.target import TARGETS, Exported, Source, Target

__all__ = ["TARGETS", "C", "Exported", "Source", "Target", "export"]

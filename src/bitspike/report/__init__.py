"""Tables and pictures of what training, studies and cost have measured."""

from bitspike.report.allocation import allocation_picture
from bitspike.report.cost import cost_picture, cost_table, energy_table, metric_table
from bitspike.report.history import history_picture, learns
from bitspike.report.levels import LevelUse, level_picture, level_table, level_use
from bitspike.report.neurons import activity_picture, membrane_picture
from bitspike.report.page import rewrite_blocks
from bitspike.report.pareto import pareto_front, pareto_picture
from bitspike.report.study import metric_text, study_picture, study_table
from bitspike.report.text import as_markdown, as_text, narrow_tables

__all__ = [
    "LevelUse",
    "activity_picture",
    "allocation_picture",
    "as_markdown",
    "as_text",
    "cost_picture",
    "cost_table",
    "energy_table",
    "history_picture",
    "learns",
    "level_picture",
    "level_table",
    "level_use",
    "membrane_picture",
    "metric_table",
    "metric_text",
    "narrow_tables",
    "pareto_front",
    "pareto_picture",
    "rewrite_blocks",
    "study_picture",
    "study_table",
]

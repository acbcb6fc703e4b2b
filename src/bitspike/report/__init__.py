"""Tables and pictures."""

from bitspike.report.allocation import allocation_picture
from bitspike.report.cost import cost_picture, cost_table, energy_table, metric_table
from bitspike.report.levels import LevelUse, level_picture, level_table, level_use
from bitspike.report.study import study_picture, study_table
from bitspike.report.text import as_markdown, as_text

__all__ = [
    "LevelUse",
    "allocation_picture",
    "as_markdown",
    "as_text",
    "cost_picture",
    "cost_table",
    "energy_table",
    "level_picture",
    "level_table",
    "level_use",
    "metric_table",
    "study_picture",
    "study_table",
]

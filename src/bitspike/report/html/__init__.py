"""The page of one run: one HTML file without scripts that asks for nothing."""

from bitspike.report.html.page import report_page
from bitspike.report.html.spikes import Spikes

__all__ = ["Spikes", "report_page"]

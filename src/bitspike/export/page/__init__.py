"""A page to try a network on: one HTML file that holds everything, and needs no server."""

from bitspike.export.page.target import Page

__all__ = ["Page"]

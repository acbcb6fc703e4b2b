"""Trained programs that come with the package, each with a card that says what it is."""

from .cards import Card, zoo_card, zoo_names
from .checking import Checked, check, levels_digest, predicted
from .text import card_text, zoo_table

__all__ = [
    "Card",
    "Checked",
    "card_text",
    "check",
    "levels_digest",
    "predicted",
    "zoo_card",
    "zoo_names",
    "zoo_table",
]

"""What every layer of a network or a program sends for some samples: collected, coloured and drawn."""

from bitspike.report.spikes.film import spike_gif, spike_page
from bitspike.report.spikes.network import seen_in_network
from bitspike.report.spikes.picture import spike_picture
from bitspike.report.spikes.program import program_layers, program_on_data, seen_in_program
from bitspike.report.spikes.seen import Layer, Seen, layer_facts

__all__ = [
    "Layer",
    "Seen",
    "layer_facts",
    "program_layers",
    "program_on_data",
    "seen_in_network",
    "seen_in_program",
    "spike_gif",
    "spike_page",
    "spike_picture",
]

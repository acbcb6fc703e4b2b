"""Attention layers over tokens [T, B, N, C] for every kind of spike: one variant a file, by name in `ATTENTION`."""

from bitspike.layers.attention.base import ATTENTION, Attention
from bitspike.layers.attention.products import MatrixProduct, PairProduct, Product
from bitspike.layers.attention.qk_channel import QKChannelAttention
from bitspike.layers.attention.qk_token import QKTokenAttention
from bitspike.layers.attention.sdsa import SpikeDrivenAttention
from bitspike.layers.attention.ssa import SpikingSelfAttention
from bitspike.layers.attention.views import AxisSum, ImageView, TokenView

__all__ = [
    "ATTENTION",
    "Attention",
    "AxisSum",
    "ImageView",
    "MatrixProduct",
    "PairProduct",
    "Product",
    "QKChannelAttention",
    "QKTokenAttention",
    "SpikeDrivenAttention",
    "SpikingSelfAttention",
    "TokenView",
]

"""Layers over [T, B, ...]: quantized linear maps, norms, pools, edges between time steps, encoders and read-outs."""

from bitspike.layers.affine import Affine, Gain
from bitspike.layers.attention import (
    ATTENTION,
    Attention,
    AxisSum,
    ImageView,
    MatrixProduct,
    PairProduct,
    Product,
    QKChannelAttention,
    QKTokenAttention,
    SpikeDrivenAttention,
    SpikingSelfAttention,
    TokenView,
)
from bitspike.layers.base import Synapse, TimeLayer, merge_time, split_time
from bitspike.layers.clip_floor import ClipFloor
from bitspike.layers.detach import Detach
from bitspike.layers.drop_path import DropPath
from bitspike.layers.encoders import (
    ENCODERS,
    Delta,
    Encoder,
    Frames,
    Latency,
    Noise,
    Phase,
    Poisson,
    Repeat,
    set_noise,
)
from bitspike.layers.norm import BatchNorm
from bitspike.layers.norm_scan import Chain, norm_then_fire
from bitspike.layers.padding import (
    Padded,
    lengths_of,
    like,
    mean_over_steps,
    padded,
    step_mask,
    valid_lengths,
    values_of,
)
from bitspike.layers.pool import AvgPool2d, Flatten, GlobalAvgPool, MaxPool2d, SumPool2d, TallyMaxPool2d, TallyPool
from bitspike.layers.potential import Potential
from bitspike.layers.quantized import Conv2d, Linear
from bitspike.layers.readout import MeanReadout, StepReadout
from bitspike.layers.recurrent import Recurrent
from bitspike.layers.restimulate import Restimulate
from bitspike.layers.sound import check_numbers, not_numbers
from bitspike.layers.squeeze import Join, Refined, Squeeze
from bitspike.layers.tally import TallyMap
from bitspike.layers.transposed import ConvTranspose2d
from bitspike.layers.upsample import Upsample
from bitspike.layers.windows import Windows

__all__ = [
    "ATTENTION",
    "ENCODERS",
    "Affine",
    "Attention",
    "AvgPool2d",
    "AxisSum",
    "BatchNorm",
    "Chain",
    "ClipFloor",
    "Conv2d",
    "ConvTranspose2d",
    "Delta",
    "Detach",
    "DropPath",
    "Encoder",
    "Flatten",
    "Frames",
    "Gain",
    "GlobalAvgPool",
    "ImageView",
    "Join",
    "Latency",
    "Linear",
    "MatrixProduct",
    "MaxPool2d",
    "MeanReadout",
    "Noise",
    "Padded",
    "PairProduct",
    "Phase",
    "Poisson",
    "Potential",
    "Product",
    "QKChannelAttention",
    "QKTokenAttention",
    "Recurrent",
    "Refined",
    "Repeat",
    "Restimulate",
    "SpikeDrivenAttention",
    "SpikingSelfAttention",
    "Squeeze",
    "StepReadout",
    "SumPool2d",
    "Synapse",
    "TallyMap",
    "TallyMaxPool2d",
    "TallyPool",
    "TimeLayer",
    "TokenView",
    "Upsample",
    "Windows",
    "check_numbers",
    "lengths_of",
    "like",
    "mean_over_steps",
    "merge_time",
    "norm_then_fire",
    "not_numbers",
    "padded",
    "set_noise",
    "split_time",
    "step_mask",
    "valid_lengths",
    "values_of",
]

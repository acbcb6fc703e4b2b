"""Turning a trained ANN into a spiking network, calibrated on data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bitspike.ann2snn.build import Skeleton, build
from bitspike.ann2snn.calibrate import Options, calibrate
from bitspike.ann2snn.report import ConversionReport
from bitspike.ann2snn.tune import fine_tune as tune
from bitspike.checks import bad_type, bad_value, finite, integer, one_of, wide
from bitspike.graph import Graph
from bitspike.graph.traced import Traced
from bitspike.layers import check_numbers
from bitspike.neurons import Neuron


class Converted(Traced):
    """A spiking network made from an ANN: samples [B, ...] → logits [B, K], read out over the T steps.

    Attributes:
        net: the traced network; neurons have the names of the activations they replace. report: of its calibration;
            None where weights were loaded.
    """

    def __init__(self, graph: Graph, report: ConversionReport | None = None) -> None:
        super().__init__(graph)
        self.report = report


def ann2snn(
    model: nn.Module,
    neuron: Neuron,
    data: Tensor | Iterable[Tensor],
    T: int = 1,
    threshold: str = "mse",
    percentile: float = 99.9,
    sharing: str = "channel",
    initial: float = 0.5,
    correction: str = "line",
    readout: str = "mean",
    fine_tune: int = 0,
    leaves: Sequence[type[nn.Module]] = (),
) -> Converted:
    """Convert a trained ANN: every ReLU, ReLU6, Hardtanh, LeakyReLU, ClipFloor becomes an integrate-and-fire neuron.

    Other activations, norms over channels, gates and products stay as they are (`TallyMap`): analog operations, named
    in the report and in `cost`. Where their values go into weights, a neuron behind them sends those as spikes.

    With the highest level worth λ, a level is worth Δ = λ/(levels of the format); the neuron's current is multiplied by
    spacing/Δ and its spikes are worth Δ each, so one step carries the whole range [0, λ], and T steps T times as many
    values. Factors per channel go into the weights before the neuron and, when folded, into those behind it; where
    spikes are added to a current (identity and zero-padding shortcuts), a `Gain` is left, which `cost` counts.

        u_0 = initial·spacing;   k_t = clip(⌊u_t/spacing⌋, 0, M);   u_{t+1} = u_t − spacing·k_t + x_{t+1}·spacing/Δ

    Source: thresholds by maximum and percentile: Rueckauer et al. (Front. Neurosci. 2017); initial membrane of half a
    level and ClipFloor: QCFS (Bu et al., ICLR 2022); one graded step for many binary ones: LM-HT (NeurIPS 2024),
    theorem 4.2; conversion to multi-bit spikes: reconstruction [?] of arXiv 2407.05739. Least-error ranges and the
    corrections of means and weights are those of post-training quantization; the slope is ours.

    Args:
        model: a trained ANN that `upgrade` can trace, [B, ...] → [B, K, ...]; copied, and converted as it is in
            evaluation mode. A softmax or log-softmax at its end is left out, and named in the report.
        neuron: prototype: decay 1, soft reset, e.g. ``MultiBit(2, 2, decay=1.0)``; ``Signed(1, decay=1.0)`` gives
            ternary spikes, which take back what a ReLU sent too early. Its amplitude and initial membrane are set here,
            and of a `Signed` its slope and whether it takes back. Activations with values below 0 need one.
        data: calibration inputs [N, ...] or batches of them, never test data; 256 to 1024 images are enough.
        T: time steps, >= 1.
        threshold: how λ is chosen: "max", "percentile" or "mse", see `ranges`. A ClipFloor brings its own λ.
        percentile: of "percentile", in (0, 100].
        sharing: one λ per "channel" or "layer".
        initial: membrane at the start in levels, in [0, 1); ½ makes firing round instead of floor.
        correction: of every channel's current, to be that of the ANN on the data: "line" (mean, and slope by least
            squares), "mean" (bias correction) or "none"; "weights": first, by least squares with a ridge towards
            those of the ANN, all weights of the convolution or linear map in front of the neuron, of several in a sum
            the one with most weights a channel; not where the data have fewer than 4 values for each weight of a
            channel (few samples, linear maps) or an average pool lies between. The mean of the logits is corrected too.
        readout: "mean" of the logits of all steps; or "settled", of those from the step on that gives the least error
            of the logits on the data (for binary spikes, which take some steps to get through the layers).
        fine_tune: epochs of training the thresholds by surrogate gradients; they stay as they were unless the error on
            a quarter of the data, left out of that training, falls. It helps little (docs/log.md). 0: none.
        leaves: classes of modules that cannot be traced; each runs whole, as an analog operation.

    Returns:
        `Converted`, with ``report``. `fold`, `cost`, `observe` and `stream` take it.

    Raises:
        ValueError: a layer that cannot be converted (named), a neuron or data that do not fit, NaN or inf.

    >>> from bitspike.neurons import MultiBit
    >>> ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = ann2snn(ann, MultiBit(2, 2, decay=1.0), torch.rand(64, 4), T=2)
    >>> snn(torch.rand(5, 4)).shape, list(snn.report.layers)
    (torch.Size([5, 2]), ['body_1'])
    """
    one_of("ann2snn", "threshold", threshold, ("max", "percentile", "mse"))
    one_of("ann2snn", "correction", correction, ("weights", "line", "mean", "none"))
    if not 0 < percentile <= 100:
        raise bad_value("ann2snn", "percentile must lie in (0, 100]", percentile, "e.g. 99.9")
    x = _inputs(data)
    check_numbers("ann2snn", model)
    made = skeleton(model, neuron, x, T, sharing, initial, readout, leaves)
    outputs = next(item for item in made.graph.fx.nodes if item.op == "output").all_input_nodes
    if len(outputs) > 1 and (readout != "mean" or fine_tune):
        must = 'a network with several outputs must be read out by "mean" and not be fine-tuned'
        raise bad_value("ann2snn", must, f"{len(outputs)} outputs", "leave readout and fine_tune as they are")
    report, logits = calibrate(made, x, T, Options(threshold, percentile, sharing, initial, correction))
    if integer("ann2snn", "fine_tune", fine_tune, 0, 10_000):
        if len(x) < 2:
            raise bad_value("ann2snn", "fine-tuning must have two samples or more", len(x), "pass more data")
        tune(made, x, logits, fine_tune, report)
    check_numbers("ann2snn (what calibration made of the weights)", made.graph.model)
    return Converted(made.graph, report)


def skeleton(
    model: nn.Module,
    neuron: Neuron,
    sample: Tensor,
    T: int,
    sharing: str = "channel",
    initial: float = 0.5,
    readout: str = "mean",
    leaves: Sequence[type[nn.Module]] = (),
) -> Skeleton:
    """The network of `ann2snn` before calibration, for loading weights of an earlier conversion into ``graph.model``.

    Args:
        model: any network of the same structure. sample: inputs [B, ...] of the right shape.
        neuron, T, sharing, initial, readout, leaves: as in `ann2snn`.

    Returns:
        `Skeleton`, with ``graph``.

    Raises:
        ValueError: as `ann2snn`.
    """
    return build(model, neuron, sample, integer("ann2snn", "T", T, 1, 10_000), sharing, initial, readout, leaves)


def _inputs(data: Tensor | Iterable[Tensor]) -> Tensor:
    batches = [data] if isinstance(data, Tensor) else list(data)
    if not batches:
        raise bad_value("ann2snn", "the calibration data must hold a batch", "none", "pass inputs")
    for batch in batches:
        if isinstance(batch, Tensor) and not (batch.is_floating_point() or batch.is_complex()):
            must, todo = "the inputs must be floating-point tensors", "convert them with .float()"
            todo += "; where they are indices, convert the network behind its embedding, on what that gives"
            raise bad_type("ann2snn", must, batch.dtype, todo)
        wide("ann2snn", batch)
        finite("ann2snn", "the calibration data", batch)
        if batch.shape[1:] != batches[0].shape[1:] or batch.dtype != batches[0].dtype:
            got = f"{list(batch.shape)} {batch.dtype} behind {list(batches[0].shape)} {batches[0].dtype}"
            raise bad_value("ann2snn", "all batches of calibration data must be alike", got, "make them alike")
    x = batches[0] if len(batches) == 1 else torch.cat(batches)
    if x.dim() < 2 or not len(x):
        raise bad_value("ann2snn", "the calibration data must be [N, ...], N >= 1", list(x.shape), "pass inputs")
    return x

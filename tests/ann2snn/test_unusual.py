"""Unusual input to the passes: nothing, half precision, NaN and overflow, large maps, many samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.ann2snn.thresholds import thinned
from bitspike.cost import cost
from bitspike.layers import Conv2d, Linear, MeanReadout, Repeat
from bitspike.models import Network
from bitspike.neurons import LIF, MultiBit
from networks import rng


def network() -> Network:
    return Network(Repeat(2), nn.Sequential(Linear(4, 6), LIF(threshold=0.25), Linear(6, 3)), MeanReadout()).eval()


def ann() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


NEURON = MultiBit(2, 2, decay=1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    """Squares of activations overflow, and comparisons find nothing but rounding."""
    x = torch.rand(8, 4).to(dtype)
    with pytest.raises(TypeError, match=r"ann2snn: the numbers must have 32 bits .*got torch\.b?float16; convert"):
        bitspike.ann2snn(ann().to(dtype), NEURON, x)
    with pytest.raises(TypeError, match=r"fold: the numbers must have 32 bits"):
        bitspike.fold(network().to(dtype), x)


def test_nothing_is_refused() -> None:
    for data in ([], torch.zeros(0, 4), [torch.zeros(0, 4)], torch.zeros(4)):
        with pytest.raises(ValueError, match=r"ann2snn: the calibration data must"):
            bitspike.ann2snn(ann(), NEURON, data)
    sequences = nn.Sequential(Linear(4, 6), LIF(), Linear(6, 3)).eval()
    for net, x in ((network(), torch.zeros(0, 4)), (sequences, torch.zeros(3, 0, 4)), (sequences, torch.zeros(3))):
        with pytest.raises(ValueError, match=r"fold: the sample must be \[B, \.\.\.\].*B >= 1, got \["):
            bitspike.fold(net, x)
        with pytest.raises(ValueError, match=r"cost: the samples must be \[B, \.\.\.\].*B >= 1, got \["):
            cost(net, x)
    for run in (bitspike.fold, cost):
        with pytest.raises(ValueError, match=r"T \(axis 0\) must be >= 1"):
            run(sequences, torch.zeros(0, 2, 4))  # type: ignore[operator]
    with pytest.raises(TypeError, match="ann2snn: the input must be a floating-point tensor, got list"):
        bitspike.ann2snn(ann(), NEURON, [[1.0]])  # type: ignore[list-item]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_calibration_data_must_be_finite(value: float) -> None:
    x = torch.rand(64, 4)
    x[63, 3] = value
    for data in (x, list(x.split(16))):
        with pytest.raises(ValueError, match=r"ann2snn: the calibration data must be finite, got 1 NaN or inf"):
            bitspike.ann2snn(ann(), NEURON, data)


def test_a_training_mode_network_is_left_as_it_was_where_fold_refuses() -> None:
    net = network().train()
    with pytest.raises(ValueError, match="fold"):
        bitspike.fold(net, torch.zeros(0, 4))
    assert all(module.training for module in net.modules())


def test_an_output_that_overflows_is_no_equal_output() -> None:
    """inf − inf is NaN, which no comparison with a tolerance sees."""
    net = network()
    last = net.body[2]  # type: ignore[index]
    with torch.no_grad():
        net.body[0].bias.fill_(1.0)  # type: ignore[index]
        last.weight.fill_(3e38)
    with pytest.raises(ValueError, match="fold: the output of the network on the sample must be finite"):
        bitspike.fold(net, torch.rand(8, 4))


def test_non_contiguous_calibration_data_give_the_same_network() -> None:
    x = torch.rand(4, 64, generator=rng(0)).t()
    assert not x.is_contiguous()
    net = ann()
    one, other = (bitspike.ann2snn(net, NEURON, data, T=2) for data in (x, x.contiguous()))
    for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert one.report is not None and one.report.agreement > 0.9


def test_maps_of_classes() -> None:
    """A network that ends in [B, K, H, W], with more samples than are run at a time: shares stay shares."""
    net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)).eval()
    x = torch.randn(70, 2, 5, 5, generator=rng(0))
    snn = bitspike.ann2snn(net, MultiBit(4, 4, decay=1.0), x)
    report = snn.report
    with torch.no_grad():
        found, wanted = snn(x), net(x)
        same = (found.argmax(1) == wanted.argmax(1)).double().mean()
    assert found.shape == wanted.shape == (70, 4, 5, 5)
    assert report is not None and report.agreement == pytest.approx(float(same), abs=0.01) and report.agreement > 0.9
    assert report.logit_error == pytest.approx(float((found - wanted).norm() / wanted.norm()), rel=0.05)
    folded = bitspike.fold(snn, x)
    assert folded.report.samples == 70 and 0.99 < folded.report.agreement <= 1


def test_fold_of_maps_over_time() -> None:
    net = nn.Sequential(Conv2d(2, 4, 3), LIF(threshold=0.5, amplitude=2.0), Conv2d(4, 3, 3)).double().eval()
    x = torch.randn(3, 5, 2, 7, 7, generator=rng(0), dtype=torch.float64)
    report = bitspike.fold(net, x).report
    assert (report.samples, report.agreement, report.samples_with_flips) == (5, 1.0, 0)
    assert report.max_logit_difference <= report.max_logit_difference_all < 1e-9


@pytest.mark.parametrize("width", [8, 16, 32, 28])
def test_calibration_sees_every_column_of_an_image(width: int) -> None:
    """Rows are pixels in order of sample, height and width; the activations of one column must not stand for all."""
    samples = 2**15 // width // 4 * 7
    column = torch.arange(width).repeat(samples * 4).unsqueeze(1).float()
    assert len(column) > 2**15
    found = thinned(column)
    assert len(found) == 2**15 and torch.equal(found, thinned(column))
    share = torch.bincount(found.long().flatten(), minlength=width).double() / len(found)
    assert float((share * width - 1).abs().max()) < 0.15


@pytest.mark.parametrize("count", [2**15, 2**15 + 1, 3 * 2**15 - 1])
def test_thinned_rows_are_distinct_and_in_order(count: int) -> None:
    rows: Tensor = thinned(torch.arange(count).unsqueeze(1)).flatten()
    assert len(rows) == 2**15 and bool((rows.diff() > 0).all()) and int(rows[-1]) < count

"""The page of the inference benchmark is that of the JSON; peers get the network that the program computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bitspike
from bitspike.layers import Affine, AvgPool2d, BatchNorm
from bitspike.models import he_resnet20
from bitspike.neurons import LIF, Adaptive, MultiBit, Neuron, Signed, Ternary
from bitspike.quantizers import LearnedBits, Quantizer, Sign, Uniform
from wide import widened

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "inference"
BLOCKS = ("goals", "open", "ann", "machine", "b1-t2", "b64-t2")
PAGE = "".join(f"<!-- inference: {name} -->\n<!-- end -->\n" for name in BLOCKS)


def tables(*arguments: str) -> int:
    return subprocess.run([sys.executable, str(SCRIPTS / "tables.py"), *arguments], capture_output=True).returncode


def record(network: str, peer: str, ms: tuple[float, float], ratio: tuple[float, float, float]) -> dict[str, Any]:
    compared = {"images": 256, "accuracy": 0.9102, "agreement_with_program": 0.83 if peer == "openvino-int8" else 1.0}
    machine = {"cpu": "a CPU", "cores": 2, "hypervisor": True, "memory_gib": 4.0, "libc": "glibc 2.36"}
    return {
        "network": network,
        "peer": peer,
        "status": "measured",
        "ours_ms": ms[0],
        "peer_ms": ms[1],
        "ratio": ratio[0],
        "ratio_low": ratio[1],
        "ratio_high": ratio[2],
        "dropped_rounds": 1,
        "program": {"setting": {"trained": True}, "accuracy": 0.7752, "accuracy_images": 10_000},
        "facts": {"compared": compared, "setting": "step by step"},
        "ours": {"engine": "engine: native, avx512vnni, 2 threads at most"},
        "machine": machine,
        "source": {"commit": "0123456789abcdef", "changed": False},
        "versions": {"openvino": "1"},
    }


def write(folder: Path, batch: int, found: dict[str, Any]) -> None:
    """Into the folder of the record's machine."""
    own = folder / found["machine"]["cpu"].replace(" ", "-")
    own.mkdir(exist_ok=True)
    (own / f"{found['network']}-b{batch}-t2-{found['peer']}.json").write_text(json.dumps(found))


def test_the_page_is_up_to_date() -> None:
    assert tables("--check") == 0


def test_the_page_says_what_was_met_and_when_the_ann_wins(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    options = ("--results", str(tmp_path), "--page", str(page))
    assert tables(*options) == 0
    text = page.read_text()
    assert text.count("Not run.") == 5 and "met" not in text
    left = text.count("\n- ")
    assert left > 15 and "- ResNet-20, binary spikes at T = 4, batch 1, against OpenVINO int8" in text
    write(tmp_path, 1, record("binary-T4", "openvino-int8", (0.5, 1.3), (2.6, 2.4, 2.7)))
    write(tmp_path, 1, record("binary-T4", "openvino-ann-int8", (0.5, 0.25), (0.5, 0.45, 0.55)))
    write(tmp_path, 1, record("binary-T1", "openvino-int8", (0.4, 0.4), (1.0, 0.9, 1.1)))
    write(tmp_path, 1, record("binary-T1", "openvino-ann-int8", (0.2, 0.3), (1.5, 1.4, 1.6)))
    write(tmp_path, 64, {**record("binary-T4", "openvino-int8", (9, 9), (1, 1, 1)), "status": "failed: no memory"})
    assert tables(*options) == 0
    text = widened(page.read_text())
    head = "| ResNet-20, binary spikes, T = 4, batch 1; 77.52% | OpenVINO int8, best setting |"
    assert f"{head} 0.500, 1.30 | 2.60× (2.40–2.70) | ≥ 2.5× |" in text
    still = [line for line in page.read_text().split("\n") if line.startswith("- ResNet-20")]
    assert len(still) == left - 2  # the failed one is still open
    assert "| ≥ 2.5× | met, interval crosses |" in text and "| ≥ 1.5× | not met |" in text and "| failed |" in text
    assert "is right on 91.0% of 256 test images" in text
    assert "The ANN wins against binary spikes at T = 4 (0.500 ms); it loses against binary spikes at T = 1" in text
    assert "1.30 (2.60×, 83%)" in text and "0.250 (0.50×)" in text
    assert tables(*options, "--check") == 0


def narrow(neuron: Neuron, T: int, **options: Any) -> tuple[nn.Module, Any, torch.Tensor]:
    """(folded network, program, images) of a tiny ResNet-20 that was never trained."""
    torch.manual_seed(0)
    ann = he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 8, 8)).eval()
    x = torch.rand(64, 3, 8, 8)
    snn = bitspike.ann2snn(ann, neuron, x, T, **options)
    folded = bitspike.fold(snn, x)
    return folded, bitspike.compile(folded, x), x


@pytest.mark.parametrize(
    ("neuron", "T", "options"),
    [
        (LIF(1.0, 1.0, reset="soft"), 3, {"readout": "settled"}),
        (Signed(1, decay=1.0), 3, {}),
        (MultiBit(2, 2, decay=1.0), 2, {}),
        (MultiBit(8, 0, decay=1.0), 1, {}),
    ],
)
def test_the_exported_network_is_the_program(
    neuron: Neuron, T: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64 the plain network sends what the program sends, but for the rounding of its multipliers."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from compiled import described
    from network import Exported
    from plain import Plain

    folded, program, x = narrow(neuron, T, **options)
    layers, arrays = described(folded.graph, program)  # type: ignore[arg-type]
    m, s = program.spec.input.scale
    value = program.spec.input.value
    exported = Exported(T, {"step": 2.0**s / m, "low": value.low, "high": value.high}, layers, arrays)
    net = Plain(exported).double()
    net.rates = {}
    found, wanted = net(x.double()).numpy(), program(x.numpy()).values
    differs = abs(found - wanted).max(1) > 1e-3 * abs(wanted).max()
    assert differs.mean() <= 0.1  # a membrane within a rounding of its threshold
    assert sum(0.02 < rate < 0.98 for rate in net.rates.values()) > len(net.rates) / 2


@pytest.mark.parametrize(
    ("neuron", "weight", "T"),
    [
        (LIF(1.0, 1.0, reset="soft", initial=0.5), Uniform(8, scale="output"), 3),
        (Signed(1, decay=1.0), Sign(), 3),
        (Ternary(decay=1.0, reset="soft"), Uniform(8, scale="output"), 3),
        (Ternary(decay=1.0, reset="soft"), Sign(), 2),
        (MultiBit(2, 0, decay=1.0, initial=0.5), Uniform(4, scale="output"), 2),
        (Adaptive(3), LearnedBits(5), 2),
    ],
)
def test_trained_weights_of_few_bits_reach_the_peers(
    neuron: Neuron, weight: Quantizer, T: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind quantized weights a norm folds into an affine map, which peers get as scales and biases."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from compiled import described
    from network import Exported
    from plain import Plain

    torch.manual_seed(0)
    net, x = he_resnet20(neuron, weight, T=T, width=4, shape=(3, 8, 8)), torch.rand(64, 3, 8, 8)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BatchNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, 0.0, 0.5)
        net(x)
    folded = bitspike.fold(net.eval(), x)
    assert any(isinstance(module, Affine) for module in folded.modules())
    program = bitspike.compile(folded, x)
    layers, arrays = described(folded.graph, program)
    m, s = program.spec.input.scale
    value = program.spec.input.value
    exported = Exported(T, {"step": 2.0**s / m, "low": value.low, "high": value.high}, layers, arrays)
    plain = Plain(exported).double()
    plain.rates = {}
    found, wanted = plain(x.double()).numpy(), program(x.numpy()).values
    assert (abs(found - wanted).max(1) > 1e-3 * abs(wanted).max()).mean() <= 0.1
    assert sum(rate > 0.02 for rate in plain.rates.values()) > len(plain.rates) / 2


def test_the_time_of_an_inaccurate_network_does_not_count(tmp_path: Path) -> None:
    """Two points below the arm's reference at most; the reference and the rate stand beside it."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for name, accuracy in (("trained-binary-T4", 0.81), ("trained-binary-T1", 0.79)):
        found = record(name, "openvino-int8", (0.5, 1.5), (3.0, 2.9, 3.1))
        found["program"] |= {"accuracy": accuracy, "reference_accuracy": 0.825, "spike_rate": 0.1436}
        write(tmp_path, 1, found)
    assert tables("--results", str(tmp_path), "--page", str(page)) == 0
    text, label = page.read_text(), "| ResNet-20, trained: binary spikes × 8-bit weights, T ="
    assert f"{label} 4, batch 1; 81.00%, 14.4% fire | " in text and text.count("| met |") == 1
    assert f"{label} 1, batch 1; 79.00%, 14.4% fire; does not count, 82.50% free | " in text
    assert "| ≥ 1.5× | does not count |" in text


def test_machines_have_tables_of_their_own(tmp_path: Path) -> None:
    """The time of one is not mixed with that of another; a goal that one has run is not open."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for cpu, ms in (("CPU one", (0.5, 1.0)), ("CPU two", (0.25, 4.0))):
        for peer in ("openvino-int8", "openvino-ann-int8"):
            found = record("binary-T4", peer, ms, (ms[1] / ms[0], 1.9, 17))
            write(tmp_path, 1, {**found, "machine": {**found["machine"], "cpu": cpu}})
    assert tables("--results", str(tmp_path), "--page", str(page)) == 0
    blocks = [part.split("<!-- end")[0] for part in page.read_text().split("-->\n")]
    goals, ann = blocks[1], blocks[5]
    one, two = goals.split("On CPU two with avx512vnni:")
    assert "On CPU one with avx512vnni:" in one and "| 0.500, 1.00 | 2.00×" in one and "| 0.250, 4.00 | 16.00×" in two
    one, two = ann.split("On CPU two with avx512vnni:")
    assert "takes 1.00 ms" in one and "takes 4.00 ms" in two and ann.count("- Batch 64: not run.") == 2
    assert blocks[7].count("Kernels of bitspike: avx512vnni;") == 2
    assert "- ResNet-20, binary spikes at T = 4, batch 1, against OpenVINO int8" not in page.read_text()


def test_layers_that_peers_do_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from compiled import described

    net = nn.Sequential(
        bitspike.layers.Repeat(2), AvgPool2d(2), bitspike.layers.Flatten(), bitspike.layers.Linear(4, 2)
    )
    folded = bitspike.fold(net.eval(), torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match="every layer must be one that peers know"):
        described(folded.graph, None)  # type: ignore[arg-type]

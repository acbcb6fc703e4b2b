"""Published weights: an independent forward pass, refused files, and the published accuracy."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bitspike.layers import Synapse
from bitspike.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODELS,
    he_resnet20,
    he_resnet32,
    load_he_checkpoint,
    resnet19,
)
from bitspike.neurons import Ternary
from bitspike.quantizers import Uniform
from builders import images, tiny

FILES = {"he_resnet20": "resnet20-12fca82f.th", "he_resnet32": "resnet32-d509ac18.th"}


def he_tensors(depth: int = 3) -> dict[str, Tensor]:
    """Random tensors with the names and shapes of a published file."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def conv(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)

    def norm(name: str, width: int) -> None:
        for kind in ("weight", "running_var"):
            found[f"{name}.{kind}"] = torch.rand(width, generator=generator) + 0.5
        for kind in ("bias", "running_mean"):
            found[f"{name}.{kind}"] = torch.randn(width, generator=generator) * 0.3
        found[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 3, 16)
    norm("bn1", 16)
    inputs = 16
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in range(depth):
            for part in (1, 2):
                conv(f"layer{stage}.{block}.conv{part}", inputs, width)
                norm(f"layer{stage}.{block}.bn{part}", width)
                inputs = width
    found["linear.weight"] = torch.randn(10, 64, generator=generator)
    found["linear.bias"] = torch.randn(10, generator=generator)
    return {f"module.{name}": value for name, value in found.items()}


def he_forward(given: dict[str, Tensor], x: Tensor, depth: int = 3) -> Tensor:
    """The network of the file, written out with torch's functions alone."""
    w = {name.removeprefix("module."): value.to(x.dtype) for name, value in given.items()}

    def normed(y: Tensor, name: str) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(y, *(w[f"{name}.{kind}"] for kind in kinds), eps=1e-5)

    x = F.relu(normed(F.conv2d(x, w["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(F.relu(normed(y, f"{name}.bn1")), w[f"{name}.conv2.weight"], padding=1)
            quarter = y.shape[1] // 4
            short = x if stride == 1 else F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = F.relu(normed(y, f"{name}.bn2") + short)
    return F.linear(x.mean((2, 3)), w["linear.weight"], w["linear.bias"])


def save(path: Path, tensors: dict[str, Any]) -> Path:
    torch.save({"state_dict": tensors, "best_prec1": 91.0}, path)
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return save(tmp_path / "he.th", he_tensors())


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("wiring", ["spike", "input"])
def test_loaded_networks_equal_an_independent_forward_pass(published: Path, wiring: str, steps: int) -> None:
    model = he_resnet20(nn.ReLU(), T=steps, wiring=wiring)
    assert load_he_checkpoint(model, published) is model
    x = images(3, (3, 32, 32))
    with torch.no_grad():
        got, wanted = model.double().eval()(x), he_forward(he_tensors(), x)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    assert wanted.std() > 0.1


def test_he_resnet32(tmp_path: Path) -> None:
    tensors = he_tensors(5)
    model = load_he_checkpoint(he_resnet32(nn.ReLU(), T=1), str(save(tmp_path / "he.th", tensors))).double().eval()
    x = images(1, (3, 32, 32))
    with torch.no_grad():
        torch.testing.assert_close(model(x), he_forward(tensors, x, 5), rtol=1e-10, atol=1e-10)


def test_quantizers_start_from_the_loaded_weights_and_neurons_keep_theirs(published: Path) -> None:
    with pytest.warns(UserWarning, match="inert"):
        model = he_resnet20(Ternary(train_amplitude="layer", amplitude=3.0), Uniform(4, "output"))
    load_he_checkpoint(model, published)
    hidden = [m for m in model.modules() if isinstance(m, Synapse) and m.role == "hidden"]
    assert len(hidden) == 18
    for synapse in hidden:
        fresh = Uniform(4, "output").replicate(synapse.weight)
        assert torch.equal(synapse.quantizer(synapse.weight), fresh(synapse.weight))
    amplitudes = [v for name, v in model.named_parameters() if name.endswith("raw_amplitude")]
    assert len(amplitudes) == 19 and all(v.exp().item() == pytest.approx(3.0) for v in amplitudes)


def test_a_file_without_the_prefix_of_data_parallel(tmp_path: Path) -> None:
    plain = {name.removeprefix("module."): value for name, value in he_tensors().items()}
    load_he_checkpoint(he_resnet20(nn.ReLU()), save(tmp_path / "he.th", plain))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("module.layer2.1.bn1.bias"), r"got 1 missing \(layer2\.1\.bn1\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), r"got 1 unknown \(extra"),
        (
            lambda t: t.update({"module.linear.bias": torch.zeros(100)}),
            r"linear\.bias must have.*got \[100\] for \[10\]",
        ),
        (lambda t: t["module.conv1.weight"].fill_(float("nan")), r"'conv1\.weight' must be finite"),
        (lambda t: t.update({"module.linear.bias": torch.zeros(10).to_sparse()}), "must hold 'state_dict', a dict of"),
        (lambda t: t.update({"module.linear.bias": [0.0] * 10}), "must hold 'state_dict', a dict of tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path, change: Any, words: str) -> None:
    tensors = he_tensors()
    change(tensors)
    model = he_resnet20(nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        load_he_checkpoint(model, save(tmp_path / "he.th", tensors))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: he_resnet32(nn.ReLU()), r"60 missing \(layer1\.3\.bn1\.bias"),
        (lambda: he_resnet20(nn.ReLU(), shortcut="stride"), r"10 missing \(layer2\.0\.shortcut\.0\.weight"),
        (lambda: he_resnet20(nn.ReLU(), width=8), r"conv1\.weight must have the shape"),
        (lambda: tiny("vgg11", nn.ReLU()), "missing .* and .* unknown .*; build he_resnet20 or he_resnet32"),
        (lambda: tiny("resnet19", nn.ReLU()), "missing .* and .* unknown"),
    ],
)
def test_networks_that_do_not_fit_are_refused(published: Path, model: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_he_checkpoint(model(), published)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path: Path, form: str) -> None:
    bomb, path = {**he_tensors(), "module.bomb": Bomb(tmp_path / "ran")}, tmp_path / "bad.th"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": bomb}))
    else:
        torch.save({"state_dict": bomb}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=r"holds tensors and nothing to execute, got .*safely") as caught:
        load_he_checkpoint(he_resnet20(nn.ReLU()), path)
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    with contextlib.suppress(RuntimeError):  # a plain pickle is no checkpoint, which shows after it was unpickled
        torch.load(path, weights_only=False)  # the bomb is live
    assert (tmp_path / "ran").is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 junk", b"\x80\x02}q\x00.", pickle.dumps([1, 2])])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.th"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load_he_checkpoint .*other\.th: the file must") as caught:
        load_he_checkpoint(he_resnet20(nn.ReLU()), path)
    assert "\n" not in str(caught.value)


def test_damaged_and_foreign_checkpoints(tmp_path: Path, published: Path) -> None:
    whole = published.read_bytes()
    cut, foreign, empty = tmp_path / "cut.th", tmp_path / "foreign.th", tmp_path / "empty.th"
    cut.write_bytes(whole[: len(whole) // 2])
    torch.save({"model": he_tensors(), "epoch": 3}, foreign)
    with zipfile.ZipFile(empty, "w"):
        pass
    for path, words in (
        (cut, "cannot be unpickled safely"),
        (empty, "cannot be unpickled safely"),
        (foreign, r"must hold 'state_dict', a dict of tensors, got the keys \['epoch', 'model'\]"),
        (tmp_path / "none.th", r"none\.th: the file must be readable, got No such file"),
        (tmp_path, "the file must be readable"),
    ):
        with pytest.raises(ValueError, match=words):
            load_he_checkpoint(he_resnet20(nn.ReLU()), path)


def test_only_networks_of_he_take_them(published: Path) -> None:
    """A narrow ResNet-19 has other depths: its names do not fit."""
    with pytest.raises(ValueError, match="missing"):
        load_he_checkpoint(resnet19(nn.ReLU(), width=16), published)


def cifar_test(count: int) -> tuple[Tensor, Tensor]:
    """The first test images, normalised as the files want them, and their labels; decoding as in the data's README."""
    with np.load(Path(os.environ["BITSPIKE_DATA"]) / "cifar10" / "cifar10_test_batch.npz") as file:
        planes = file["residuals"][:, :count].cumsum(3, dtype=np.uint8).cumsum(2, dtype=np.uint8)
        labels = torch.from_numpy(file["labels"][:count].astype(np.int64))
    planes[1:] += planes[0]
    pixels = torch.from_numpy(np.stack([planes[1], planes[0], planes[2]], 1)).float() / 255
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / deviation, labels


def correct(name: str, wiring: str, count: int) -> int:
    x, labels = cifar_test(count)
    path = Path(os.environ["BITSPIKE_DATA"]) / "checkpoints" / FILES[name]
    model = load_he_checkpoint(MODELS[name](nn.ReLU(), T=1, wiring=wiring), path).eval()
    with torch.no_grad():
        found = torch.cat([model(batch).argmax(1) for batch in x.split(250)])
    return int((found == labels).sum())


needs_data = pytest.mark.skipif(not os.environ.get("BITSPIKE_DATA"), reason="BITSPIKE_DATA is not set")


@pytest.mark.data
@needs_data
def test_published_accuracy_on_1000_images() -> None:
    """Measured with these files: 915 of the first 1,000 test images."""
    assert correct("he_resnet20", "spike", 1000) == 915


@pytest.mark.data
@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("name", "wiring", "right"),
    [("he_resnet20", "spike", 9173), ("he_resnet20", "input", 9173), ("he_resnet32", "spike", 9263)],
)
def test_published_accuracy(name: str, wiring: str, right: int) -> None:
    """91.73 % and 92.63 %: test errors of 8.27 and 7.37 % as published."""
    assert correct(name, wiring, 10_000) == right

"""The same checkpoints and calibration images through SpikingJelly's ann2snn: its best recipe at every T.

    .venvs/conversion/bin/python benchmarks/conversion/peer_spikingjelly.py [--arch he_resnet20 ...] [--T 1 2 ...]
        [--out results/conversion] [--threads 2] [--choose 1000] [--only-choose]

`setup.sh` makes the environment. A queue like `run.py`, with the same files: one JSON a network and T. First every
recipe below is converted on the calibration images and classifies 100 held-out training images (shifted, flipped and
partly cut out), once at the greatest T; its logits give the accuracy at every smaller T, read out from the first step
or from the start that SpikingJelly's `estimate_delay_start` proposes. The best three at each T classify 1,000. These
figures are kept in spikingjelly-choices-ARCH.json. Then, for each T, the recipe that was best there reads the test set
once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "src"))

try:
    import torch
    from spikingjelly.activation_based import ann2snn, functional, neuron
except ImportError as missing:
    print(f"{missing}; use the environment of benchmarks/conversion/setup.sh", file=sys.stderr)
    raise SystemExit(2) from missing
from common import (  # noqa: E402
    FILES,
    IMAGES,
    RESULTS,
    SEED,
    SOURCE,
    calibration,
    checkpoint,
    held_out,
    images,
    key_of,
    stored,
)
from torch import Tensor, nn  # noqa: E402

from bitspike.data import Batches, Splits  # noqa: E402
from bitspike.files import write_json_atomic  # noqa: E402
from bitspike.process_memory import keep_memory  # noqa: E402

STEPS = (1, 2, 4, 8, 16, 32)
SCREEN = 100
BATCH = 100
BLOCKS = {"he_resnet20": 3, "he_resnet32": 5}


def shortcut(inputs: int, outputs: int) -> nn.Module:
    """Every second pixel, zeros for the new channels: as a fixed 1×1 convolution, for the converter refuses padding."""
    if inputs == outputs:
        return nn.Identity()
    made = nn.Conv2d(inputs, outputs, 1, 2, bias=False).requires_grad_(False)
    made.weight.zero_()
    channels = torch.arange(inputs)
    made.weight[channels + (outputs - inputs) // 2, channels] = 1.0
    return made


class Block(nn.Module):
    """Basic block, an activation of its own at each of its two places."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, outputs // inputs, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut = shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W]."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class ResNet(nn.Module):
    """He et al., section 4.2, with the names of the published files."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(*[Block(16, 16) for _ in range(blocks)])
        self.layer2 = nn.Sequential(Block(16, 32), *[Block(32, 32) for _ in range(blocks - 1)])
        self.layer3 = nn.Sequential(Block(32, 64), *[Block(64, 64) for _ in range(blocks - 1)])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 32, 32] → [B, 10]."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(self.flatten(self.pool(self.layer3(self.layer2(self.layer1(x))))))


def network(arch: str) -> ResNet:
    """The ANN with its published weights."""
    net = ResNet(BLOCKS[arch])
    found = torch.load(checkpoint(arch), map_location="cpu", weights_only=True)["state_dict"]
    missing, unexpected = net.load_state_dict(
        {name.removeprefix("module."): value for name, value in found.items()}, strict=False
    )
    assert not unexpected and all("shortcut" in name or "num_batches" in name for name in missing), (
        missing,
        unexpected,
    )
    return net.eval()


@dataclass(frozen=True)
class Recipe:
    """One way to convert; `batch` is the size of a calibration batch, `passes` how often all are seen."""

    kind: str
    mode: str | float = "Max"
    channel_wise: bool = False
    half: bool = False
    batch: int = IMAGES
    passes: int = 1

    @property
    def name(self) -> str:
        """For tables."""
        if self.kind == "balanced":
            return f"local threshold balancing, {self.passes} passes"
        mode = self.mode if isinstance(self.mode, str) else f"max × {self.mode:.3g}"
        words = [str(mode).lower(), "per channel" if self.channel_wise else "per layer"]
        return ", ".join(words + ["membrane from half the threshold"] * self.half)


def recipes() -> list[Recipe]:
    """SpikingJelly's recipes for ReLU networks that need no training, over the range of their options."""
    modes: tuple[str | float, ...] = ("Max", "99.9%", "99%", 1 / 2, 1 / 3, 1 / 4, 1 / 5)
    rate = [Recipe("rate", mode, wise, half) for wise in (False, True) for half in (False, True) for mode in modes]
    return rate + [Recipe("balanced", batch=64, passes=passes) for passes in (1, 4, 16)]


def convert(arch: str, recipe: Recipe, x: Tensor) -> nn.Module:
    """An SNN in single-step mode."""
    loader = list(x.split(recipe.batch)) * recipe.passes
    if recipe.kind == "balanced":
        made: Any = ann2snn.LocalThresholdBalancingRecipe(dataloader=loader)
    else:
        options: dict[str, Any] = {"channel_wise": recipe.channel_wise}
        if recipe.half and recipe.channel_wise:
            options["half_threshold"] = True
        elif recipe.half:
            options["neuron_factory"] = lambda scale: neuron.HalfThresholdIFNode()
        made = ann2snn.RateCodingRecipe(dataloader=loader, mode=recipe.mode, **options)
    ann = network(arch)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        return ann2snn.Converter(recipe=made, device="cpu").convert(ann).eval()


@torch.no_grad()
def logits(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], T: int) -> tuple[Tensor, Tensor]:
    """(sum of the logits up to every step [T, N, K], labels [N])."""
    found, labels = [], []
    for x, wanted in batches:
        functional.reset_net(net)
        found.append(torch.stack([net(x) for _ in range(T)]).cumsum(0))
        labels.append(wanted)
    return torch.cat(found, 1), torch.cat(labels)


def read_out(sums: Tensor, T: int, start: int) -> Tensor:
    """Classes from the steps behind ``start`` up to T, [N]."""
    return (sums[T - 1] - sums[start - 1] if start else sums[T - 1]).argmax(1)


def start_of(net: nn.Module, x: Tensor, T: int) -> int:
    """The first step that SpikingJelly would read out."""
    if T == 1:
        return 0
    return int(ann2snn.estimate_delay_start(net, [x], "cpu", T))


def choices(arch: str, splits: Splits, count: int, path: Path) -> dict[str, Any]:
    """Accuracy of recipes on held-out training images; recipes that a file holds are not run again.

    All are tried on SCREEN images; those among the best three at some T on ``count``.
    """
    setting = {"arch": arch, "images": IMAGES, "seed": SEED, "screen": SCREEN, "held_out": count, "T": STEPS}
    key = key_of(setting)
    document = stored(path, key) or {"key": key, "setting": setting, "screened": {}, "recipes": {}}
    x = calibration(splits.train)
    for stage, images_seen in (("screened", SCREEN), ("recipes", count)):
        wanted = recipes()
        if stage == "recipes":
            wanted = [recipe for recipe in wanted if recipe.name in finalists(document)]
        for recipe in wanted:
            if recipe.name in document[stage]:
                continue
            begin = time.perf_counter()
            rows = tried(arch, recipe, x, held_out(splits, images_seen, BATCH))
            document[stage][recipe.name] = {"recipe": asdict(recipe), "rows": rows}
            write_json_atomic(path, document)
            took = time.perf_counter() - begin
            shown = " ".join(f"{row['accuracy']:.3f}" for row in rows)
            print(f"{arch} {stage} {recipe.name}: {shown}; {took:.0f} s", flush=True)
    return document


def tried(arch: str, recipe: Recipe, x: Tensor, batches: Batches) -> list[dict[str, Any]]:
    """Accuracy at every T, read out from the start and from where SpikingJelly proposes."""
    net, rows = convert(arch, recipe, x), []
    sums, labels = logits(net, batches, max(STEPS))
    for T in STEPS:
        for start in sorted({0, start_of(net, x[:64], T)}):
            right = float((read_out(sums, T, start) == labels).double().mean())
            rows.append({"T": T, "start": start, "accuracy": right})
    return rows


def finalists(document: dict[str, Any]) -> set[str]:
    """Recipes among the best three at some T, with their better start."""
    found: set[str] = set()
    for T in STEPS:
        reached = {
            name: max(row["accuracy"] for row in entry["rows"] if row["T"] == T)
            for name, entry in document["screened"].items()
        }
        found |= set(sorted(reached, key=lambda name: -reached[name])[:3])
    return found


def best(document: dict[str, Any], T: int) -> tuple[Recipe, int, float]:
    """(recipe, first step that is read, accuracy on held-out training images); the first of equals."""
    found = [
        (row["accuracy"], -index, Recipe(**entry["recipe"]), row["start"])
        for index, entry in enumerate(document["recipes"].values())
        for row in entry["rows"]
        if row["T"] == T
    ]
    accuracy, _, recipe, start = max(found, key=lambda item: item[:2])
    return recipe, start, accuracy


@torch.no_grad()
def additions(net: nn.Module, x: Tensor, T: int) -> dict[str, float]:
    """Per sample, by the rules of `bitspike.cost`, scales taken as folded into weights.

    A synapse fed by spikes adds MACs × share of spikes, and its bias once an output and step. The first layer
    multiplies. The classifier behind the pool (640 MACs) is counted as additions, one a non-zero input and class.
    """
    found = {"adds": 0.0, "multiplications": 0.0, "macs": 0.0}
    first = True

    def count(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal first
        each = module.weight[0].numel() * y.numel() / len(x)  # type: ignore[operator,union-attr]
        found["macs"] += each
        key = "multiplications" if first else "adds"
        found[key] += each * float((args[0] != 0).double().mean())
        found["adds"] += y.numel() / len(x) if module.bias is not None else 0.0
        first = False

    counted = [m for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in name]
    handles = [module.register_forward_hook(count) for module in counted]
    functional.reset_net(net)
    for _ in range(T):
        first = True
        net(x)
    for handle in handles:
        handle.remove()
    return found


def measure(arch: str, T: int, splits: Splits, document: dict[str, Any], reference: Callable[[], Tensor]) -> Any:
    """Read the test set once with the recipe chosen for T."""
    recipe, start, held = best(document, T)
    x = calibration(splits.train)
    begin = time.perf_counter()
    net = convert(arch, recipe, x)
    seconds = time.perf_counter() - begin
    counted = additions(net, x[:64], T)
    sums, labels = logits(net, Batches(splits.test, BATCH), T)
    found, ann = read_out(sums, T, start), reference()
    right, ann_right = (float((classes == labels).double().mean()) for classes in (found, ann))
    setting = setting_of(arch, T, document)
    return {
        "key": key_of(setting),
        "library": "spikingjelly",
        "version": version("spikingjelly"),
        "setting": setting,
        "T": T,
        "spike_bits": 1,
        "recipe": recipe.name,
        "read_out_from_step": start,
        "held_out_accuracy": held,
        "test_images": len(labels),
        "ann_accuracy": ann_right,
        "snn_accuracy": right,
        "agreement": float((found == ann).double().mean()),
        "drop_points": 100 * (ann_right - right),
        "conversion_time_s": seconds,
        "threads": torch.get_num_threads(),
        "operations_per_sample": counted,
        "source": SOURCE,
    }


def setting_of(arch: str, T: int, document: dict[str, Any]) -> dict[str, Any]:
    """What decides a result."""
    recipe, start, _ = best(document, T)
    return {"arch": arch, "T": T, "recipe": asdict(recipe), "start": start, "images": IMAGES, "seed": SEED}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--T", nargs="+", type=int, choices=STEPS, default=list(STEPS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--choose", type=int, default=1000, help="held-out training images that choose the recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-choose", action="store_true", help="leave the test set alone")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()
    splits = images()
    given.out.mkdir(parents=True, exist_ok=True)
    for arch in given.arch:
        document = choices(arch, splits, given.choose, given.out / f"spikingjelly-choices-{arch}.json")
        ann: list[Tensor] = []

        def reference(arch: str = arch, kept: list[Tensor] = ann) -> Tensor:
            if not kept:
                net = network(arch)
                with torch.no_grad():
                    kept.append(torch.cat([net(x).argmax(1) for x, _ in Batches(splits.test, BATCH)]))
            return kept[0]

        for T in [] if given.only_choose else given.T:
            path = given.out / f"{arch}-spikingjelly-T{T}.json"
            if stored(path, key_of(setting_of(arch, T, document))):
                continue
            result = measure(arch, T, splits, document, reference)
            write_json_atomic(path, result)
            print(f"{path.name}: ANN {result['ann_accuracy']:.2%}, SNN {result['snn_accuracy']:.2%}", flush=True)


if __name__ == "__main__":
    main()

"""Which levels, and which bits of them, the neurons of a study's arms send: table and picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitspike.checks import message
from bitspike.functional import learns_bits
from bitspike.report.figure import new_figure
from bitspike.report.study import measured_by, metric_text
from bitspike.training.build import ACTIVATIONS, build_neuron
from bitspike.training.study import ArmSummary, Study, plan, results_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_ABSENT = "not counted"


@dataclass(frozen=True)
class LevelUse:
    """What one arm's neurons sent on validation samples.

    Attributes:
        arm: its name. n: seeds whose result holds counts. high, fraction_bits: of the recipe's neuron; one level is
            worth 2^-fraction_bits. layers: path of a neuron layer → level → how often it was sent, all seeds together.
    """

    arm: str
    n: int
    high: int
    fraction_bits: int
    layers: Mapping[str, Mapping[str, int]]

    def shares(self, layer: str | None = None) -> dict[int, float]:
        """Level → share of neuron-steps, in one layer or in all together; empty without counts."""
        total: dict[int, int] = {}
        for path, counts in self.layers.items():
            for level, count in counts.items() if layer in (None, path) else ():
                total[int(level)] = total.get(int(level), 0) + count
        sent = sum(total.values())
        return {level: count / sent for level, count in sorted(total.items())}

    def saturated(self) -> float:
        """Share of neuron-steps at the end of the range; binary and ternary spikes have no other."""
        return sum(share for level, share in self.shares().items() if abs(level) >= self.high)

    def set_bit(self, worth: Fraction) -> float | None:
        """Share of neuron-steps whose bit of this worth (1, ½, ...) is 1; None where a spike has no such bit."""
        bit = worth * 2**self.fraction_bits
        if bit.denominator != 1 or bit.numerator > self.high:
            return None
        return sum(share for level, share in self.shares().items() if abs(level) & bit.numerator)

    def entropy_bits(self) -> float:
        """Information of one neuron-step if all were alike and independent, −Σ p·log2 p."""
        return -sum(share * math.log2(share) for share in self.shares().values() if share)


def level_use(study: Study) -> list[LevelUse]:
    """The counts of every arm whose neurons are the recipe's and send levels of fixed bits, in the study's order."""
    found, uses = results_of(study), []
    recipes = {job.arm: job.recipe for job in plan(study)}
    for arm, results in found.items():
        if recipes[arm].neuron.name in ACTIVATIONS:
            continue  # an ANN sends no levels
        neuron = build_neuron(recipes[arm].neuron)
        record = neuron.format
        if record.real or learns_bits(neuron) or any(layer.neuron for layer in recipes[arm].layers or ()):
            continue
        counted = [result for result in results.values() if _counts(result)]
        layers: dict[str, dict[str, int]] = {}
        for result in counted:
            for path, figures in result["rates"].items():
                counts = layers.setdefault(path, {})
                for level, count in figures["levels"].items():
                    counts[level] = counts.get(level, 0) + count
        uses.append(LevelUse(arm, len(counted), record.high, record.fraction_bits, layers))
    return uses


def _counts(result: Mapping[str, Any]) -> bool:
    rates = result.get("rates", {})
    return bool(rates) and all("levels" in figures for figures in rates.values())


def level_table(rows: Sequence[ArmSummary], uses: Sequence[LevelUse]) -> list[list[str]]:
    """Accuracy, rate, set bits, saturation, information and use of every bit, one line an arm.

    Args:
        rows: from `summarise`. uses: from `level_use`.
    """
    summaries = {row.arm: row for row in rows}
    worths = _worths(uses)
    measured, words, scale = measured_by([row for row in rows if row.n])
    title = f"{words.removeprefix('test ').removesuffix(', %')}{' %' if scale > 1 else ''}"
    head = ["arm", "seeds", title, "rate %", "set bits", "seeds counted", "at the end %", "information b"]
    table = [[*head, *(f"bit {worth} %" for worth in worths)]]
    for use in uses:
        row = summaries[use.arm]
        line = [use.arm, str(row.n)]
        for key, kind in (
            (measured, "percent" if scale > 1 else "plain"),
            ("spike_rate", "percent"),
            ("set_bits", "plain"),
        ):
            line.append(metric_text(row.metrics.get(key), kind))
        if not use.n:
            empty = "not run" if not row.n else _ABSENT
            table.append([*line, "0", *[empty] * (2 + len(worths))])
            continue
        line += [str(use.n), f"{100 * use.saturated():.2f}", f"{use.entropy_bits():.3f}"]
        shares = [use.set_bit(worth) for worth in worths]
        table.append([*line, *("" if share is None else f"{100 * share:.2f}" for share in shares)])
    return table


def level_picture(rows: Sequence[ArmSummary], uses: Sequence[LevelUse], path: Path, title: str) -> Figure:
    """Accuracy, shares of the levels and use of the bits of every finished arm, and the shares layer by layer; a PNG.

    Args:
        rows: from `summarise`. uses: from `level_use`; arms without counts are left out. path: PNG. title: heading.

    Returns:
        The figure that was written.

    Raises:
        ImportError: matplotlib is missing. ValueError: no arm has counts.
    """
    shown = [use for use in uses if use.n]
    if not shown:
        must = "at least one arm must have finished with counts of its levels"
        raise ValueError(message("level picture", must, "none", "run the study first"))
    layers = list(dict.fromkeys(layer for use in shown for layer in use.layers))
    width = max(3, len(layers))
    figure = new_figure(4.0 + 2.2 * width, 2.4 + 0.5 * len(shown))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    accuracy, everywhere, bits = top.subplots(1, 3, sharey=True)
    places = range(len(shown))
    summaries = {row.arm: row for row in rows}
    measured, words, scale = measured_by([summaries[use.arm] for use in shown])
    metrics = [summaries[use.arm].metrics[measured] for use in shown]
    means, spread = [scale * m.mean for m in metrics], [scale * (m.std or 0.0) for m in metrics]
    accuracy.errorbar(means, places, xerr=spread, fmt="o", color="tab:blue", capsize=3)
    accuracy.set_title(words)
    _stacks(everywhere, shown, None)
    everywhere.set_title("levels sent, all layers, %")
    worths = _worths(shown)
    for index, worth in enumerate(worths):
        offset = 0.8 * ((index + 0.5) / len(worths) - 0.5)
        values = [100 * (use.set_bit(worth) or 0.0) for use in shown]
        bits.barh([y + offset for y in places], values, 0.8 / len(worths), color=f"C{index}", label=str(worth))
    bits.set_title("bit is 1, % of neurons and steps")
    bits.set_xlim(0, 1.25 * bits.get_xlim()[1])  # room for the legend
    bits.legend(title="worth", fontsize="small", loc="center right")
    panels = bottom.subplots(1, width, sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, layers, strict=False):
        _stacks(axes, shown, layer)
        axes.set_title(layer, fontsize="medium")
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    for axes in (accuracy, everywhere, bits, *panels):
        axes.set_yticks(places, [use.arm for use in shown], fontsize="small")
        axes.grid(axis="x", alpha=0.3)
    for axes in (accuracy, panels[0]):
        axes.set_ylim(len(shown) - 0.4, -0.6)
    _key(bottom, shown)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return figure


def _stacks(axes: Axes, uses: Sequence[LevelUse], layer: str | None) -> None:
    """One bar an arm: the share of every level but 0, from the least to the greatest |level|."""
    for place, use in enumerate(uses):
        below = 0.0
        for level, share in sorted(use.shares(layer).items(), key=lambda item: (abs(item[0]), item[0])):
            if level:
                worth = Fraction(abs(level), 2**use.fraction_bits)
                hatch = "//" if level < 0 else None
                axes.barh(place, 100 * share, left=below, color=_colour(worth), hatch=hatch)
                below += 100 * share


def _key(figure: SubFigure, uses: Sequence[LevelUse]) -> None:
    from matplotlib.patches import Patch

    values = sorted({Fraction(abs(int(level)), 2**use.fraction_bits) for use in uses for level in use.shares()} - {0})
    patches = [Patch(color=_colour(value), label=str(value)) for value in values]
    words, columns = "spike, in thresholds", len(patches)
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize="small", title=words)


def _colour(worth: Fraction) -> tuple[float, float, float, float]:
    """Light for small spikes, dark for large ones; 2 and more share the darkest."""
    from matplotlib import colormaps

    return colormaps["viridis_r"](min(float(worth) / 2, 1.0))


def _worths(uses: Sequence[LevelUse]) -> list[Fraction]:
    """Worth of all bits that occur, the greatest first."""
    found = {Fraction(2**bit, 2**use.fraction_bits) for use in uses for bit in range(use.high.bit_length())}
    return sorted(found, reverse=True)

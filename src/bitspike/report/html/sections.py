"""Sections of the page from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bitspike.report.html.svg import bars, lines
from bitspike.training.measures import MEASURES

Row = Mapping[str, Any]
_LEARNED = (("weights", "weight bits"), ("spikes", "spike bits"), ("steps", "T"))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that scrolls sideways in its own box; all text is escaped."""
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def curve_section(history: Sequence[Row]) -> str:
    """Loss, measures, learning rate and what is learned, over epochs; "" without epochs."""
    if not history:
        return ""
    epochs = [float(record["epoch"]) for record in history]
    charts = [lines("Training loss", epochs, {"loss": [record.get("loss") for record in history]})]
    for name, measure in MEASURES.items():
        curves = {
            part: [record.get(f"{part}_{name}") for record in history]
            for part in ("train", "validation")
            if any(f"{part}_{name}" in record for record in history)
        }
        scale, unit = (100.0, " %") if measure.percent else (1.0, "")
        scaled = {part: [None if v is None else scale * v for v in curve] for part, curve in curves.items()}
        charts.append(lines(measure.words.capitalize(), epochs, scaled, unit))
    charts.append(lines("Learning rate", epochs, {"lr": [record.get("lr") for record in history]}))
    for kind, words in _LEARNED:
        names = {name: None for record in history for name in (record.get("allocation") or {}).get(kind, {})}
        curves = {
            name: [((record.get("allocation") or {}).get(kind) or {}).get(name) for record in history] for name in names
        }
        charts.append(lines(f"{words[0].upper()}{words[1:]} by layer", epochs, _merged(curves)))
    return f'<div class="charts">{"".join(charts)}</div>'


def _merged(curves: Mapping[str, list[float | None]]) -> dict[str, list[float | None]]:
    """Curves that are equal as one, by the names of the first two and how many more."""
    names: dict[tuple[float | None, ...], list[str]] = {}
    for name, curve in curves.items():
        names.setdefault(tuple(curve), []).append(name)
    more = {curve: f" and {len(own) - 2} more" if len(own) > 2 else "" for curve, own in names.items()}
    return {", ".join(own[:2]) + more[curve]: list(curve) for curve, own in names.items()}


def layer_section(layers: Sequence[Row], rates: Mapping[str, Any]) -> str:
    """What every layer has and does in the folded network, of cost.json, and how often neurons fire."""
    rows = []
    for layer in (one for one in layers if one["kind"] == "synapse"):
        rate = layer.get("rate")
        rows.append(
            (
                layer["name"],
                f"{layer['weights']:,}",
                f"{layer['weight_bits']:g}",
                f"{layer['input_bits']:g}",
                f"{layer['T']:g}",
                "" if rate is None else f"{100 * rate:.1f}",
                f"{layer['set_bits']:.2f}",
                f"{layer['adds']:,.0f}",
                f"{layer['shift_adds']:,.0f}",
                f"{layer['multiplications']:,.0f}",
            )
        )
    head = ("layer", "weights", "weight bits", "input bits", "T", "rate %", "set bits")
    text = table((*head, "additions", "shift-additions", "multiplications"), rows)
    fired = [(name, f"{100 * float(rate):.1f}") for name, rate in rates.items() if isinstance(rate, (int, float))]
    text += (
        "<p class='note'>As folded: where T steps are summed before a layer, T is 1 and its input has more bits.</p>"
    )
    return text + (table(("neurons", "rate %"), fired) if fired else "")


def allocation_section(allocation: Sequence[Row]) -> str:
    """Bits of weights and spikes, and T, of every layer as bars."""
    kinds = {"weight_bits": "Weight bits", "spike_bits": "Spike bits", "T": "T"}
    charts = [
        bars(title, [(one["name"], [float(one[key])]) for one in allocation], (title,)) for key, title in kinds.items()
    ]
    return f'<div class="charts">{"".join(charts)}</div>' if allocation else ""


def cost_section(cost: Row) -> str:
    """Operations, bytes and energy beside the quantized ANN."""
    ann, rows = cost["ann"], []
    for key, words in (
        ("adds", "additions"),
        ("shift_adds", "shift-additions"),
        ("multiplications", "multiplications"),
        ("size_bytes", "bytes of weights"),
    ):
        rows.append((words, f"{cost[key]:,.0f}", f"{ann[key]:,.0f}"))
    energy = [
        (name, [found[side]["all"]["energy_pj"] / 1e3 for side in ("snn", "ann")])
        for name, found in cost["energy"].items()
    ]
    text = table(("for one sample", "spiking", "quantized ANN"), rows)
    chart = bars("Energy of one sample by set of constants", energy, ("spiking", "quantized ANN"), " nJ")
    return f'{text}<div class="charts">{chart}</div>'


def check_section(fold: Row | None, verify: Row | None) -> str:
    """Whether folding and the compiled program keep what the network does."""
    rows = []
    if fold:
        rows += [
            ("fold: same predictions", f"{fold['agreement']:.2%} of {fold['samples']:,}"),
            ("fold: spikes that flip, layer by layer", f"{fold['forced_flips']:,}"),
            ("fold: largest difference of outputs", f"{fold['max_logit_difference_all']:.3g}"),
            ("fold: the same, fed the same spikes", f"{fold['max_logit_difference_forced']:.3g}"),
        ]
    if verify:
        same = "not compared"
        if verify.get("interpreted"):
            off = verify["different"]
            same = (
                f"equal on {verify['interpreted']:,}" if not off else f"DIFFER on {off:,} of {verify['interpreted']:,}"
            )
        rows += [
            ("program: integers of interpreter and engine", same),
            ("program: same predictions as the folded network", f"{verify['agreement']:.2%} of {verify['samples']:,}"),
            ("program: within its bounds", "yes" if verify.get("kept") else "NO"),
        ]
        for key, words in (("accuracy", "program: accuracy"), ("folded_accuracy", "folded network: accuracy")):
            if verify.get(key) is not None:
                rows.append((words, f"{verify[key]:.2%}"))
    return table(("check", "result"), rows)

"""Cards as text."""

from __future__ import annotations

from typing import Any

from .cards import Card, zoo_card, zoo_names

UNKNOWN = "not measured"


def zoo_table() -> list[list[str]]:
    """A row a program, titles first: what it was trained on, how well it does, what it takes."""
    rows = [["program", "spikes", "T", "accuracy %", "network %", "kB", "memory kB", "M operations", "energy µJ", "ms"]]
    for name in zoo_names():
        facts = zoo_card(name).facts
        accuracy, size = facts["accuracy"], facts["bytes"]
        operations = sum(facts["operations"][kind] for kind in ("adds", "shift_adds", "multiplications"))
        energy = facts["energy_nj"]
        rows.append(
            [
                name,
                facts["network"]["spikes"],
                str(facts["network"]["T"]),
                f"{100 * accuracy['program']:.2f}",
                _mean(accuracy),
                f"{size['file'] / 1e3:.1f}",
                f"{size['memory'] / 1e3:.1f}",
                f"{operations / 1e6:.2f}",
                "?" if energy is None else f"{energy['int8_45nm'] / 1e3:.2f}",
                "?" if facts["latency_ms"] is None else f"{facts['latency_ms']:.3g}",
            ]
        )
    return rows


def card_text(card: Card) -> str:
    """A card for people."""
    facts = card.facts
    net, accuracy, size, bits = (facts[key] for key in ("network", "accuracy", "bytes", "bits"))
    done = facts["operations"]
    energy, latency = facts["energy_nj"], facts["latency_ms"]
    samples = facts["slice"]
    inside = "in the package" if samples["file"] else f"of {facts['data']['name']}, not in the package"
    lines = [
        f"{card.name}: {facts['about']}",
        f"network    {net['builder']}, {net['spikes']} spikes, T = {net['T']}, {net['parameters']:,} parameters",
        f"accuracy   program {100 * accuracy['program']:.2f} % of {accuracy['samples']:,} test samples, its folded "
        f"network {100 * accuracy['folded']:.2f} %; same class {100 * accuracy['agreement']:.2f} %",
        f"seeds      {_mean(accuracy)} % test accuracy of {len(accuracy['seeds'])} {accuracy['of']}; "
        f"{accuracy['source']}",
        f"bits       weights {bits['weights']} (trained with {bits['trained_weights']}), spikes {bits['spikes']}, "
        f"input {bits['input']}",
        f"bytes      file {size['file']:,}, memory for a sample {size['memory']:,}, "
        f"weights in float32 {size['float32']:,}",
        f"operations {done['adds']:,.0f} additions, {done['shift_adds']:,.0f} shift-additions, "
        f"{done['multiplications']:,.0f} multiplications a sample",
        "energy     " + (UNKNOWN if energy is None else ", ".join(f"{k} {v:,.1f} nJ" for k, v in energy.items())),
        "latency    " + (UNKNOWN if latency is None else f"{latency:.3g} ms a sample"),
        f"samples    {samples['what']}, {inside}",
        f"recipe     {facts['recipe']['command']}",
        f"licence    {facts['licence']}",
        *(f"notice     {_notice(part)}" for part in facts["derives_from"]),
        f"sha256     {facts['sha256']}",
    ]
    return "\n".join(lines)


def _notice(part: dict[str, Any]) -> str:
    text = f"{part['what']}: {part['licence']}"
    return text if part["file"] is None else f"{text} ({part['file']})"


def _mean(accuracy: dict[str, Any]) -> str:
    spread = "" if accuracy["std"] is None else f" ±{100 * accuracy['std']:.2f}"
    return f"{100 * accuracy['mean']:.2f}{spread}"

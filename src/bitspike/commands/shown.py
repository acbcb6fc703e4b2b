"""What `bitspike run` shows of the outputs of a program: classes, labels, values, or of maps their ranges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bitspike.lower.targets import targets_of
from bitspike.runtime import Program, Result


def told(program: Program, output: str, result: Result, top: int) -> list[dict[str, Any]] | None:
    """A record a sample: "classes" (the best), "labels" (those that are there) or "values" (all, by name).

    Of numbers for every step the mean counts. None where a sample has no single number a class.
    """
    if result.levels.ndim == 3 and not result.mean:
        result = replace(result, levels=result.levels.sum(0, dtype="int64"), steps=len(result.levels))
    if result.values.ndim != 2 or not result.values.shape[1]:
        return None
    targets, names = targets_of(program, output), result.classes or tuple(map(str, range(result.values.shape[1])))
    if targets == "classes":
        best = result.top(min(top, len(names)))
        return [{"classes": [{"class": kind, "value": value} for kind, value in row]} for row in best]
    rows = [dict(zip(names, values, strict=True)) for values in result.values.tolist()]
    if targets == "numbers":
        return [{"values": row} for row in rows]
    return [{"labels": [{"label": name, "value": v} for name, v in row.items() if v > 0]} for row in rows]


def of_map(result: Result) -> list[dict[str, Any]]:
    """A record a sample of what is no row of classes: shape, least and greatest number."""
    values = result.values if result.mean else result.values.swapaxes(0, 1)
    return [
        {"shape": list(one.shape), **({"low": float(one.min()), "high": float(one.max())} if one.size else {})}
        for one in values
    ]


def by_output(program: Program, results: dict[str, Result], names: list[str], top: int) -> list[dict[str, Any]]:
    """A record a sample, with what is told of each output by name."""
    columns = {}
    for output, result in results.items():
        found = told(program, output, result, top)
        columns[output] = of_map(result) if found is None else found
    return [
        {"input": name, "outputs": {output: rows[i] for output, rows in columns.items()}}
        for i, name in enumerate(names)
    ]


def words(record: dict[str, Any]) -> str:
    """A record of one output for people."""
    if "classes" in record:
        return ", ".join(f"{best['class']} {best['value']:.3g}" for best in record["classes"])
    if "labels" in record:
        return ", ".join(f"{each['label']} {each['value']:.3g}" for each in record["labels"]) or "none"
    if "values" in record:
        return ", ".join(f"{name} {value:.4g}" for name, value in record["values"].items())
    shape = "×".join(map(str, record["shape"]))
    return f"{shape} from {record['low']:.4g} to {record['high']:.4g}" if "low" in record else f"{shape}, nothing"

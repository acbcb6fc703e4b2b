"""The committed comparison with snnTorch and SpikingJelly is complete and green (the peers are not installed here)."""

import json
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def found():
    return json.loads((PEERS / "results" / "dynamics.json").read_text(encoding="utf-8"))


def cases(found):
    return [case for peer in found["peers"].values() for case in peer["cases"]]


def test_every_agreed_comparison_agreed(found):
    assert found["summary"]["ok"] and not found["summary"]["failed"]
    assert all(case["ok"] for case in cases(found))
    assert all(row["as_expected"] for case in cases(found) for row in case["rows"])


def test_ties_and_both_dtypes_were_compared(found):
    agreed = [case for case in cases(found) if "differs" not in case]
    assert found["summary"]["ties_compared"] == sum(row["ties"] for case in agreed for row in case["rows"]) > 0
    assert {row["dtype"] for case in agreed for row in case["rows"]} == {"float64", "float32"}


def test_float64_spikes_are_equal_and_float32_ones_differ_only_by_rounding(found):
    rows = [row for case in cases(found) if "differs" not in case for row in case["rows"]]
    assert not sum(row["spikes_differ"] for row in rows if row["dtype"] == "float64")
    differing = [row for row in rows if row["spikes_differ"]]
    assert all(row["expected"] == "rounding" and row["spikes_differ_excused_as_rounding"] for row in differing)


def test_a_difference_names_its_reason_and_an_agreed_case(found):
    agreed = {case["name"] for case in cases(found) if "differs" not in case}
    differing = [case for case in cases(found) if "differs" in case]
    assert differing
    assert all(case["differs"] and case["differs_in"] and case["resolved_by"] in agreed for case in differing)


def test_versions_are_the_pinned_ones(found):
    lines = (PEERS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    assert {"torch", "snntorch", "spikingjelly"} <= pins.keys()
    for name in pins.keys() & found["versions"].keys():
        assert found["versions"][name].split("+")[0] == pins[name]

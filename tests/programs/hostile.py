"""Files that are broken, or made to break what reads them.

``python -m programs.hostile FOLDER`` (in tests/) writes them. Each must be refused with a `ProgramError`, soon, and
without much memory.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Value
from bitspike.runtime.digest import digest
from bitspike.runtime.file import KEY, to_bytes

Header = dict[str, Any]


def smallest() -> bytes:
    """A legal file: a ternary linear map with a bias."""
    b = Builder(Input(Value((3,), 0, 1), repeat=True))
    tensors = {
        "weight": b.constant(np.array([[1, 0, -1]]), Grid(-1, 1), "weight"),
        "bias": b.constant(np.array([300]), name="bias"),
    }
    return to_bytes(b.finish(b.add("linear", [INPUT], tensors=tensors, name="out")).spec)


def taken_apart(data: bytes) -> tuple[Header, dict[str, Any], bytes]:
    """(header, program, tensors) of a file."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return header, json.loads(header["__metadata__"][KEY]), data[8 + size :]


def assembled(header: Header, program: object, body: bytes) -> bytes:
    """The file again, its digest made right; a program that is no text becomes JSON."""
    text = program if isinstance(program, str) else json.dumps(program, separators=(",", ":"))
    header = {**header, "__metadata__": {KEY: text}}
    return sealed(framed(json.dumps(header, separators=(",", ":")).encode(), body))


def sealed(data: bytes) -> bytes:
    """The file with the right digest where it names one."""
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    named = re.search(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"', header)
    if named is None:
        return data
    old = named.group(1)
    return data[:8] + header.replace(old, digest(header, body, old.decode()).encode(), 1) + body


def framed(header: bytes, body: bytes = b"") -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The smallest file with its program changed."""
    header, program, body = taken_apart(smallest())
    change(program)
    return assembled(header, program, body)


def named(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same with an output that has a name, then changed."""

    def renamed(program: dict[str, Any]) -> None:
        program["version"] = [1, 2]
        program["outputs"] = {"y": {"value": program.pop("output"), "classes": program.pop("classes")}}
        change(program)

    return changed(renamed)


def retold(old: str, new: str) -> bytes:
    """The smallest file with the text of its program changed."""
    header, program, body = taken_apart(smallest())
    text = json.dumps(program, separators=(",", ":"))
    assert old in text, old
    return assembled(header, text.replace(old, new, 1), body)


def moved(**entries: Any) -> bytes:
    """The smallest file with entries of its header changed; None leaves one out."""
    header, program, body = taken_apart(smallest())
    for name, entry in entries.items():
        header[name] = {**header.get(name, {}), **entry} if entry is not None else None
    return assembled({name: entry for name, entry in header.items() if entry is not None}, program, body)


def rebodied(change: Callable[[bytearray], object], **offsets: list[int]) -> bytes:
    """The smallest file with other tensor bytes, under a digest that is right, and perhaps other offsets."""
    header, program, body = taken_apart(smallest())
    new = bytearray(body)
    change(new)
    for name, ends in offsets.items():
        header[name]["data_offsets"] = ends
    return assembled(header, program, bytes(new))


def files() -> dict[str, bytes]:
    """Name → file."""
    good = smallest()
    header, program, body = taken_apart(good)
    deep = "[" * 100_000 + "]" * 100_000
    return {
        "empty": b"",
        "short": good[:7],
        "header_of_2_to_63": (2**63).to_bytes(8, "little") + good[8:],
        "header_beyond_the_end": (len(good)).to_bytes(8, "little") + good[8:],
        "header_no_json": framed(b"{", body),
        "header_no_object": framed(b"[1]", body),
        "header_no_utf8": framed(b'{"\xff":1}', body),
        "header_deep": framed(deep.encode()[:2000], body),
        "header_key_twice": framed(b'{"weight":1,"weight":2}', body),
        "cut": good[:-1],
        "cut_in_the_header": good[: len(good) // 2],
        "longer": rebodied(lambda b: b.append(0)),
        "longer_than_its_digest": good + b"\0",
        "tensors_renamed_under_their_digest": good.replace(b"bias", b"bais"),
        "bit_flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "no_metadata": framed(json.dumps(header | {"__metadata__": {}}).encode(), body),
        "more_metadata": framed(json.dumps(header | {"__metadata__": {KEY: "{}", "x": "y"}}).encode(), body),
        "metadata_no_text": framed(json.dumps(header | {"__metadata__": {KEY: program}}).encode(), body),
        "another_safetensors": framed(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
        "offsets_overlap": moved(weight={"data_offsets": [1, 2]}),
        "offsets_with_a_hole": rebodied(lambda b: b.insert(0, 0), bias=[1, 3], weight=[3, 4]),
        "offsets_backwards": moved(bias={"data_offsets": [2, 0]}),
        "offsets_beyond_the_end": moved(weight={"data_offsets": [2**40, 2**40 + 1]}),
        "offsets_no_integers": moved(weight={"data_offsets": [2.0, 3.0]}),
        "dtype_float": moved(bias={"dtype": "F16"}),
        "dtype_unknown": moved(bias={"dtype": "I128"}),
        "dtype_unsigned": moved(bias={"dtype": "U8", "shape": [2]}),
        "shape_negative": moved(bias={"shape": [-1, -1]}),
        "shape_huge": moved(bias={"shape": [2**62, 2**62]}),
        "shape_empty_and_huge": moved(bias={"shape": [0, 10**19], "data_offsets": [0, 0]}),
        "tensor_missing": moved(bias=None),
        "tensor_more": moved(other={"dtype": "I8", "shape": [0], "data_offsets": [3, 3]}),
        "tensor_no_entry": moved(weight={"more": 1}),
        "another_format": changed(lambda p: p.update(format="onnx")),
        "another_major_version": changed(lambda p: p.update(version=[2, 0])),
        "a_later_minor_version": changed(lambda p: p.update(version=[1, 99])),
        "version_no_integers": changed(lambda p: p.update(version=[1, True])),
        "another_digest": good.replace(program["sha256"].encode(), b"0" * 64),
        "digest_no_digits": changed(lambda p: p.update(sha256="é" * 64)),
        "digest_nothing": changed(lambda p: p.update(sha256="")),
        "header_changed_under_its_digest": good.replace(b'\\"high\\":1,', b'\\"high\\":2,', 1),
        "key_twice": retold('"repeat":true', '"repeat":true,"repeat":false'),
        "key_unknown": changed(lambda p: p.update(more=1)),
        "key_missing": changed(lambda p: p.pop("classes")),
        "deep": retold('"info":{}', f'"info":{{"x":{deep[:1000]}'),
        "nan": retold('"info":{}', '"info":{"mean":NaN}'),
        "infinity": retold('"info":{}', '"info":{"mean":-Infinity}'),
        "number_beyond_floats": retold('"info":{}', '"info":{"mean":1e999}'),
        "number_of_many_digits": retold('"high":1', '"high":' + "9" * 5000),
        "number_is_a_float": retold('"high":1', '"high":1.0'),
        "number_is_a_truth": retold('"high":1', '"high":true'),
        "no_kind": changed(lambda p: p["operations"][0].update(kind="exec")),
        "operation_no_object": changed(lambda p: p.update(operations=[[]])),
        "input_nowhere": changed(lambda p: p["operations"][0].update(inputs=["out"])),
        "constant_nowhere": changed(lambda p: p["operations"][0]["constants"].update(weight="none")),
        "name_is_half_a_character": retold('"name":"out"', '"name":"\\ud800"'),
        "grid_of_one_level": changed(lambda p: p["constants"]["weight"]["grid"].update(low=1)),
        "grid_unknown": changed(lambda p: p["constants"]["weight"]["grid"].update(spacing="log")),
        "constant_shape_huge": changed(lambda p: p["constants"]["weight"].update(shape=[2**60, 2**60])),
        "constant_shape_negative": changed(lambda p: p["constants"]["weight"].update(shape=[-1, -3])),
        "constant_without_axes": changed(lambda p: p["constants"]["bias"].update(shape=[])),
        "input_huge": changed(lambda p: p["input"].update(shape=[2**24, 2**24])),
        "steps_huge": changed(lambda p: p["input"].update(steps=2**40)),
        "range_wrong": changed(lambda p: p["values"]["out"].update(high=0)),
        "arena_huge": arena_huge(),
        "outputs_none": named(lambda p: p.update(outputs={})),
        "outputs_no_object": named(lambda p: p.update(outputs=["out"])),
        "outputs_too_many": named(lambda p: p.update(outputs={str(i): p["outputs"]["y"] for i in range(300)})),
        "outputs_beside_an_output": named(lambda p: p.update(output="out", classes=[])),
        "outputs_before_their_version": named(lambda p: p.update(version=[1, 1])),
        "outputs_without_a_name": named(lambda p: p.update(outputs={"": p["outputs"]["y"]})),
        "outputs_with_half_a_character": named(lambda p: p.update(outputs={"\ud800": p["outputs"]["y"]})),
        "output_no_object": named(lambda p: p["outputs"].update(z="out")),
        "output_nowhere": named(lambda p: p["outputs"]["y"].update(value="nowhere")),
        "output_the_input": named(lambda p: p["outputs"]["y"].update(value="input")),
        "output_key_unknown": named(lambda p: p["outputs"]["y"].update(shape=[1])),
        "output_key_missing": named(lambda p: p["outputs"]["y"].pop("classes")),
        "output_classes_no_list": named(lambda p: p["outputs"]["y"].update(classes="a")),
        "output_classes_too_many": named(lambda p: p["outputs"]["y"].update(classes=["a"] * 9)),
        "output_named_by_a_list": named(lambda p: p["outputs"]["y"].update(value=["out"])),
        "code_beyond_its_alphabet": rebodied(lambda b: b.__setitem__(-1, 0b111111)),
        "bits_behind_the_last_code": rebodied(lambda b: b.__setitem__(-1, b[-1] | 0b11000000)),
    }


def arena_huge() -> bytes:
    """Each value is within its limit, all of them together are not."""

    def change(program: dict[str, Any]) -> None:
        shape, steps = [2**12, 2**10, 2**4], 10_000
        value = {"shape": shape, "low": 0, "high": 1, "exponent": 0, "steps": steps}
        program["input"].update(value, repeat=False)
        names = ["input", "a", "b"]
        program["values"] = dict.fromkeys(names[1:], value)
        rows = pairwise(names)
        program["operations"] = [
            {"kind": "latch", "name": y, "inputs": [x], "outputs": [y], "attributes": {}, "constants": {}}
            for x, y in rows
        ]
        program["constants"], program["output"] = {}, "b"

    _, program, _ = taken_apart(smallest())
    change(program)
    return assembled({}, program, b"")


if __name__ == "__main__":
    for name, data in files().items():
        (Path(sys.argv[1]) / f"{name}.bitspike").write_bytes(data)

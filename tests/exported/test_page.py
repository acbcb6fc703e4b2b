"""The target "page": what cannot be drawn is refused, and what a page says of its network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.data import load
from bitspike.export import export
from bitspike.export.page.figures import figures, layers
from bitspike.export.page.pictures import examples, levels
from bitspike.runtime import INPUT, Builder, Input, Value
from exported.modules import needs_compiler
from exported.pages import RAW, small


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda: small(32), ("1×32×32", "1×8×8 or 1×28×28")),
        (lambda: small(28, channels=3), ("3×28×28",)),
        (lambda: small(8, repeat=False), ("sequence", "repeat")),
        (lambda: small(8, high=16), ("0..16", "top")),
        (lambda: small(8, info={"pixels": True}), ("0..255", "top")),
        (lambda: small(8, (1, 0), {"top": 255, "mean": [0.5], "std": [0.5], "pixels": True}), ("info's top",)),
        (lambda: small(8, low=-127, high=127, info={}), ("top, mean and std",)),
        (lambda: small(8, (1, 0), {"top": 16, "mean": [0.5, 0.5], "std": [1.0, 1.0]}), ("top, mean and std",)),
        (lambda: small(8, (1, 0), {"top": 16, "mean": [0.5], "std": [0.0]}), ("std",)),
        (lambda: small(8, info={"top": 255, "mean": [0.5], "std": [0.5], "pixels": False}), ("top, mean and std",)),
    ],
)
def test_what_nobody_can_draw_is_refused(program: Any, words: tuple[str, ...], tmp_path: Path, refuses: Any) -> None:
    with refuses("export of x", "input: ", *words):
        export(program(), "page", tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


def test_rows_of_numbers_are_no_prediction(tmp_path: Path, refuses: Any) -> None:
    b = Builder(Input(Value((1, 8, 8), 0, 255, 0, 1), repeat=True))
    rows = b.finish(b.add("reshape", [INPUT], {"shape": [64]}), [], RAW)
    with refuses("export of x", "1 it cannot", "output", "mean"):
        export(rows, "page", tmp_path / "x.html")


def test_the_file_and_the_examples_must_be_what_they_say(tmp_path: Path, refuses: Any) -> None:
    with refuses("export to page", ".html"):
        export(small(), "page", tmp_path / "x.txt")
    for name, array, word in [
        ("float", np.zeros((2, 28, 28)), "uint8"),
        ("size", np.zeros((2, 8, 8), np.uint8), "28"),
        ("none", np.zeros((0, 28, 28), np.uint8), "1 to 100"),
    ]:
        np.save(tmp_path / f"{name}.npy", array)
        with refuses("export to page", "examples", word):
            examples(small(), str(tmp_path / f"{name}.npy"))
    (tmp_path / "bad.npy").write_text("no array")
    for name, word in (("bad.npy", ".npy"), ("gone.npy", "auto, none")):
        with refuses("export to page", "examples", word):
            examples(small(), str(tmp_path / name))
    np.save(tmp_path / "bright.npy", np.full((1, 8, 8), 17, np.uint8))
    with refuses("export to page", "0..16"):
        examples(small(8, high=16, info={"pixels": True, "top": 16}), str(tmp_path / "bright.npy"))
    np.save(tmp_path / "good.npy", np.full((1, 1, 28, 28), 7, np.uint8))
    assert [(name, image.shape) for name, image in examples(small(), str(tmp_path / "good.npy"))] == [
        ("picture 1", (28, 28))
    ]


def test_examples_come_from_sets_that_may_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first test image of each class of the network's own set; of other sets, or without it, none."""
    pytest.importorskip("sklearn")
    test = load("digits").test
    digits = small(8, high=16, info={"pixels": True, "top": 16, "data": "digits/train"})
    found = examples(digits, "auto")
    assert [name for name, _ in found] == [str(k) for k in range(10)]
    assert all(
        (image == test.images[int((test.labels == k).nonzero()[0]), 0].numpy()).all()
        for k, (_, image) in enumerate(found)
    )  # type: ignore[union-attr]
    assert examples(digits, "none") == []
    monkeypatch.delenv("BITSPIKE_DATA", raising=False)
    for name in ("fashion_mnist/train", "mnist/train", "folder:pets/train", ""):
        assert examples(small(8, high=16, info={"pixels": True, "top": 16, "data": name}), "auto") == []
    assert examples(small(28, info={"pixels": True, "top": 16, "data": "digits/train"}), "auto") == []


@pytest.mark.parametrize("scale", [(8, 0), (9, 1), (11863283, 18)])
def test_pixels_enter_as_the_data_set_normalises_them(scale: tuple[int, int]) -> None:
    pytest.importorskip("sklearn")
    test = load("digits").test
    info = {"top": test.top, "mean": list(test.mean), "std": list(test.std)}
    program = small(8, scale, info, -127, 127)
    table = np.array(levels(program))
    normal = test.normalise(test.images).numpy()
    assert (table[test.images.numpy()] == program.quantize(normal)).all() and len(set(table.tolist())) > 2
    assert levels(small()) == list(range(256))


def test_bits_and_bytes() -> None:
    program = small()
    found = {name: (much, more) for name, much, more in figures(program, 1234)}
    numbers = 2 * 9 + 3 * 392
    assert found["Weights"] == (f"{numbers:,} bytes", f"{numbers:,} of 8 bit; float32: {4 * numbers:,}")
    assert found["A spike"] == ("3 bit", "levels −3 to 3") and found["Neurons"] == ("392", "3 steps a picture")
    assert found["WebAssembly"][0] == "1,234 bytes" and len(found) == 6
    assert [row[0] for row in layers(program)] == ["convolution0", "maps", "linear3"]
    assert layers(program)[1][3:] == ["−3…3, 3 bit", "2×14×14"]


@needs_compiler
def test_the_same_program_gives_the_same_page(tmp_path: Path) -> None:
    """Whole: no address to fetch from, no tag opened by a name; and a policy that allows its own script alone."""
    first, second = (export(small(), "page", tmp_path / name / "a.html", title="<i>@script@").files for name in "ab")
    text = first[0].read_text(encoding="utf-8")
    assert len(first) == 1 and text == second[0].read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 1 and "<i>" not in text
    assert "<title>&lt;i&gt;@script@</title>" in text
    assert not re.search(r"https?://|//cdn|src=(?!c)|href=\"(?!data:,)|url\(", text)
    assert "default-src 'none'" in text and str(tmp_path) not in text

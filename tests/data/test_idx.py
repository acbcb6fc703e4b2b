"""The IDX reader: what it reads, and one clear error for each way a file can be wrong."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bitspike.data import read_idx

GOOD = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), (1, 1, 1), (0, 28, 28), (3, 2, 2, 2)])
def test_it_reads_what_was_written(tmp_path: Path, write_idx: Any, suffix: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    got = read_idx(write_idx(tmp_path / f"file{suffix}", array))
    assert got.dtype == np.uint8 and got.flags.writeable
    assert np.array_equal(got, array) and got.shape == shape


def test_content_decides_about_gzip_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(GOOD)
    (tmp_path / "packed").write_bytes(gzip.compress(GOOD))
    for name in ("plain.gz", "packed"):
        assert read_idx(str(tmp_path / name)).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_file_longer_than_one_chunk(tmp_path: Path, write_idx: Any) -> None:
    array = np.arange(3 * 2**20 + 5, dtype=np.uint64) % 251
    for name in ("long", "long.gz"):
        assert np.array_equal(read_idx(write_idx(tmp_path / name, array)), array)


def head(code: int = 8, axes: int = 2, sizes: tuple[int, ...] = (2, 3)) -> bytes:
    return bytes([0, 0, code, axes]) + b"".join(size.to_bytes(4, "big") for size in sizes)


BAD = {
    "empty": (b"", "magic nothing"),
    "short magic": (b"\0\0\x08", "magic 000008"),
    "wrong magic": (b"PK" + GOOD[2:], "two zero bytes.*magic 504b0802"),
    "no axes": (head(axes=0), "1 to 4 axes"),
    "five axes": (head(axes=5), "1 to 4 axes"),
    "floats": (head(code=13) + GOOD[12:], "type code must be 0x08.*got 0x0d"),
    "truncated header": (GOOD[:9], "header must hold 2 sizes, got 5 of 8 bytes"),
    "truncated payload": (GOOD[:-1], r"payload must be 6 bytes for the shape \[2, 3\], got"),
    "trailing bytes": (GOOD + b"\0", r"payload must be 6 bytes for the shape \[2, 3\], got trailing bytes"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_file(tmp_path: Path, content: bytes, words: str, packed: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=f"^read_idx .*file: .*{words}.*; .*") as caught:
        read_idx(file)
    assert "\n" not in str(caught.value)


def damaged(packed: bytes) -> dict[str, tuple[bytes, str]]:
    crc = bytearray(packed)
    crc[-6] ^= 1
    body = bytearray(packed)
    body[12] = 0xFF
    return {
        "cut in the body": (packed[: len(packed) // 2], "complete, got a truncated one"),
        "cut in the checksum": (packed[:-3], "complete, got a truncated one"),
        "cut after the magic": (packed[:2], "complete, got a truncated one"),
        "wrong checksum": (bytes(crc), "sound, got CRC"),
        "broken body": (bytes(body), "sound, got"),
        "garbage after it": (packed + b"junk", "sound, got Not a gzipped file"),
        "unknown method": (packed[:2] + b"\x07" + packed[3:], "sound, got Unknown compression method"),
    }


@pytest.mark.parametrize("case", damaged(gzip.compress(GOOD)))
def test_a_damaged_gzip(tmp_path: Path, case: str) -> None:
    content, words = damaged(gzip.compress(GOOD, mtime=0))[case]
    file = tmp_path / "file.gz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^read_idx .*: the gzip stream must be {words}"):
        read_idx(file)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the file must exist, got no such file; check the path"):
        read_idx(tmp_path / "none")
    with pytest.raises(ValueError, match="the file must be readable, got Is a directory"):
        read_idx(tmp_path)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("sizes", [(2**32 - 1,) * 4, (60_000, 28, 28, 1)], ids=["absurd", "plausible"])
def test_the_header_is_not_believed(tmp_path: Path, sizes: tuple[int, ...], packed: bool) -> None:
    """A header that promises far more than the file holds costs no memory."""
    content = head(axes=4, sizes=sizes) + bytes(100)
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="the payload must be"):
            read_idx(file)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_short_gzip_that_could_expand_far_enough(tmp_path: Path) -> None:
    """The promise is within what deflate could hold, so only reading shows that it is false."""
    file = tmp_path / "file.gz"
    file.write_bytes(gzip.compress(head(axes=1, sizes=(5000,)) + bytes(3)))
    with pytest.raises(ValueError, match=r"the payload must be 5000 bytes for the shape \[5000\], got 3 bytes"):
        read_idx(file)


def test_a_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    file = tmp_path / "file.gz"
    file.write_bytes(gzip.compress(head(axes=1, sizes=(5,)) + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="trailing bytes"):
            read_idx(file)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)), st.data())
def test_every_cut_is_noticed(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, data: st.DataObject) -> None:
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()
    packed = data.draw(st.booleans())
    content = gzip.compress(content) if packed else content
    file = tmp_path_factory.mktemp("cut") / "file"
    file.write_bytes(content)
    assert np.array_equal(read_idx(file), array)
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match="read_idx"):
        read_idx(file)

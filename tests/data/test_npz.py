"""The strict npz reader: numeric members come back, everything else is an error that names file and member."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.data.npz import read_npz

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), **options)
    return stream.getvalue()


def write(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?"])
def test_it_reads_what_numpy_wrote(tmp_path: Path, method: int, dtype: str) -> None:
    array = (np.arange(24) % 3).reshape(2, 3, 4).astype(dtype)
    file = write(tmp_path / "x.npz", method, a=npy(array), b=npy(np.asfortranarray(array)), c=npy([]))
    got = read_npz(file, ("a", "b", "c"))
    assert list(got) == ["a", "b", "c"] and got["c"].shape == (0,)
    for name in ("a", "b"):
        assert np.array_equal(got[name], array) and got[name].dtype == array.dtype and got[name].flags.writeable


def test_a_long_member_is_read_whole(tmp_path: Path) -> None:
    array = np.arange(3_000_000, dtype=np.int32)
    assert np.array_equal(read_npz(write(tmp_path / "x.npz", a=npy(array)), ["a"])["a"], array)


def test_format_2_is_read(tmp_path: Path) -> None:
    assert read_npz(write(tmp_path / "x.npz", a=npy([1, 2], version=(2, 0))), ["a"])["a"].tolist() == [1, 2]


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy([1, "x"], allow_pickle=True), "booleans, integers or floats"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "booleans, integers or floats, got object"),
        (npy(np.zeros(2, dtype=[("x", "i4")])), "booleans, integers or floats"),
        (npy(np.arange(4))[:-1], "the 32 bytes of int64.*got 31 bytes"),
        (npy(np.arange(4)) + b"x", "got 33 bytes"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"), "1000000000000 bytes"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-5,), }"), "booleans, integers or floats"),
        (header("__import__('os').abort()"), "npy file of format 1 or 2"),
        (b"\x93NUMPY\x03\x00", "npy file of format 1 or 2"),
        (b"junk", "npy file of format 1 or 2"),
        (b"", "npy file of format 1 or 2"),
    ],
)
def test_bad_members(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^read_npz .*x\.npz.*{words}"):
        read_npz(write(tmp_path / "x.npz", a=content), ["a"])


def test_a_lacking_member(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold 'labels', got a, b; pass the right file"):
        read_npz(write(tmp_path / "x.npz", a=npy([1]), b=npy([2])), ["labels"])


@pytest.mark.parametrize("method", METHODS)
def test_damaged_archives(tmp_path: Path, method: int) -> None:
    file = write(tmp_path / "x.npz", method, a=npy(np.arange(5000) ** 2))
    content = file.read_bytes()
    for damaged in (b"", content[:-1], content[: len(content) // 2], b"PK\x03\x04" + bytes(100)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^read_npz .*x\.npz: the archive must be sound"):
            read_npz(file, ["a"])
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes(8) + content[middle + 8 :])
    with pytest.raises(ValueError, match=r"^read_npz .*x\.npz.*must be sound"):
        read_npz(file, ["a"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the file must exist, got no such file"):
        read_npz(tmp_path / "none.npz", ["a"])
    with pytest.raises(ValueError, match="the file must be readable"):
        read_npz(tmp_path, ["a"])


def test_a_member_may_not_promise_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitspike.data.npz.MEMBER_BYTES", 100)
    file = write(tmp_path / "x.npz", a=npy(np.zeros(100, dtype=np.uint8)), b=npy(np.zeros(101, dtype=np.uint8)))
    assert len(read_npz(file, ["a"])["a"]) == 100
    with pytest.raises(ValueError, match="100 at most"):
        read_npz(file, ["b"])

"""The restricted unpickler: arrays and containers pass, nothing that a file names is ever called."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.data.restricted_pickle import StoredArray, load_restricted


def load(tmp_path: Path, content: bytes) -> Any:
    file = tmp_path / "batch"
    file.write_bytes(content)
    return load_restricted(file)


class Runs:
    """Unpickled by the plain machinery, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?"])
def test_arrays_in_containers(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = (np.arange(12) % 5).reshape(3, 4).astype(dtype)
    content = {"data": array, "turned": array.T, "labels": [3, -1, 70000], "more": (None, True, "ü", b"\xff", 0.5)}
    got = load(tmp_path, pickle.dumps(content, protocol))
    assert got["labels"] == content["labels"] and got["more"] == content["more"]
    for key in ("data", "turned"):
        stored = got[key].array("test")
        assert np.array_equal(stored, content[key]) and stored.dtype.kind == array.dtype.kind
        assert stored.flags.writeable


def test_new_and_old_module_paths(tmp_path: Path, python2: Any) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    old = python2({"data": array, "labels": [1, 300, 70000], "filenames": [b"a", b"\xe9"]})
    assert b"numpy.core.multiarray" in old
    for content in (old, old.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")):
        got = load(tmp_path, content)
        assert np.array_equal(got[b"data"].array("test"), array)
        assert got[b"labels"] == [1, 300, 70000] and got[b"filenames"] == [b"a", b"\xe9"]


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_named_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "ran"
    content = pickle.dumps({"data": [Runs(proof)]}, protocol)
    pickle.loads(content)
    assert proof.exists()  # the file does run where nothing restricts it
    proof.unlink()
    words = r"(builtins|__builtin__)\.exec; do not trust it" if protocol > 0 else "the opcode DICT"
    with pytest.raises(ValueError, match=f"^load_restricted .*batch: .*{words}"):
        load(tmp_path, content)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"os\.system"),
        (b"(S'true'\nios\nsystem\n.", "opcode MARK|opcode STRING|os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", r"os\.system"),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", r"numpy\.core\.multiarray\.fromfile"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", r"numpy\.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", r"numpy\.ndarray\.__class__"),
        (b"\x80\x02ccopyreg\n_reconstructor\n.", r"copyreg\._reconstructor"),
        (b"\x80\x02cbuiltins\ngetattr\n.", r"builtins\.getattr"),
        (b"\x80\x02cbitspike.data.restricted_pickle\nload_restricted\n.", "load_restricted"),
        (pickle.dumps(OrderedDict(a=1)), r"collections\.OrderedDict"),
        (pickle.dumps(np.int64(3)), r"numpy.*\.scalar"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "opcode BINPERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "opcode NEWOBJ"),
    ],
)
def test_other_globals_and_opcodes_are_refused(tmp_path: Path, content: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=f"^load_restricted .*({word})"):
        load(tmp_path, content)


GLOBAL = {
    "dtype": b"cnumpy\ndtype\n",
    "ndarray": b"cnumpy\nndarray\n",
    "make": b"cnumpy.core.multiarray\n_reconstruct\n",
    "encode": b"c_codecs\nencode\n",
    "bytes": b"c__builtin__\nbytes\n",
}


@pytest.mark.parametrize(
    "content",
    [
        GLOBAL["ndarray"] + b"J\xff\xff\xff\x7f\x85R.",  # would allocate 2 GiB
        GLOBAL["bytes"] + b"J\xff\xff\xff\x7f\x85R.",
        GLOBAL["dtype"] + b")R.",
        GLOBAL["encode"] + b"X\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        GLOBAL["encode"] + b"K\x01X\x06\x00\x00\x00latin1\x86R.",
        GLOBAL["dtype"] + b"}b.",  # state for the stand-in itself
        b"K\x01)R.",
        b"]}b.",
        b"]K\x01K\x02s.",
        b"a.",
        b"h\x07.",
        b"}]K\x01s.",
    ],
)
def test_calls_that_numpy_does_not_make(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^load_restricted .*batch: .*; "):
        load(tmp_path, b"\x80\x02" + content)


def test_a_bomb_of_calls_is_refused_before_it_starts(tmp_path: Path) -> None:
    one = GLOBAL["make"] + b")R0"
    many = b"\x80\x02" + b"]" + (GLOBAL["make"] + b")Ra") * 2000 + b"."
    with pytest.raises(ValueError, match="opcode POP"):
        load(tmp_path, b"\x80\x02" + one * 10 + b"N.")
    with pytest.raises(ValueError, match="at most 1000 tuples and calls"):
        load(tmp_path, many)
    with pytest.raises(ValueError, match="at most 1000 tuples and calls"):  # a key so deep that hashing it overflows
        load(tmp_path, b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.")


def test_a_bomb_of_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must number what it keeps in order, got 2147483647"):
        load(tmp_path, b"\x80\x02]r\xff\xff\xff\x7f.")
    for promise in (b"\x8e" + struct.pack("<Q", 2**40), b"\x96" + struct.pack("<Q", 2**40), b"T\xff\xff\xff\x7f"):
        with pytest.raises(ValueError, match="must be complete and sound"):
            load(tmp_path, b"\x80\x05" + promise + b"abc.")


def test_every_truncation_is_an_error(tmp_path: Path, python2: Any) -> None:
    content = python2({"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2]})
    for length in range(len(content)):
        with pytest.raises(ValueError, match="must be complete and sound"):
            load(tmp_path, content[:length])
    with pytest.raises(ValueError, match="must end with the file, got 1 bytes more"):
        load(tmp_path, content + b".")


def test_every_changed_byte_gives_a_value_or_a_plain_error(tmp_path: Path, python2: Any) -> None:
    content = python2({"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2]})
    for place in range(len(content)):
        for value in (0, ord("R"), ord("b"), ord("."), 255):
            changed = content[:place] + bytes([value]) + content[place + 1 :]
            try:
                got = load(tmp_path, changed)
                if isinstance(got, dict) and isinstance(got.get(b"data"), StoredArray):
                    got[b"data"].array("test")
            except ValueError as error:
                assert str(error).startswith(("load_restricted", "test")), (place, value, error)


def stored(state: Any, code: Any = b"u1", order: Any = b"|") -> StoredArray:
    """An array as a file might describe it; True in the third place stands for the dtype."""
    dtype = type_of_dtype()(code)
    dtype.__setstate__((3, order, None, None, None, -1, -1, 0))
    array = StoredArray()
    array.__setstate__(tuple(dtype if part is True else part for part in state) if isinstance(state, tuple) else state)
    return array


def type_of_dtype() -> Any:
    from bitspike.data import restricted_pickle

    return restricted_pickle._Dtype


def test_a_stored_array() -> None:
    assert stored((1, (2, 2), True, False, b"abcd")).array("x").tolist() == [[97, 98], [99, 100]]
    assert stored((1, (2, 2), True, True, "abcd")).array("x").tolist() == [[97, 99], [98, 100]]
    assert stored((1, (2,), True, False, b"\0\1\0\2"), "i2", ">").array("x").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (StoredArray(), "must have a shape, a dtype and bytes, got NoneType"),
        (stored((1, (2,), "u1", False, b"ab")), "must have a shape, a dtype and bytes"),
        (stored((1, (2,), True, False)), "must have a shape"),
        (stored((1, (3,), True, False, b"ab")), r"uint8 \[3\] must hold 3 bytes, got 2"),
        (stored((1, (10**15,), True, False, b"ab")), "got 2"),
        (stored((1, (-1, -2), True, False, b"ab")), "tuple of up to 8 sizes"),
        (stored((1, (True, 2), True, False, b"ab")), "tuple of up to 8 sizes"),
        (stored((1, (1,) * 40 + (2,), True, False, b"ab")), "tuple of up to 8 sizes"),
        (stored((1, [2], True, False, b"ab")), "tuple of up to 8 sizes, got list"),
        (stored((1, (1,), True, False, b"x" * 8), "O8"), "a plain number's, got 'O8'"),
        (stored((1, (1,), True, False, b"x" * 8), "u4,u4"), "a plain number's"),
        (stored((1, (2,), True, False, b"ab"), b"u1", "O"), "a plain number's"),
        (stored((1, (2,), True, False, b"ab"), ["u1"]), "a plain number's, got list"),
        (stored((1, (2,), True, False, [1, 2])), "the bytes of an array must be bytes, got list"),
        (stored((1, (2,), True, False, "a€")), "must be bytes, got str"),
    ],
)
def test_states_that_are_no_array(array: StoredArray, words: str) -> None:
    with pytest.raises(ValueError, match=f"^here: .*{words}"):
        array.array("here")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the file must be readable, got No such file"):
        load_restricted(tmp_path / "none")

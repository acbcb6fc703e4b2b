"""Spectra in mel bands against sums that are written down from their definition."""

from __future__ import annotations

import cmath
import math
import struct
import uuid
from pathlib import Path

import numpy as np
import pytest

import sound_files as files
from bitspike.data.sound import SoundOptions, hz_of, log_mel, mel_filters, mel_of, mel_power, read_wav, stretched


def triangle(hz: float, low: float, middle: float, high: float) -> float:
    if low < hz <= middle:
        return (hz - low) / (middle - low)
    return (high - hz) / (high - middle) if middle < hz < high else 0.0


def by_definition(x: np.ndarray, rate: int, mels: int, window: int, hop: int, fmin: float, fmax: float) -> np.ndarray:
    """Energies with a Fourier sum of its own, one number after the other."""
    size = 2
    while size < window:
        size *= 2
    ends = [2595 * math.log10(1 + f / 700) for f in (fmin, fmax)]
    corners = [700 * (10 ** ((ends[0] + k * (ends[1] - ends[0]) / (mels + 1)) / 2595) - 1) for k in range(mels + 2)]
    rows, begin = [], 0
    while True:
        part = [x[begin + n] if begin + n < len(x) else 0.0 for n in range(window)]
        part = [v * math.sin(math.pi * n / window) ** 2 for n, v in enumerate(part)]
        energy = [
            abs(sum(v * cmath.exp(-2j * math.pi * k * n / size) for n, v in enumerate(part))) ** 2
            for k in range(size // 2 + 1)
        ]
        rows.append(
            [sum(e * triangle(k * rate / size, *corners[m : m + 3]) for k, e in enumerate(energy)) for m in range(mels)]
        )
        if begin + window >= len(x):
            return np.array(rows)
        begin += hop


@pytest.mark.parametrize(
    ("count", "mels", "fmin", "fmax"),
    [(61, 4, 0.0, 4000.0), (40, 3, 300.0, 3500.0), (97, 5, 0.0, 4000.0), (3, 4, 0, 4000)],
)
def test_the_spectra_are_the_definition(count: int, mels: int, fmin: float, fmax: float) -> None:
    x = np.random.default_rng(0).standard_normal(count)
    found = mel_power(x, 8000, mels, window_ms=5.0, hop_ms=2.0, fmin=fmin, fmax=fmax)
    wanted = by_definition(x, 8000, mels, 40, 16, fmin, fmax)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_long_sound_is_the_same_in_pieces() -> None:
    x = np.random.default_rng(1).standard_normal(8 * 4200)
    whole = mel_power(x, 8000, 4, window_ms=2.0, hop_ms=1.0)
    assert len(whole) == 4199  # more than one chunk
    np.testing.assert_array_equal(whole[4000:4010], mel_power(x[8 * 4000 : 8 * 4009 + 16], 8000, 4, 2.0, 1.0)[:10])


def test_integers_are_fractions_of_full_scale() -> None:
    x = files.spoken(3, 0, 0)
    np.testing.assert_array_equal(mel_power(x, 8000), mel_power(x / 32768, 8000))
    assert log_mel(np.zeros(10, np.int16), 8000).max() == np.float32(math.log(1e-6))


def test_mel_goes_there_and_back() -> None:
    hz = np.linspace(0, 8000, 7)
    np.testing.assert_allclose(hz_of(mel_of(hz)), hz, atol=1e-9)


def test_a_share_is_the_mean_of_its_windows() -> None:
    power = np.random.default_rng(2).random((12, 3))
    np.testing.assert_allclose(stretched(power, 4), power.reshape(4, 3, 3).mean(1))
    np.testing.assert_allclose(stretched(power, 24), power.repeat(2, 0))
    np.testing.assert_allclose(stretched(power, 12), power)
    for count in (1, 5, 7, 50):
        np.testing.assert_allclose(stretched(power, count).mean(0), power.mean(0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mel_power(np.zeros(9, np.uint8), 8000), "samples must be an array of int16 or of floats, got uint8"),
        (lambda: mel_power(np.zeros(9, np.int32), 8000), "int16 or of floats"),
        (lambda: mel_power([0.0], 8000), "got list"),
        (lambda: mel_power(np.zeros((2, 9)), 8000), r"samples must be \[n\]"),
        (lambda: mel_power(np.zeros(0), 8000), "n >= 1"),
        (lambda: mel_power(np.array([0.0, np.nan]), 8000), "samples must be finite"),
        (lambda: mel_power(np.zeros(9), 8000, hop_ms=0.01), "samples of hop_ms must lie in"),
        (lambda: mel_power(np.zeros(9), 8000, window_ms=0.0), "window_ms must be"),
        (lambda: mel_filters(8000, 256, 100), "must lie in each of 100 bands, got none in band 0"),
        (lambda: mel_filters(8000, 256, 8, fmax=4001.0), "fmax must lie in"),
        (lambda: mel_filters(8000, 256, 8, fmin=3000.0, fmax=300.0), "fmin must lie below fmax"),
    ],
)
def test_what_is_wrong_is_refused(call, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_fits() -> None:
    """T steps of a long and of a short recording, by each way."""
    rng = np.random.default_rng(3)
    long, short = (rng.integers(-9000, 9000, n).astype(np.int16) for n in (1400, 440))  # 16 and 4 windows
    plain = {"loudness": "kept", "mels": 5}
    crop, ragged = (SoundOptions(T=6, stack=2, fit=fit, **plain) for fit in ("crop", "ragged"))
    silent = np.float32(math.log(1e-6))
    np.testing.assert_array_equal(crop.spectra("x", long, 8000), log_mel(long, 8000, mels=5)[:12])
    found = crop.spectra("x", short, 8000)
    np.testing.assert_array_equal(found[:4], log_mel(short, 8000, mels=5))
    assert found.shape == (12, 5) and bool((found[4:] == silent).all())
    assert len(ragged.spectra("x", short, 8000)) == 4
    odd = ragged.spectra("x", short[:430], 8000)  # 3 windows, and one that the last step lacks
    assert len(log_mel(short[:360], 8000)) == 3 and len(ragged.spectra("x", short[:360], 8000)) == 4
    assert odd.shape == (4, 5) and bool((ragged.spectra("x", short[:360], 8000)[3] == silent).all())
    with pytest.raises(ValueError, match="no recording may last more than T = 6 steps, got 8; set T=8"):
        ragged.spectra("x", long, 8000)
    assert SoundOptions(T=6, stack=2, **plain).spectra("x", long, 8000).shape == (12, 5)


def test_equal_loudness() -> None:
    x = files.spoken(1, 1, 5)
    equal, kept = SoundOptions(T=4), SoundOptions(T=4, loudness="kept")
    np.testing.assert_allclose(equal.spectra("x", x, 8000), equal.spectra("x", x // 2 * 2 // 2, 8000), atol=2e-2)
    assert abs(kept.spectra("x", x, 8000) - kept.spectra("x", x // 2, 8000)).mean() > 1
    assert equal.spectra("x", np.zeros(99, np.int16), 8000).max() == np.float32(math.log(1e-6))


def test_recordings_are_what_log_mel_takes() -> None:
    """Floats are full scale already; what has several channels or is no sound is refused."""
    x, kept = files.spoken(1, 1, 5), SoundOptions(T=4, loudness="kept")
    np.testing.assert_array_equal(kept.spectra("x", x / 32768.0, 8000), kept.spectra("x", x, 8000))
    for wrong, words in (
        (np.zeros(900, np.int32), "int16 or of floats"),
        (np.full(900, np.nan), "must be finite"),
        (np.zeros((900, 2), np.int16), "pass one channel"),
    ):
        for options in (kept, SoundOptions(T=4)):
            with pytest.raises((ValueError, TypeError), match=words):
                options.spectra("x", wrong, 8000)


def test_options_are_refused() -> None:
    for options, words in (
        ({"hop_ms": 30.0}, "hop_ms must be at most window_ms"),
        ({"fit": "pad"}, "fit must be one of"),
        ({"loudness": "loud"}, "loudness must be one of"),
        ({"mels": 200}, "must lie in each of 200 bands"),
        ({"fmax": 5000.0}, "fmax must lie in"),
        ({"T": 0}, "T must lie in"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            SoundOptions(**options).checked("load_fsdd", 8000)


def test_wav_files(tmp_path: Path) -> None:
    x = np.array([0, 1, -32768, 32767, 5], np.int16)
    files.write_wav(tmp_path / "a.wav", x, 16000)
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == 16000 and found.dtype == np.int16 and found.tolist() == x.tolist()
    data = (tmp_path / "a.wav").read_bytes()
    cases = {
        "cut": (data[:-3], "chunks must be whole, got b'data' of 10 bytes, 7 of which are there"),
        "no": (b"RIFF", "must be WAV of 16-bit PCM"),
        "text": (b"not sound at all" * 9, "must be WAV of 16-bit PCM"),
        "floats": (data[:20] + b"\x03\0" + data[22:], "16-bit PCM, got 1 channels of 16 bits, format 0x3"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_wav(tmp_path / name)
    files.write_wav(tmp_path / "two.wav", x[:4], channels=2)
    files.write_wav(tmp_path / "bytes.wav", np.zeros(4, np.uint8))
    files.write_wav(tmp_path / "none.wav", x[:0])
    for name, words in (
        ("two", "got 2 channels of 16 bits"),
        ("bytes", "1 channels of 8 bits"),
        ("none", "at least one, got 0 bytes"),
    ):
        with pytest.raises(ValueError, match=words):
            read_wav(tmp_path / f"{name}.wav")
    with pytest.raises(ValueError, match="no such file"):
        read_wav(tmp_path / "nowhere.wav")


def riff(*chunks: tuple[bytes, bytes], cut: int = 0) -> bytes:
    """A file of chunks, those of odd length padded; ``cut`` bytes of the last one are promised and not there."""
    parts = [name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks]
    body = b"WAVE" + b"".join(parts)
    return (b"RIFF" + struct.pack("<I", len(body)) + body)[: len(body) + 8 - cut]


def form(kind: int = 1, rate: int = 8000, align: int = 2, bits: int = 16, extra: bytes = b"") -> tuple[bytes, bytes]:
    return b"fmt ", struct.pack("<HHIIHH", kind, 1, rate, rate * align, align, bits) + extra


PCM_GUID = uuid.UUID("00000001-0000-0010-8000-00aa00389b71").bytes_le
FLOAT_GUID = uuid.UUID("00000003-0000-0010-8000-00aa00389b71").bytes_le
LIST, SOUND = (b"LIST", b"abc"), (b"data", np.arange(-3, 4, dtype="<i2").tobytes())


@pytest.mark.parametrize(
    "data",
    [
        riff(form(), LIST, SOUND),
        riff(LIST, form(), SOUND, LIST),
        riff(form(), SOUND) + b"TAG of something else",
        riff(form(0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + PCM_GUID), SOUND),
    ],
    ids=["between", "around", "behind", "extensible"],
)
def test_wav_chunks_that_are_passed_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    found, rate = read_wav(tmp_path / "a.wav")
    assert found.tolist() == [-3, -2, -1, 0, 1, 2, 3] and rate == 8000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (riff(form(), SOUND, SOUND), "one chunk of format, and behind it one of sound, got b'data'"),
        (riff(SOUND, form()), "one chunk of format, and behind it one of sound, got b'data'"),
        (riff(form(), (b"data", SOUND[1] + b"\1")), "samples of 2 bytes, at least one, got 15 bytes"),
        (riff(form(align=4), SOUND), "must take 2 bytes, at some samples a second, got 4 bytes"),
        (riff(form(rate=0), SOUND), "at some samples a second, got 2 bytes, 0 a second"),
        (riff(form(bits=12), SOUND), "got 1 channels of 12 bits"),
        (riff(form(0xFFFE, extra=struct.pack("<HHI", 22, 12, 4) + PCM_GUID), SOUND), "16 bits, format 0xfffe"),
        (riff(form(0xFFFE, extra=struct.pack("<HHI", 22, 16, 4) + FLOAT_GUID), SOUND), "16 bits, format 0xfffe"),
        (riff(form(0xFFFE), SOUND), "16 bits, format 0xfffe"),
        (riff(form(), SOUND, LIST, cut=2), "chunks must be whole, got b'LIST' of 3 bytes, 2 of which are there"),
        (riff(form(), (b"LIST", b"abc"), SOUND).replace(b"abc\0", b"abc"), "chunks must be whole"),
        (riff(form()), "chunks of format and sound, got none called b'data'"),
        (riff((b"fmt ", b"\1\0"), SOUND), "the chunk of format must hold 16 bytes, got 2"),
    ],
    ids=[
        *("two of sound", "sound first", "half a sample", "wide frames", "no rate", "12 bits", "12 bits of 16"),
        *("floats", "no kind", "cut", "not padded", "no sound", "short format"),
    ],
)
def test_wav_files_that_would_be_read_wrongly(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_wav(tmp_path / "a.wav")

"""Sound files: WAV with 16-bit PCM of one channel."""

from __future__ import annotations

import os
import wave

import numpy as np

from bitspike.checks import bad_value

AGAIN = "copy the file again from its source"
PCM = "convert it, e.g. `ffmpeg -i IN -ac 1 -c:a pcm_s16le OUT.wav`"


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a WAV file of 16-bit PCM with one channel.

    Args:
        path: the file.

    Returns:
        (samples int16 ``[n]``, samples a second).

    Raises:
        ValueError: no such file, another format, a file that ends early, or no sample.
    """
    where = f"read_wav {os.fspath(path)}"
    try:
        with wave.open(os.fspath(path), "rb") as file:
            form, promised = (file.getnchannels(), file.getsampwidth()), file.getnframes()
            if form != (1, 2):
                got = f"{form[0]} channels of {8 * form[1]} bits"
                raise bad_value(where, "the file must hold one channel of 16-bit PCM", got, PCM)
            data, rate = file.readframes(promised), file.getframerate()
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except OSError as error:
        raise bad_value(where, "the file must be readable", error.strerror or error, "check the path") from error
    except (wave.Error, EOFError) as error:
        raise bad_value(where, "the file must be WAV of 16-bit PCM", error or "an early end", PCM) from error
    if len(data) != 2 * promised:
        raise bad_value(where, f"the file must hold {2 * promised} bytes of sound", len(data), AGAIN)
    if not promised:
        raise bad_value(where, "the file must hold sound", "no sample", AGAIN)
    return np.frombuffer(data, "<i2").astype(np.int16), rate

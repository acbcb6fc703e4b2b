"""Encoded images to one uint8 tensor of a fixed size, through Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import torch

from bitspike import checks
from bitspike.data.optional import need

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB"}


def check_form(where: str, size: int | None, channels: int) -> None:
    """Raise unless ``size`` is None or a side in pixels and ``channels`` is 1 or 3."""
    if size is not None:
        checks.integer(where, "size", size, 1, 2**14)
    checks.one_of(where, "channels", channels, tuple(MODES))


def decode_images(
    where: str, encoded: Iterable[tuple[str, bytes]], count: int, size: int | None, channels: int
) -> torch.Tensor:
    """Decode images, convert grey to colour (or colour to grey) and bring them to one size.

    With ``size``, the largest centred square of each image is scaled to ``size`` × ``size`` (bilinear, antialiased);
    an image that has that size already is left as it is. Transparency is dropped.

    Args:
        where: what needs them, for messages.
        encoded: (name, file contents) of each; a name is only for messages.
        count: how many there are, >= 1.
        size: side in pixels; None keeps the images as they are, which must then be alike.
        channels: 3 or 1.

    Returns:
        uint8 ``[count, channels, H, W]``.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: an image that cannot be decoded, by name, or one of another size where ``size`` is None.
    """
    need(where, "PIL", "Pillow", "images")
    result: torch.Tensor | None = None
    for number, (name, content) in enumerate(encoded):
        pixels = torch.from_numpy(_decode(f"{where} {name}", content, size, channels)).movedim(2, 0)
        if result is None:
            result = torch.empty(count, *pixels.shape, dtype=torch.uint8)
        elif pixels.shape != result.shape[1:]:
            must = f"all images must be {result.shape[3]}x{result.shape[2]} like the first one where size is None"
            got = f"{pixels.shape[2]}x{pixels.shape[1]}"
            raise checks.bad_value(f"{where} {name}", must, got, "pass size, the side to scale them to")
        result[number] = pixels
    if result is None:
        raise checks.bad_value(where, "there must be at least one image", "none", "pass another folder")
    return result


def _decode(where: str, content: bytes, size: int | None, channels: int) -> np.ndarray:
    """One image, uint8 ``[H, W, channels]``."""
    from PIL import Image

    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
        deep = opened.mode.startswith(("I", "F"))
        image: Image.Image = opened if deep else opened.convert(MODES[channels])
    except Exception as error:  # on damaged bytes the decoders of Pillow raise many kinds
        must, todo = f"the image must be a sound {', '.join(FORMATS)}", "replace or remove it"
        raise checks.bad_value(where, must, str(error) or type(error).__name__, todo) from error
    if deep:
        raise checks.bad_value(where, "the image must have 8 bits a channel", f"mode {opened.mode}", "convert it")
    if size is not None:
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        square = image.crop((left, top, left + side, top + side))  # first, so that nothing outside bleeds in
        image = square.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8).reshape(image.height, image.width, channels)

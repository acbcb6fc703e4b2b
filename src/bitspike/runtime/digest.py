"""The digest of a file: of every byte of it, header and tensors, with zeros in the place of the digest itself."""

from __future__ import annotations

import hashlib

NOTHING = "0" * 64
"""What stands in the place of the digest while it is computed."""


def digest(header: bytes, body: bytes | memoryview, digits: str = NOTHING) -> str:
    """SHA-256 of a file whose header is this, zeros standing for the first place where it has these digits.

    >>> named = "a" * 64
    >>> digest(named.encode(), b"body", named) == digest(NOTHING.encode(), b"body")
    True
    """
    found = hashlib.sha256(len(header).to_bytes(8, "little"))
    found.update(header.replace(digits.encode("ascii", "replace"), NOTHING.encode(), 1))
    found.update(body)
    return found.hexdigest()

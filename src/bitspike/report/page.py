"""Blocks of a Markdown page that are written from results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bitspike.files import write_text_atomic
from bitspike.report.text import narrow_tables


def rewrite_blocks(page: Path, writers: Mapping[str, Callable[[str], str]], check: bool = False) -> bool:
    """Write anew what stands between ``<!-- KIND: NAME -->`` and ``<!-- end -->``; a kind without writer stays.

    Tables of more than six columns are split.

    Args:
        page: Markdown, UTF-8. writers: kind → the text of a block from its NAME. check: write nothing.

    Returns:
        Whether a block was out of date.

    Raises:
        OSError: the page cannot be read or written.
    """
    begins = rf"<!-- ({'|'.join(map(re.escape, writers))}): (\S+) -->\n"
    old = page.read_text(encoding="utf-8")
    new = re.sub(
        rf"({begins}).*?(<!-- end -->)",
        lambda m: f"{m[1]}{narrow_tables(writers[m[2]](m[3]))}\n{m[4]}",
        old,
        flags=re.DOTALL,
    )
    if new != old and not check:
        write_text_atomic(page, new)
    return new != old

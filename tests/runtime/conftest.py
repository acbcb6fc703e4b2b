"""Everything in this folder holds for both engines: each module runs once with either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bitspike.runtime import backends
from bitspike.runtime.engine import why_missing


@pytest.fixture(scope="module", autouse=True, params=["interpreter", "native"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of the engine that "auto" means in this module."""
    if request.param == "native":
        missing = why_missing()
        if missing is not None:
            pytest.skip(missing)
        yield "native"
        return
    patch = pytest.MonkeyPatch()
    patch.setattr(backends, "why_missing", lambda: "tests of the interpreter")
    yield "interpreter"
    patch.undo()

"""One thread, fixed seeds, Hypothesis profiles, `data` tests only where data is, and a check of error messages.

Without a GPU, Triton kernels run through their interpreter; triton and bitspike ask for it when they are imported.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import hypothesis
import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# A script, for a process without the interpreter; a file that type checkers alone read.
collect_ignore = ["ops/compile_triton.py", "strict_user.py"]
HOUSE_FORM = re.compile(r"^[^:]+: .+, got .*; .+[.?]$", re.DOTALL)

hypothesis.settings.register_profile("few", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("many", deadline=None, max_examples=400, derandomize=True)
hypothesis.settings.load_profile("many" if os.environ.get("CI") else "few")

Refuses = Callable[..., AbstractContextManager[None]]


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("BITSPIKE_DATA"):
        return
    without = pytest.mark.skip(reason="not run: BITSPIKE_DATA names no folder of data sets")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(without)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Global generators start every test alike."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def refuses() -> Refuses:
    """``with refuses("LIF", "threshold"):`` expects one error in the house form that names both."""

    @contextmanager
    def expect(where: str, *words: str, kind: type[Exception] = ValueError) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        text = str(caught.value)
        assert HOUSE_FORM.match(text), f"not in the form 'Where: what must hold, got what; what to do.': {text}"
        assert text.startswith(f"{where}: "), text
        assert type(caught.value) is kind, type(caught.value)
        missing = [word for word in words if word not in text]
        assert not missing, f"{missing} not in {text}"

    return expect

"""Networks as users write them: one file a family, every network one `Case`."""

from zoo import dense, heads, mobile, odd, plain, residual, sequences, tokens  # noqa: F401
from zoo.case import CASES, Case

__all__ = ["CASES", "Case"]

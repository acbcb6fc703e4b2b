"""What a program may ask for at most; checked before anything is allocated."""

from __future__ import annotations

INT8 = (-(2**7), 2**7 - 1)
INT16 = (-(2**15), 2**15 - 1)
INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)

MAX_FILE_BYTES = 2**31
MAX_HEADER_BYTES = 2**23
MAX_DEPTH = 16
"""Nested brackets in the JSON of a file."""
MAX_NAME = 200
MAX_OPERATIONS = 4096
MAX_OUTPUTS = 256
MAX_ELEMENTS = 2**27
"""Numbers in a value of one sample and step, and in a constant."""
MAX_USED = 150_000_000
"""Numbers of constants, counted at every operation that uses them: what verifying looks at (VGG-16: 138 million)."""
MAX_AXES = 4
MAX_SIDE = 2**24
"""Length of an axis."""
MAX_STEPS = 10_000
"""Steps of a window, and rows of constants that differ by step."""
MAX_ARENA_BYTES = 2**33
"""Memory plan of one sample."""
MAX_COUNT = 2**31 - 1
"""Steps that a mean read-out or a counter of steps may see."""
MAX_TAPS = 2**14
"""Places of a pooling window or of a convolution's kernel."""

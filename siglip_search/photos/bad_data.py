"""The exceptions that damaged or hostile pictures raise inside the imaging libraries."""

from __future__ import annotations

import struct
import zlib

# So wide because Pillow's plugins parse bytes with ordinary Python and document no smaller set.
# 150,000 randomly damaged files raised OSError, ValueError, SyntaxError, RuntimeError,
# NotImplementedError, EOFError and OverflowError under Pillow 13; the others stand in its plugins'
# code, or were raised by other releases. The tuple guards calls into Pillow only.
BAD_DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,  # OverflowError, ZeroDivisionError
    AssertionError,  # plugins assert what a damaged file can break
    EOFError,
    LookupError,  # IndexError, KeyError
    MemoryError,
    OSError,  # PIL.UnidentifiedImageError among them
    RuntimeError,  # NotImplementedError, RecursionError
    SyntaxError,
    TypeError,
    ValueError,  # UnicodeDecodeError among them
    struct.error,
    zlib.error,
)

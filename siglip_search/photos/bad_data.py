"""The exceptions that damaged or hostile pictures raise inside the imaging libraries."""

from __future__ import annotations

import struct
import zlib

# So wide because Pillow's plugins parse bytes with ordinary Python: over 1,500 damaged files
# raised every one of these somewhere (a missing tag is a KeyError, a wrong type a TypeError, a
# size of zero a ZeroDivisionError ...), and Pillow documents no smaller set. AssertionError:
# plugins assert what a damaged file can break. AttributeError is Pillow's way to fail on a file
# that it closed half-way. It guards calls into Pillow only, never the project's own code.
BAD_DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,  # OverflowError, ZeroDivisionError
    AssertionError,
    AttributeError,
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

"""Failures that a user of the index can do something about, each with a hint."""


class StoreError(Exception):
    """Base of every expected failure of the store.

    Attributes:
        hint: What the user can do about it, as one sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LibraryBusyError(StoreError):
    """Another process holds the writer's lock."""


class LibraryMissingError(StoreError):
    """There is no library in this folder and it was opened for reading only."""


class NewerLibraryError(StoreError):
    """The library was written by a newer version of the program."""


class CorruptLibraryError(StoreError):
    """The SQLite database, which is the truth, cannot be read."""


class NetworkFileSystemError(StoreError):
    """The library lies on a network file system, where SQLite's WAL is unsafe."""


class DiskFullError(StoreError):
    """A write was refused for want of space; the transaction was rolled back."""


class LibraryAccessError(StoreError):
    """The operating system refused to read or write the library's files."""


class InvalidVectorError(StoreError, ValueError):
    """A vector has the wrong dimension, is not finite, or its id stands twice."""


class UnknownSpaceError(StoreError, LookupError):
    """No embedding space of this key is in the library."""

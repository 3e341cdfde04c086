"""One table of facts out of a TOML or JSON file; every complaint names the file and the key."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_T = TypeVar("_T")

FETCH_AGAIN = "Correct the file or fetch the model again."


def read_toml(path: Path, *, remedy: str = FETCH_AGAIN) -> dict[str, object]:
    """Return the content of a TOML file.

    Raises:
        FileNotFoundError: If it is not there.
        ModelError: If it cannot be read or is not TOML.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid TOML: {error}", hint=remedy) from error


class FactTable:
    """Typed access to keys and values.

    Args:
        values: As the file's parser gave them.
        where: The file, and what else names the table; stands before every key in messages.
        folder: Where the files lie that the table names; None if it names none.
        prefix: Keys of the tables around this one, each with a dot.
        remedy: Hint of every complaint that has no better one.
    """

    def __init__(
        self,
        values: Mapping[str, object],
        *,
        where: str,
        folder: Path | None = None,
        prefix: str = "",
        remedy: str = FETCH_AGAIN,
    ) -> None:
        self._values = values
        self.where = where
        self._folder = folder
        self._prefix = prefix
        self._remedy = remedy

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def kind(self, key: str) -> type:
        """Return the type of a value; that of None where the key is missing."""
        return type(self._values.get(key))

    def complain(self, key: str, what: str, remedy: str = "") -> ModelError:
        """Return an error about a key, in one line."""
        return ModelError(f"{self.where}: {self._prefix}{key} {what}", hint=remedy or self._remedy)

    def only(self, *known: str) -> None:
        """Refuse keys that nothing reads: a typing error would go unnoticed."""
        for key in self._values:
            if key not in known:
                raise self.complain(key, f"is not known here; known are {', '.join(known)}")

    def table(self, key: str) -> FactTable:
        """Return a table within this one."""
        return FactTable(
            self._require(key, dict, "a table"),
            where=self.where,
            folder=self._folder,
            prefix=f"{self._prefix}{key}.",
            remedy=self._remedy,
        )

    def text(self, key: str) -> str:
        """Return a text that is not blank."""
        value = self._require(key, str, "a text")
        if not value.strip():
            raise self.complain(key, "is empty")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where there is none."""
        return self.text(key) if key in self else None

    def truth(self, key: str, default: bool) -> bool:
        """Return true or false; `default` where the key is missing or, in JSON, null."""
        value = self._values[key] if key in self else default
        if not isinstance(value, bool):
            raise self.complain(key, f"is {value!r}; it must be true or false")
        return value

    def integer(self, key: str, *, least: int, most: int) -> int:
        """Return a whole number in [least, most]."""
        value = self._require(key, int, "a whole number")
        if not least <= value <= most:
            raise self.complain(key, f"is {value}; it must be from {least} to {most}")
        return value

    def optional_integer(self, key: str, *, least: int, most: int) -> int | None:
        """Return a whole number in [least, most], or None where there is none."""
        return self.integer(key, least=least, most=most) if key in self else None

    def number(self, key: str, *, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a finite number in [least, most]."""
        value = self._values.get(key)
        if key in self and isinstance(value, int) and not isinstance(value, bool):
            number = float(value)
        else:
            number = self._require(key, float, "a number")
        if not math.isfinite(number):
            raise self.complain(key, f"is {number}; it must be finite")
        if not least <= number <= most:
            raise self.complain(key, f"is {number}; it must be from {least} to {most}")
        return number

    def optional_number(self, key: str) -> float | None:
        """Return a finite number, or None where there is none."""
        return self.number(key) if key in self else None

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """Return one of the known texts."""
        if default is not None and key not in self:
            return default
        value = self._require(key, str, "a text")
        if value not in choices:
            raise self.complain(
                key,
                f"is {value!r}, which this version does not know",
                f"Known are {', '.join(choices)}.",
            )
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self._require(key, list, "a list of texts")
        if not all(isinstance(value, str) and value for value in values):
            raise self.complain(key, "must be a list of texts")
        return tuple(values)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Return a list of `count` finite numbers."""
        values = self._require(key, list, f"a list of {count} numbers")
        good = len(values) == count and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            for value in values
        )
        if not good:
            raise self.complain(key, f"must be a list of {count} finite numbers")
        return tuple(float(value) for value in values)

    def integers(self, key: str, count: int, *, least: int, most: int) -> tuple[int, ...]:
        """Return a list of `count` whole numbers, each in [least, most]."""
        values = self._require(key, list, f"a list of {count} whole numbers")
        good = len(values) == count and all(
            isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            for value in values
        )
        if not good:
            raise self.complain(
                key, f"must be a list of {count} whole numbers from {least} to {most}"
            )
        return tuple(values)

    def relative_path(self, key: str) -> str:
        """Return a path with forward slashes that does not leave its folder."""
        return self._inside(key, self.text(key))

    def relative_paths(self, key: str) -> tuple[str, ...]:
        """Return paths as `relative_path` does; none where the key is missing."""
        return tuple(self._inside(key, name) for name in self.texts(key)) if key in self else ()

    def file(self, key: str) -> str:
        """Return the relative path of a file that is in the folder."""
        return self._existing(key, self.relative_path(key))

    def files(self, key: str) -> tuple[str, ...]:
        """Return the relative paths of files that are in the folder."""
        return tuple(self._existing(key, name) for name in self.relative_paths(key))

    def _inside(self, key: str, name: str) -> str:
        relative = PurePosixPath(name)
        # A folder must stay whole when it is copied, so nothing outside it may be named.
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
            raise self.complain(
                key,
                f"is {name!r}; it must lie inside the model folder",
                "Use a relative path with forward slashes.",
            )
        return name

    def _existing(self, key: str, name: str) -> str:
        path = (self._folder or Path()) / name
        if not path.is_file():
            raise self.complain(
                key,
                f"names {path}, which is missing",
                "Put the file there or fetch the model again.",
            )
        return name

    def _require(self, key: str, kind: type[_T], described: str) -> _T:
        if key not in self._values:
            raise self.complain(key, f"is missing; it must be {described}")
        value = self._values[key]
        # bool is an int in Python, never in a model's facts.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.complain(key, f"is {value!r}; it must be {described}")
        return value

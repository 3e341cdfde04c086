"""The libraries that defined the models: are they here, and can they be kept quiet?

torch, transformers, open_clip and timm are extras of a gigabyte: nothing outside this room imports
them, and here they are imported by the functions that need them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search.models.registry_row import Architecture

_PACKAGES: Final = {
    "transformers": ("torch", "onnx", "transformers"),
    "open_clip": ("torch", "onnx", "open_clip", "timm"),
}
INSTALL: Final = 'Install them: pip install "siglip-search[export]"'


def require_libraries(architecture: Architecture) -> None:
    """Raise unless everything that builds and exports `architecture` can be imported.

    Raises:
        ModelError: If a package is missing, or is there and cannot be loaded.
    """
    packages = _PACKAGES[architecture.library]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"exporting needs packages that are not installed: {', '.join(missing)}", hint=INSTALL
        )
    for name in packages:
        try:
            with quiet():
                importlib.import_module(name)
        # What a torch and a torchvision of different builds raise, depending on the versions.
        except (ImportError, RuntimeError, OSError, AttributeError) as error:
            raise ModelError(
                f"{name} is installed but cannot be loaded: {first_line(error)}",
                hint="torch and torchvision must be of one build: install both anew, or see "
                "`python -m pip check`.",
            ) from error


def library_class(architecture: Architecture) -> Any:
    """Return the class in Transformers that `architecture` names.

    Raises:
        ModelError: If the installed version has none of that name, or it cannot be loaded.
    """
    import transformers

    try:
        with quiet():
            return getattr(transformers, architecture.name)
    # Transformers loads its parts on first use and wraps what goes wrong there.
    except (AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"transformers {transformers.__version__} cannot load {architecture.name}: "
            f"{first_line(error.__cause__ or error)}",
            hint="Upgrade transformers; torch and torchvision must be of one build.",
        ) from error


def library_versions(architecture: Architecture) -> str:
    """Return names and versions of the libraries behind `architecture`, for people."""
    named = ("torch", *_PACKAGES[architecture.library][2:])
    return ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in named)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings, log lines and progress bars of the libraries off the user's screen."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    swallowed = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(swallowed),
            contextlib.redirect_stderr(swallowed),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def first_line(error: BaseException) -> str:
    """Return what a library's error says, without the pages that may follow."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__

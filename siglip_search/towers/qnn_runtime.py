"""onnxruntime-qnn in this process: loaded once, for one chip, without a word on stdout."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DeviceError
from siglip_search.towers.onnx_runtime import first_line, quiet_onnxruntime, run_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search.towers.qnn_target import Target

PROVIDER: Final = "QNNExecutionProvider"
PACKAGE: Final = "onnxruntime-qnn"
_MODULE: Final = "onnxruntime_qnn"
INSTALL_HINT: Final = (
    'Install it with: pip install "siglip-search[npu]" (Windows, or Linux with glibc 2.35; '
    "Python 3.11 or later)."
)
_STDOUT: Final = 1

_lock = threading.RLock()
_registered: str | None = None
_claimed: list[Target | None] = []


def runtime_versions() -> dict[str, str | None]:
    """Return the versions of ONNX Runtime, its NPU provider and Qualcomm's libraries in that.

    None for what is not installed. Loads neither.
    """
    return {
        "onnxruntime": _version("onnxruntime"),
        PACKAGE: _version(PACKAGE),
        "qairt": qairt_version(),
    }


def qairt_version() -> str | None:
    """Return the version of Qualcomm's libraries in the wheel, such as "2.51.0"."""
    if not is_installed():
        return None
    information = importlib.import_module(f"{_MODULE}.build_and_package_info")
    return str(information.qnn_version)


def is_installed() -> bool:
    """Return whether the wheel is there."""
    return importlib.util.find_spec(_MODULE) is not None


def claim_target(target: Target | None) -> None:
    """Say which chip this process prepares graphs for; once said, it stays so.

    The library keeps the first chip even when its sessions are gone.

    Raises:
        DeviceError: If this process has another one.
    """
    with _lock:
        if not _claimed:
            _claimed.append(target)
        elif _claimed[0] != target:
            raise DeviceError(
                f"this process has prepared an NPU for {_claimed[0] or 'the chip in place'} and "
                f"cannot prepare one for {target or 'the chip in place'} as well",
                hint="Use one process for each chip.",
            )


def qnn_devices(*, emulator: bool, library: Path | None = None) -> list[Any]:
    """Return the provider's devices that a session is made for, loading the library if need be.

    Args:
        emulator: Of the emulator instead of an NPU.
        library: The provider's library; by default the wheel's.

    Raises:
        DeviceError: If the library is missing or cannot be loaded, or lists no such device.
    """
    onnxruntime = quiet_onnxruntime()
    _register(onnxruntime, library)
    listed = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    kinds = onnxruntime.OrtHardwareDeviceType
    neural = [device for device in listed if device.device.type == kinds.NPU]
    processors = [device for device in listed if device.device.type == kinds.CPU]
    # Being listed is not being there: without an NPU the provider lists the processor, and on
    # Linux a real one may be reached through that entry too. What it does is for a probe to find.
    chosen = processors if emulator else neural or processors
    if not chosen:
        raise DeviceError(
            f"{PACKAGE} lists no {'processor' if emulator else 'NPU'}",
            hint="`siglip-search devices` shows what is there.",
        )
    return chosen[:1]


def _register(onnxruntime: Any, library: Path | None) -> None:
    global _registered
    with _lock:
        path = os.fspath(library) if library is not None else _library_of_the_wheel()
        if _registered is not None:
            if _registered != path:
                raise DeviceError(
                    f"this process has loaded {_registered} and cannot load {path} as well",
                    hint="Use one process for each.",
                )
            return
        with stdout_guarded():
            try:
                # A second time, this raises: the program around may have done it before us.
                onnxruntime.register_execution_provider_library(PROVIDER, path)
            except run_errors() as error:
                if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
                    raise DeviceError(
                        f"{path} cannot be loaded: {first_line(error)}",
                        hint=f"Install {PACKAGE} again; `siglip-search devices` tries it.",
                    ) from error
        _registered = path


def _library_of_the_wheel() -> str:
    if not is_installed():
        raise DeviceError(f"{PACKAGE} is not installed", hint=INSTALL_HINT)
    path = str(importlib.import_module(_MODULE).get_library_path())
    if not os.path.isfile(path):
        raise DeviceError(
            f"{PACKAGE} is installed, but {path} is missing", hint=f"Install {PACKAGE} again."
        )
    return path


@contextlib.contextmanager
def stdout_guarded() -> Iterator[None]:
    """Send what native code prints on file descriptor 1 nowhere, until the block ends.

    The libraries print notes there, in the middle of JSON that a program reads. One block at a
    time, whatever the thread. Other threads must not print meanwhile: it would be lost. So only
    the making of a session is worth it: a run prints only when it fails, and into C's buffer, which
    an empty block throws away (unless C's streams are unbuffered, as PYTHONUNBUFFERED makes them).
    """
    with _lock:
        if sys.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        try:
            kept = os.dup(_STDOUT)
        except OSError:  # there is no stdout to guard
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, _STDOUT)
            yield
        finally:
            # What lies in C's own buffer would otherwise come out later, on the real stdout.
            _flush_c_streams()
            os.dup2(kept, _STDOUT)
            os.close(nowhere)
            os.close(kept)


def _flush_c_streams() -> None:
    import ctypes

    library = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    library.fflush(None)


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

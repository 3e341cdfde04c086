"""What a QNN context binary says of itself: graphs, inputs, outputs, chip, maker's version.

    python -m siglip_search.export.context_binary FILE

The runtime accepts a context under wrong names and with its axes in another order, and computes
wrong numbers without a word, so the binary itself is asked, through Qualcomm's `libQnnSystem` that
comes with onnxruntime-qnn. Its C structures are read here by their offsets (QnnSystemInterface.h,
QnnSystemContext.h and QnnTypes.h of QAIRT 2.51; all pointers 64 bits), in a process of its own,
and only those of the versions that are known.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.child_process import answer_parent, ask_child
from siglip_search.towers.qnn_runtime import INSTALL_HINT, PACKAGE, is_installed, stdout_guarded
from siglip_search.towers.wrapped_context import ContextTensor

_MODULE: Final = "siglip_search.export.context_binary"  # not __name__, which is __main__ there
_TIMEOUT_SECONDS: Final = 120.0
_DAMAGED_HINT: Final = "The file is cut off or damaged, or something else: fetch it again."

_SYSTEM_API_MAJOR: Final = 1
_BINARY_INFO_VERSION: Final = 3
_GRAPH_INFO_VERSIONS: Final = (1, 2, 3)  # what is read stands at the same places in all
_TENSOR_VERSIONS: Final = (1, 2)
_MOST_TENSORS: Final = 1000
_MOST_AXES: Final = 16

_HTP_BACKEND: Final = 6

# Qnn_DataType_t; the fixed-point kinds are integers with a scale.
_DTYPES: Final = {
    0x0008: "int8",
    0x0016: "int16",
    0x0032: "int32",
    0x0064: "int64",
    0x0108: "uint8",
    0x0116: "uint16",
    0x0132: "uint32",
    0x0164: "uint64",
    0x0216: "float16",
    0x0232: "float32",
    0x0308: "int8",
    0x0316: "int16",
    0x0408: "uint8",
    0x0416: "uint16",
    0x0508: "bool",
}
_FIXED_POINT: Final = frozenset({0x0308, 0x0316, 0x0408, 0x0416})
_DEFINED: Final = 1  # Qnn_Definition_t
_SCALE_OFFSET: Final = 0  # Qnn_QuantizationEncoding_t


@dataclass(frozen=True, slots=True)
class ContextGraph:
    """One graph of a binary.

    Attributes:
        name: Its name.
        inputs: What must be fed.
        outputs: What it gives.
    """

    name: str
    inputs: tuple[ContextTensor, ...]
    outputs: tuple[ContextTensor, ...]


@dataclass(frozen=True, slots=True)
class ContextBinary:
    """What a binary says of itself.

    Attributes:
        path: The file.
        build: Version of QAIRT that made it, such as "v2.51.0.260929181845".
        backend_api: Version of the backend's interface, such as "5.51.0".
        soc_model: Qualcomm's number of the chip; 0 if it does not say.
        graphs: How many graphs it holds.
        graph: The first of them.
    """

    path: Path
    build: str
    backend_api: str
    soc_model: int
    graphs: int
    graph: ContextGraph


def read_context_binary(path: Path, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> ContextBinary:
    """Return what a QNN context binary says of itself.

    Raises:
        ModelError: If it is none, is damaged, is for another backend than the NPU's, or describes
            itself in a way that is not known here.
        DeviceError: If onnxruntime-qnn is not installed.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file", hint="Name a QNN context binary (.bin).")
    said = ask_child(
        _MODULE,
        [os.fspath(path)],
        what=f"{path} cannot be read as a QNN context binary",
        hint=_DAMAGED_HINT,
        timeout_seconds=timeout_seconds,
    )
    graph = said["graph"]
    return ContextBinary(
        path=path,
        build=said["build"],
        backend_api=said["backend_api"],
        soc_model=said["soc_model"],
        graphs=said["graphs"],
        graph=ContextGraph(graph["name"], _tensors(graph["inputs"]), _tensors(graph["outputs"])),
    )


def _tensors(values: list[dict[str, Any]]) -> tuple[ContextTensor, ...]:
    return tuple(ContextTensor(**{**one, "shape": tuple(one["shape"])}) for one in values)


def main() -> None:
    """Be the child: read the file that the command line names."""
    parser = argparse.ArgumentParser(description="Read a QNN context binary.")
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    answer_parent(lambda: _read(asked.file))


class _Memory:
    """Reads the fields of C structures.

    Args:
        address: Where the structure begins.
    """

    def __init__(self, address: int | None) -> None:
        if not address:
            raise ValueError("a part is missing")
        self._address = address

    def number(self, offset: int) -> int:
        """Return the unsigned 32-bit number there."""
        return ctypes.c_uint32.from_address(self._address + offset).value

    def signed(self, offset: int) -> int:
        """Return the signed 32-bit number there."""
        return ctypes.c_int32.from_address(self._address + offset).value

    def large(self, offset: int) -> int:
        """Return the unsigned 64-bit number there."""
        return ctypes.c_uint64.from_address(self._address + offset).value

    def single(self, offset: int) -> float:
        """Return the 32-bit floating-point number there."""
        return ctypes.c_float.from_address(self._address + offset).value

    def text(self, offset: int) -> str:
        """Return the text that is pointed to there; "" for none."""
        value = ctypes.c_char_p.from_address(self._address + offset).value
        return (value or b"").decode(errors="replace")

    def pointer(self, offset: int) -> int | None:
        """Return the address that stands there; None for none."""
        return ctypes.c_void_p.from_address(self._address + offset).value

    def target(self, offset: int) -> _Memory:
        """Return the structure that is pointed to there."""
        return _Memory(self.pointer(offset))

    def inside(self, offset: int) -> _Memory:
        """Return the structure that begins there."""
        return _Memory(self._address + offset)

    def version(self, offset: int) -> str:
        """Return a Qnn_Version_t."""
        return ".".join(str(self.number(offset + 4 * place)) for place in range(3))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}", hint="Check its permissions."
        ) from error
    with stdout_guarded():
        interface = _system_interface()
        create = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(interface.large(0))
        # systemContextGetMetaData: handle, content, its size, what was found
        describe = ctypes.CFUNCTYPE(
            ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p
        )(interface.large(16))
        handle, found = ctypes.c_void_p(), ctypes.c_void_p()
        if create(ctypes.byref(handle)) != 0:
            raise DeviceError(f"{PACKAGE} cannot read contexts", hint=f"Install {PACKAGE} again.")
        status = describe(handle, content, len(content), ctypes.byref(found))
    # What was found is freed with the handle, which is never done: the process ends soon.
    if status != 0:
        raise ModelError(f"{path} is no QNN context binary", hint=_DAMAGED_HINT)
    try:
        return _described(_Memory(found.value), path, len(content))
    except ValueError as error:
        raise ModelError(
            f"{path} describes itself in a way that is not known here: {error}",
            hint=f"Upgrade siglip-search and {PACKAGE}, or take a binary made by another version "
            "of Qualcomm's tools.",
        ) from error


def _system_interface() -> _Memory:
    """Return the library's table of functions."""
    if not is_installed():
        raise DeviceError(f"{PACKAGE} is not installed", hint=INSTALL_HINT)
    folder = Path(str(importlib.import_module("onnxruntime_qnn").get_library_path())).parent
    path = folder / ("QnnSystem.dll" if sys.platform == "win32" else "libQnnSystem.so")
    providers, count = ctypes.c_void_p(), ctypes.c_uint32()
    try:
        get_providers = ctypes.CDLL(os.fspath(path)).QnnSystemInterface_getProviders
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"{path} cannot be loaded: {error}", hint=f"Install {PACKAGE} again."
        ) from error
    get_providers.restype = ctypes.c_uint64
    if get_providers(ctypes.byref(providers), ctypes.byref(count)) != 0 or not count.value:
        raise DeviceError(f"{path} offers nothing", hint=f"Install {PACKAGE} again.")
    provider = _Memory(providers.value).target(0)
    if provider.number(16) != _SYSTEM_API_MAJOR:
        raise DeviceError(
            f"{path} has version {provider.version(16)} of its interface, and this program knows "
            f"{_SYSTEM_API_MAJOR}",
            hint="Upgrade siglip-search.",
        )
    return provider.inside(32)


def _described(info: _Memory, path: Path, size: int) -> dict[str, Any]:
    if info.number(0) != _BINARY_INFO_VERSION:
        raise ValueError(f"version {info.number(0)}, not {_BINARY_INFO_VERSION}")
    binary = info.inside(8)
    if binary.number(0) != _HTP_BACKEND:
        raise ModelError(
            f"{path} was made for backend {binary.number(0)}, not for the NPU's, {_HTP_BACKEND}",
            hint="Take the binary for HTP (the NPU, not the GPU or CPU).",
        )
    if binary.large(64) > size:
        raise ModelError(
            f"{path} has {size:,} bytes, and its content alone takes {binary.large(64):,}",
            hint=_DAMAGED_HINT,
        )
    graphs = binary.number(88)
    if not 1 <= graphs <= _MOST_TENSORS:
        raise ValueError(f"{graphs} graphs")
    graph = binary.target(96)
    if graph.number(0) not in _GRAPH_INFO_VERSIONS:
        raise ValueError(f"version {graph.number(0)} of a graph")
    graph = graph.inside(8)
    return {
        "build": binary.text(8),
        "backend_api": binary.version(28),
        "soc_model": binary.number(128),
        "graphs": graphs,
        "graph": {
            "name": graph.text(0),
            "inputs": _listed(graph.number(8), graph.pointer(16)),
            "outputs": _listed(graph.number(24), graph.pointer(32)),
        },
    }


_TENSOR_BYTES: Final = 144


def _listed(count: int, address: int | None) -> list[dict[str, Any]]:
    if count > _MOST_TENSORS:
        raise ValueError(f"{count} inputs or outputs")
    if not count:
        return []
    tensors = _Memory(address)
    return [_tensor(tensors.inside(place * _TENSOR_BYTES)) for place in range(count)]


def _tensor(versioned: _Memory) -> dict[str, Any]:
    if versioned.number(0) not in _TENSOR_VERSIONS:
        raise ValueError(f"version {versioned.number(0)} of a tensor")
    tensor = versioned.inside(8)
    name, kind, axes = tensor.text(8), tensor.number(24), tensor.number(72)
    if axes > _MOST_AXES:
        raise ValueError(f"{axes} axes")
    if kind not in _DTYPES:
        raise ValueError(f"{name} is of type 0x{kind:04x}")
    sizes = tensor.target(80) if axes else None
    scale, zero_point = None, 0
    if kind in _FIXED_POINT:
        if tensor.number(32) != _DEFINED or tensor.number(36) != _SCALE_OFFSET:
            raise ValueError(f"{name} is of integers without one scale")
        # Qualcomm's offset is added to the integer, ONNX's zero point taken from it.
        scale, zero_point = tensor.single(40), -tensor.signed(44)
        if not scale > 0:
            raise ValueError(f"{name} has the scale {scale}")
    return {
        "name": name,
        "dtype": _DTYPES[kind],
        "shape": [sizes.number(4 * axis) for axis in range(axes)] if sizes else [],
        "scale": scale,
        "zero_point": zero_point,
    }


if __name__ == "__main__":
    main()

"""A torch tower becomes an ONNX file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import ModelError
from siglip_search.export.reference_libraries import first_line, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.export.torch_towers import TorchTower

RAW_OUTPUT: Final = "pooler_output"
"""Name of an embedding as the tower gives it, as in the exports that most people use."""
UNIT_OUTPUT: Final = "embedding"
"""Name of an embedding that the graph has brought to length 1."""

DEFAULT_OPSET: Final = 17
"""The first with LayerNormalization in one node; every runtime of the last years knows it."""
OPSETS: Final = (17, 20)
"""The exporter's last is 20."""


def write_onnx(
    tower: TorchTower,
    example: Any,
    path: Path,
    *,
    input_name: str,
    normalised: bool,
    batch: int | None,
    opset: int,
) -> tuple[str, ...]:
    """Write a tower to `path`.

    Args:
        tower: What to export.
        example: An input with two rows; its values do not matter.
        path: The new file. Weights beyond the 2 GiB that one ONNX file can hold go to a file of
            the same name with `.data` behind it.
        input_name: Name of the graph's input.
        normalised: Let the graph end with unit vectors.
        batch: The one batch size that the graph takes; None for any.
        opset: Version of the operators, in `OPSETS`.

    Returns:
        Names of the files with external weights, in `path`'s folder.

    Raises:
        ModelError: If the exporter does not know how.
        OSError: If the file cannot be written.
    """
    import torch

    output_name = UNIT_OUTPUT if normalised else RAW_OUTPUT
    any_batch = {name: {0: "batch"} for name in (input_name, output_name)}
    rows = example if batch is None else example[:1].repeat(batch, *[1] * (example.ndim - 1))
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    # Traced, open_clip's attention takes a fused operator that ONNX does not have.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # A folder of its own: the exporter puts each large weight into a file beside the graph.
        with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as scratch, quiet():
            written = Path(scratch) / path.name
            # The tracing exporter: the newer one needs another package and gives the same numbers.
            try:
                torch.onnx.export(
                    _single_output(tower.module, tower.pick, normalised=normalised),
                    (rows,),
                    str(written),
                    input_names=[input_name],
                    output_names=[output_name],
                    dynamic_axes=any_batch if batch is None else None,
                    opset_version=opset,
                    dynamo=False,
                )
            except RuntimeError as error:  # the base of the exporter's own
                raise ModelError(
                    f"torch {torch.__version__} cannot export {path.name}: {first_line(error)}",
                    hint="Try another version of torch.",
                ) from error
            if len(list(Path(scratch).iterdir())) == 1:
                written.rename(path)
                return ()
            return (gather_weights(written, path),)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


def gather_weights(written: Path, path: Path) -> str:
    """Save a graph whose weights lie in files beside it as `path` and one file of weights.

    Args:
        written: The graph.
        path: The new one.

    Returns:
        Name of the file with the weights, in `path`'s folder.

    Raises:
        OSError: If a file cannot be written.
    """
    import onnx

    data_file = f"{path.name}.data"
    onnx.save_model(
        onnx.load(str(written)),
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data_file,
    )
    # onnx lets only the owner read it.
    shutil.copymode(path, path.with_name(data_file))
    return data_file


def _single_output(module: Any, pick: Callable[[Any], Any], *, normalised: bool) -> Any:
    import torch

    class Tower(torch.nn.Module):  # type: ignore[misc]  # torch is not there when types are checked
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, values: Any) -> Any:
            embeddings = pick(self.module(values))
            return torch.nn.functional.normalize(embeddings, dim=-1) if normalised else embeddings

    return Tower().eval()

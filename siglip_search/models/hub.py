"""Fetching a known model from the hub into a model folder.

Only what is needed is fetched: two towers, the tokenizer, the preprocessor's JSON, and of the
checkpoint's weights the two scalars that no export of a single tower contains.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from siglip_search.errors import DownloadError, ModelError
from siglip_search.models.checkpoint_scalars import read_scale_and_bias
from siglip_search.models.download import bytes_missing, fetch_file
from siglip_search.models.external_data import check_external_files
from siglip_search.models.files import install_folder, refuse_taken_name
from siglip_search.models.folder_locks import PULLING_PREFIX, clear_leftovers, model_lock
from siglip_search.models.hub_errors import hub_errors
from siglip_search.models.hub_files import HubFile, look_up, range_reader
from siglip_search.models.model_folder import load_model_folder, sha256_of
from siglip_search.models.model_toml import model_toml
from siglip_search.models.onnx_fields import FieldReader
from siglip_search.models.onnx_scalars import read_onnx_scale_and_bias
from siglip_search.models.preprocessing_files import parse_preprocessing
from siglip_search.models.registry import OFFLINE_REMARK
from siglip_search.models.row_facts import TowerPlaces, check_preprocessing, facts_of
from siglip_search.models.spec import MODEL_FILE, VariantSpec

if TYPE_CHECKING:
    from siglip_search.models.registry_row import HubSource, RegistryRow, TowerFiles
    from siglip_search.models.spec import ModelSpec, Precision


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a download has come.

    Attributes:
        file: What is being fetched.
        done_bytes: Of all files together.
        total_bytes: Of all files together.
    """

    file: str
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[PullProgress], None]


def pull(
    row: RegistryRow,
    models_dir: Path,
    *,
    precision: Precision = "fp32",
    accept_licence: bool = False,
    replace_old: bool = False,
    check: Callable[[ModelSpec], None] | None = None,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[], None] | None = None,
) -> ModelSpec:
    """Fetch a known model and install it; a model that is half there is never visible.

    What arrived before a failure, or before the process was killed, is not fetched again. Two
    processes that want the same model do not disturb each other: the second waits, and finds it.

    Args:
        row: The model.
        models_dir: Folder with one folder per model; made if need be.
        precision: Of the weights. Another one than fp32 is a model of its own, called
            NAME-PRECISION.
        accept_licence: The user has seen and accepted the row's conditions.
        replace_old: Take the place of an installed model of the same name.
        check: Called with the complete folder before it becomes visible; raises ModelError to
            refuse it. What was fetched is deleted then: it is whole, and wrong.
        on_progress: Called often, on this thread.
        on_wait: Called when another process is fetching the same model.

    Raises:
        DownloadError: If the hub cannot be reached, refuses, or sends something else.
        ModelError: If the conditions were not accepted, nobody publishes such towers, the name is
            taken, the model was refused, or the files cannot be stored.
    """
    name = name_to_pull(row, models_dir, precision=precision, replace_old=replace_old)
    source, towers = _source_of(row, precision)
    refuse_without_consent(row, accepted=accept_licence)
    workshop = models_dir / f"{PULLING_PREFIX}{name}"
    with hub_errors(row):
        models_dir.mkdir(parents=True, exist_ok=True)
        with model_lock(models_dir, name, on_wait):
            if (models_dir / name).exists() and not replace_old:
                return load_model_folder(models_dir / name)
            clear_leftovers(models_dir)
            job = _Job(row, source, towers, precision, name, workshop, on_progress)
            job.fetch()
            job.discard_leftovers()
            if check is not None:
                job.try_out(check)
            spec = install_folder(job.folder, models_dir, name)
            shutil.rmtree(workshop, ignore_errors=True)
            return spec


def name_to_pull(
    row: RegistryRow, models_dir: Path, *, precision: Precision = "fp32", replace_old: bool = False
) -> str:
    """Return the name that `pull` would install a model under, if there is anything to fetch.

    Nothing is asked of the hub.

    Args:
        row: The model.
        models_dir: Folder with one folder per model; may not exist.
        precision: Of the weights.
        replace_old: An installed model of that name is not in the way.

    Raises:
        ModelError: If nobody publishes such towers, or the name is taken.
    """
    _source_of(row, precision)
    name = row.name if precision == "fp32" else f"{row.name}-{precision}"
    refuse_taken_name(name, models_dir, replace=replace_old)
    return name


def refuse_without_consent(row: RegistryRow, *, accepted: bool) -> None:
    """Raise if the row's conditions must be accepted and were not.

    Raises:
        ModelError: Which says what to do.
    """
    if row.licence_conditions is not None and not accepted:
        raise ModelError(
            f"the model {row.name!r} comes under {row.licence}, which needs --accept-licence: "
            f"{row.licence_conditions}",
            hint=f"Read the licence{_place(row)}, and add --accept-licence if you agree. "
            f"{OFFLINE_REMARK}",
        )


def _place(row: RegistryRow) -> str:
    return f" ({row.licence_url})" if row.licence_url else ""


def _source_of(row: RegistryRow, precision: Precision) -> tuple[HubSource, TowerFiles]:
    if row.hub is None:
        raise ModelError(
            f"the model {row.name!r} comes with the program: there is nothing to fetch",
            hint=f"Use it with `--model {row.name}`.",
        )
    if row.hub.onnx_repo is None or not row.hub.towers:
        raise ModelError(
            f"nobody publishes ONNX towers of {row.name!r}: there is nothing to fetch",
            hint=f"`siglip-search model export {row.name}` makes them from its checkpoint.",
        )
    if precision not in row.hub.towers:
        known = ", ".join(row.hub.towers)
        raise ModelError(
            f"the model {row.name!r} is not published in {precision}",
            hint=f"Published: {known}. `siglip-search model quantize --precision` makes fp16 and "
            "int8 from fp32.",
        )
    return row.hub, row.hub.towers[precision]


class _Job:
    """One model on its way: where its files come from and where they go."""

    def __init__(
        self,
        row: RegistryRow,
        source: HubSource,
        towers: TowerFiles,
        precision: Precision,
        name: str,
        workshop: Path,
        on_progress: OnProgress | None,
    ) -> None:
        self._row, self._source, self._towers = row, source, towers
        self._precision, self._name = precision, name
        self._workshop = workshop
        self._on_progress = on_progress or (lambda _: None)
        self.folder = workshop / "model"

    def fetch(self) -> None:
        """Fill `folder` with everything that the model consists of."""
        source = self._source
        assert source.onnx_repo is not None
        # The cheap questions first: without a network this fails at once, and whatever is not what
        # the row says is noticed before the towers are fetched.
        weights = look_up(source.checkpoint_repo, source.weights_file)
        scale_and_bias = _scale_and_bias(weights)
        preprocessor = look_up(source.checkpoint_repo, source.preprocessor_file)
        tokenizer = look_up(source.tokenizer_repo, source.tokenizer_file)
        places = TowerPlaces.of(source, self._towers)
        towers = self._tower_files(source.onnx_repo, places)
        said = self._workshop / "preprocessor.json"
        small = [(preprocessor, said), (tokenizer, self.folder / places.tokenizer)]
        self._check_room([*small, *towers])
        total = sum(file.size_bytes for file, _ in (*small, *towers))

        done = self._fetch_all(small, 0, total)
        preprocessing = parse_preprocessing(said.read_bytes(), where=preprocessor.label)
        check_preprocessing(preprocessing, self._row, where=preprocessor.label)
        self._check_tokenizer(self.folder / places.tokenizer)
        self._fetch_all(towers, done, total)
        vision, _ = towers[0]
        facts = facts_of(
            self._row,
            name=self._name,
            checkpoint=weights.identity,
            precision=self._precision,
            places=places,
            preprocessing=preprocessing,
            scale_and_bias=scale_and_bias,
        )
        if self._precision != "fp32":
            recipe = f"hub:{vision.repo}/{vision.name}@{vision.commit}"
            facts = replace(facts, variant=VariantSpec(of=self._row.name, recipe=recipe))
        (self.folder / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")

    def discard_leftovers(self) -> None:
        """Remove what an earlier pull put there for a row that named other files."""
        wanted = {self.folder / name for name in load_model_folder(self.folder).files}
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()

    def try_out(self, check: Callable[[ModelSpec], None]) -> None:
        """Let somebody use the model before it is installed; delete it all if it is refused."""
        spec = load_model_folder(self.folder)
        # A row that forgets a file is mended without fetching the others again.
        check_external_files(spec)
        try:
            check(spec)
        except ModelError as error:
            # The folder is about to go: only the file's name in it means anything to the user.
            reason = str(error).replace(f"{self.folder}{os.sep}", "")
            shutil.rmtree(self._workshop, ignore_errors=True)
            raise ModelError(
                f"the model {self._name!r} was fetched and does not work: {reason}",
                hint=f"{self._source.onnx_repo} holds other towers than its row says, or damaged "
                "ones: nothing was installed, and the next pull fetches it anew. Correct a row of "
                f"your own; else try later. {OFFLINE_REMARK}",
            ) from error

    def _tower_files(self, repo: str, places: TowerPlaces) -> list[tuple[HubFile, Path]]:
        """Return the towers and where they belong, the picture tower first."""
        towers = self._towers
        names = (towers.vision, *towers.vision_data, towers.text, *towers.text_data)
        targets = (places.vision, *places.vision_data, places.text, *places.text_data)
        return [
            (look_up(repo, name), self.folder / place)
            for name, place in zip(names, targets, strict=True)
        ]

    def _fetch_all(self, targets: list[tuple[HubFile, Path]], done: int, total: int) -> int:
        """Fetch files after `done` of `total` bytes; return how many are done then."""
        for file, target in targets:

            def report(there: int, file: HubFile = file, before: int = done) -> None:
                self._on_progress(PullProgress(file.name, before + there, total))

            fetch_file(file, target, self._partial(file), on_bytes=report)
            done += file.size_bytes
        return done

    def _partial(self, file: HubFile) -> Path:
        return self._workshop / "parts" / f"{file.repo}/{file.name}".replace("/", "--")

    def _check_room(self, targets: list[tuple[HubFile, Path]]) -> None:
        models_dir = self._workshop.parent
        needed = sum(bytes_missing(file, path, self._partial(file)) for file, path in targets)
        free = shutil.disk_usage(models_dir).free
        if needed > free:
            raise ModelError(
                f"the model {self._row.name!r} needs {needed / 1e6:,.1f} MB more, and "
                f"{models_dir} has room for {free / 1e6:,.1f} MB",
                hint="Make room and run it again: what has been fetched is kept.",
            )

    def _check_tokenizer(self, path: Path) -> None:
        source = self._source
        if source.tokenizer_sha256 not in (None, sha256_of(path)):
            raise DownloadError(
                f"{source.tokenizer_file} of {source.tokenizer_repo} is not the tokenizer that "
                f"{self._row.name} was trained with",
                hint=f"The repository has changed: upgrade siglip-search. {OFFLINE_REMARK}",
            )


def _scale_and_bias(weights: HubFile) -> tuple[float, float | None]:
    read_range = range_reader(weights)
    if PurePosixPath(weights.name).suffix == ".onnx":
        reader = FieldReader(read_range, weights.size_bytes)
        return read_onnx_scale_and_bias(reader, where=weights.label)
    return read_scale_and_bias(read_range, where=weights.label)

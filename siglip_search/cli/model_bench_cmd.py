"""`siglip-search model bench`: models side by side; may a variant stand for its original?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    chosen_library,
    count,
    duration,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.model_bench_table import (
    EMULATOR,
    NOT_MEASURED,
    as_objects,
    device_as_object,
    print_bench,
)
from siglip_search.cli.suggestions import installed_model_names
from siglip_search.engine.agreement import has_random_weights
from siglip_search.engine.bench_models import BenchListener, bench_models
from siglip_search.engine.chosen_model import all_installed, model_called
from siglip_search.engine.comparison import line_up
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.picture_sample import folder_pictures, library_pictures
from siglip_search.engine.precision import settle_agreement
from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.spec import MIN_MEAN_COSINE, MIN_PICTURES, MIN_RECALL_AT_10
from siglip_search.photos.decode import DecodeLimits
from siglip_search.render.bench_chart import BenchBar, check_chart, save_bench_chart
from siglip_search.towers.devices import EMULATOR_NOTICE, list_devices
from siglip_search.towers.qnn_runtime import runtime_versions
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from siglip_search.engine.agreement import Figures
    from siglip_search.engine.bench_models import BenchedModel
    from siglip_search.engine.bench_timing import BenchDevice, TimedTower, TowerName
    from siglip_search.engine.comparison import Lineup
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.devices import DeviceReport

DEFAULT_PICTURES = 512
BENCH_DEVICES = ("npu", "cpu", EMULATOR)

_LONG_SECONDS = 600.0
_EACH = {"picture": "picture", "text": "query"}


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data to a command that compares models."""
    return click.option(
        "--data", metavar="FOLDER", help="Compare on the pictures in FOLDER, not on the library's."
    )(command)


@click.command()
@click.argument("names", nargs=-1, required=True, shell_complete=installed_model_names)
@click.option(
    "--device",
    "asked",
    multiple=True,
    type=click.Choice(BENCH_DEVICES),
    help="Where the models run; may be given several times.  [default: every device that can be "
    "used, but not the emulator]",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    metavar="N",
    default=DEFAULT_PICTURES,
    show_default=True,
    help="Pictures to compare on, at most.",
)
@data_option
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw a chart as well, into FILE.png or FILE.svg. Needs matplotlib: "
    'pip install "siglip-search[plot]".',
)
@json_option
@library_option
def bench(
    names: tuple[str, ...],
    asked: tuple[BenchDevice, ...],
    pictures: int,
    data: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Measure the models NAMES: time, memory, size, and how variants agree with their originals.

    Both towers of each model are timed on each device, one after the other, each in a process of
    its own. A variant (another precision, made by `model quantize`, say) is compared with the model
    that it was made from on a sample of your own pictures, none of which it was quantised with; a
    model in full precision with its variants. A variant that agrees on 500 pictures or more shares
    the embedding space of its original from then on.

    The NPU's emulator computes what an NPU does, slowly: its time says nothing about an NPU's, is
    marked, and is in no chart. What was not measured is shown as such.

    \b
      siglip-search model bench siglip-base-patch16-384
      siglip-search model bench --data ~/Pictures demo-int8
      siglip-search model bench --device cpu --device npu --plot bench.png demo
    """
    chart = None if plot is None else absolute_path(plot)
    if chart is not None:
        check_chart(chart)
    reports = list_devices()
    devices = _chosen_devices(asked, reports)
    lineups = line_up([model_called(name) for name in names], all_installed())
    missing = [] if asked else [one for one in reports if not one.usable and one.name != EMULATOR]
    benched: list[list[BenchedModel]] = []
    for models in bench_lineups(lineups, devices=devices, data=data, pictures=pictures):
        if not as_json:
            if benched:
                print()
            print_bench(models, missing)
        benched.append(models)
        if _is_measured(models):
            settle(models)  # now, that whatever becomes of the next does not undo it
    _refuse_nothing(benched)
    if as_json:
        print_json(
            {
                "devices": [device_as_object(one, asked=one.name in devices) for one in reports],
                "runtime": runtime_versions(),
                "models": [each for models in benched for each in as_objects(models)],
            }
        )
    if chart is not None:
        save_bench_chart(_bars(benched), chart, title=_title(devices, reports))
        say(f"drawn: {shown(str(chart))}")


def bench_lineups(
    lineups: Sequence[Lineup], *, devices: Sequence[BenchDevice], data: str | None, pictures: int
) -> Iterator[list[BenchedModel]]:
    """Bench on the library's pictures, or on a folder's, with progress on a terminal.

    Yields:
        The models of each line-up, as soon as they were measured.
    """
    paths = folder_pictures(data) if data else library_pictures(chosen_library().directory)
    options = chosen_library().index_options()
    limits = DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds)
    for lineup in lineups:
        with ExitStack() as stack:
            models = bench_models(
                lineup,
                paths,
                devices=devices,
                pictures=pictures,
                cores=available_cores(),
                limits=limits,
                listener=_listener(stack),
            )
        yield models


def settle(models: Sequence[BenchedModel]) -> None:
    """Record what the figures decide about each variant, and say what follows from it."""
    reference = models[0].spec
    if reference.variant is not None:
        say(f"{reference.name}: nothing to compare with, {reference.variant.of} is not installed")
    for model in models[1:]:
        spec = model.spec
        if (deciding := model.deciding) is not None:
            settle_one(spec, deciding, reference.name)
        elif model.failure:
            say(f"{spec.name} was not compared: {model.failure}")
        elif not model.devices:
            say(f"{spec.name} was not compared: it runs on none of these devices")
        elif not model.figures:
            why = "there are no pictures"
            if model.compared:
                why = "it was quantised with all of these pictures, or none can be read"
            say(f"{spec.name} was not compared: {why}. {_how(model)}")
        elif model.may_overlap:
            say(
                f"{spec.name} does not say which pictures it was quantised with: "
                f"`siglip-search model quantize --precision w8a16 --replace {reference.name}` "
                "makes one that does"
            )
        elif set(model.figures) == {"cpu"} and spec.vision.precision == "w8a16":
            # Made for an NPU: what a processor makes of it is near, and not what will run.
            say(
                f"{spec.name} was simulated on the processor, which decides nothing: "
                f"`siglip-search model bench --device npu {spec.name}` (or npu-emulator) compares "
                "it as an NPU computes"
            )
        elif not has_random_weights(spec):
            say(f"{spec.name}: too few pictures to decide. {_how(model)}")


def settle_one(spec: ModelSpec, figures: Figures, reference: str) -> None:
    """Record what decisive figures say of a variant, and tell what became of it."""
    agreement = figures.agreement
    library = chosen_library().directory
    match settle_agreement(spec, agreement, library):
        case "joined":
            say(
                f"{spec.name} agrees with {reference}: they share one embedding space. "
                f"`siglip-search model use {spec.name}` puts it to use"
            )
        case "apart":
            say(
                f"{spec.name} does not agree with {reference} (mean cosine "
                f"{agreement.mean_cosine:.4f}, at least {MIN_MEAN_COSINE} is asked for; recall@10 "
                f"{agreement.recall_at_10:.3f}, at least {MIN_RECALL_AT_10}): it stays, as an "
                "embedding space of its own"
            )
        case "left":
            say(
                f"{spec.name} agrees with {reference}, but the library {shown(str(library))} holds "
                "its vectors as a space of its own already: that is left as it is"
            )


def _chosen_devices(
    asked: Sequence[BenchDevice], reports: Sequence[DeviceReport]
) -> list[BenchDevice]:
    """Return the devices that were asked for, or every one that can be used but the emulator.

    Raises:
        DeviceError: One that was asked for cannot be used.
    """
    for report in reports:
        if report.name in asked and not report.usable:
            raise DeviceError(
                f"--device {report.name} cannot be used: {report.reason}", hint=report.hint
            )
    if asked:
        return [report.name for report in reports if report.name in asked]
    return [report.name for report in reports if report.usable and report.name != EMULATOR]


def _refuse_nothing(benched: Sequence[Sequence[BenchedModel]]) -> None:
    if not any(_is_measured(models) for models in benched):
        rows = benched[0][0].rows
        raise ModelError(f"nothing was measured: {rows[0].reason}", hint=rows[0].hint)


def _is_measured(models: Sequence[BenchedModel]) -> bool:
    return any(row.timing is not None for model in models for row in model.rows)


def _listener(stack: ExitStack) -> BenchListener:
    """Return what shows the progress on a terminal; silent where nobody looks."""
    if not sys.stderr.isatty():
        return BenchListener()
    bars: list[Any] = []

    def on_row(model: str, tower: TowerName, device: BenchDevice) -> None:
        say(f"timing the {tower} tower of {model} on the {device}")

    def on_timed(model: str, row: TimedTower) -> None:
        # Said at once as well: what a driver that crashes while comparing takes along.
        if row.timing is not None:
            emulated = f", emulated: {EMULATOR_NOTICE}" if row.device == EMULATOR else ""
            say(f"{row.timing.median_ms:,.1f} ms a {_EACH[row.tower]}{emulated}")

    def on_comparison(seconds: float, number: int) -> None:
        if seconds > _LONG_SECONDS:
            say(f"comparing takes about {duration(seconds)}; --pictures N compares on fewer")
        bar = click.progressbar(length=number, label="comparing", file=sys.stderr)
        bars.append(stack.enter_context(bar))

    def on_progress(done: int) -> None:
        bars[0].update(done - bars[0].pos)

    return BenchListener(on_row, on_timed, on_comparison, on_progress)


def _bars(benched: Sequence[Sequence[BenchedModel]]) -> list[BenchBar]:
    """Return a bar for each model on each device."""
    return [
        _bar(models[0], model, device)
        for models in benched
        for model in models
        for device in dict.fromkeys(row.device for row in model.rows)
    ]


def _bar(reference: BenchedModel, model: BenchedModel, device: BenchDevice) -> BenchBar:
    timings = {row.tower: row.timing for row in model.rows if row.device == device}
    picture, text = timings["picture"], timings["text"]
    any_timing = picture or text
    emulated = device == EMULATOR
    note = "original" if model is reference and device == "cpu" else ""
    if (figures := model.figures.get(device)) is not None:
        agreement = figures.agreement
        note = f"cosine {agreement.mean_cosine:.4f}, recall@10 {agreement.recall_at_10:.3f}"
    return BenchBar(
        model=model.spec.name,
        device=device,
        precision=any_timing.precision if any_timing else model.spec.vision.precision,
        pictures_per_second=picture.pictures_per_second if picture else None,
        query_ms=text.median_ms if text and not emulated else None,
        note=note,
        absence="emulated: its time is not shown" if emulated and any_timing else NOT_MEASURED,
    )


def _title(devices: Sequence[BenchDevice], reports: Sequence[DeviceReport]) -> str:
    """Return what the models ran on, what is missing, and with which runtime."""
    there = [f"{one.name}: {one.chip}" for one in reports if one.name in devices and one.chip]
    there += [f"npu: {NOT_MEASURED}"] * ("npu" not in devices)
    versions = [f"{name} {version}" for name, version in runtime_versions().items() if version]
    return " · ".join([*there, count(available_cores(), "thread"), *versions[:1]])


def _how(model: BenchedModel) -> str:
    """Return which command decides."""
    device = ""
    if model.spec.vision.precision == "w8a16":  # what a processor makes of it decides nothing
        emulated = EMULATOR in model.devices and "npu" not in model.devices
        device = f"--device {EMULATOR if emulated else 'npu'} "
    return (
        f"It takes {MIN_PICTURES}: `siglip-search model bench {device}{model.spec.name}` with a "
        "library that has them, or with --data FOLDER"
    )

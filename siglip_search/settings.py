"""Settings: a TOML file below the environment, one frozen value out."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import platformdirs

from siglip_search.errors import SettingsError
from siglip_search.towers.session import DEVICES
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from siglip_search.ingest.pace import OnBattery
    from siglip_search.towers.session import Device

_APP = "siglip-search"

# As `ingest.pace` has them, which a question need not load.
_ON_BATTERY: tuple[OnBattery, ...] = ("pause", "slow", "run")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can set once instead of typing it each time.

    Attributes:
        library: Folder of the library.
        model: Name of the model for new libraries, None to ask.
        device: Where towers run: "auto", "npu", "cpu" or "npu-emulator".
        jobs: Pictures worked on at the same time, >= 1; None for one a core.
        max_pixels: Largest picture that is opened, in pixels, > 0.
        max_seconds: Longest time for decoding one picture, > 0.
        exclude: Patterns of files and folders to leave out, as in .gitignore.
        hidden: Take hidden files and folders as well.
        download_cloud: Read also what only the cloud has, which downloads it.
        on_battery: What `index` does while the machine runs on its battery: "pause", "slow" or
            "run".
    """

    library: Path
    model: str | None = None
    device: Device = "auto"
    jobs: int | None = None
    max_pixels: int = 250_000_000
    max_seconds: float = 60.0
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    download_cloud: bool = False
    on_battery: OnBattery = "slow"


def data_directory() -> Path:
    """Return the folder that holds the library and the models unless told otherwise."""
    return _of_user(platformdirs.user_data_path)


def models_directory() -> Path:
    """Return the folder of the models that were added or downloaded."""
    return data_directory() / "models"


def settings_file() -> Path:
    """Return the path of the user's settings, which need not exist."""
    return _of_user(platformdirs.user_config_path) / "config.toml"


def log_file(library: Path) -> Path:
    """Return where the daemon of a library writes its log; older parts end in .1 to .4."""
    return library / "logs" / "watch.log"


def _of_user(place: Callable[..., Path]) -> Path:
    try:
        return place(_APP, appauthor=False)
    except RuntimeError as error:  # a process without HOME whose user the system does not know
        raise SettingsError(
            "the home directory is not known",
            hint="Set HOME, or XDG_DATA_HOME and XDG_CONFIG_HOME.",
        ) from error


def own_models_file() -> Path:
    """Return the path of the user's own rows of the registry, which need not exist."""
    return settings_file().with_name("models.toml")


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings file overlaid with the environment.

    SIGLIP_SEARCH_LIBRARY and SIGLIP_SEARCH_MODEL win over the file.

    Raises:
        SettingsError: The file is no TOML, or a key or value in it has no meaning.
    """
    environment = os.environ if environment is None else environment
    settings = _from_file(Settings(library=data_directory() / "library"), settings_file())
    if library := environment.get("SIGLIP_SEARCH_LIBRARY"):
        settings = replace(settings, library=absolute_path(library))
    if model := environment.get("SIGLIP_SEARCH_MODEL"):
        settings = replace(settings, model=model)
    return settings


def _from_file(defaults: Settings, path: Path) -> Settings:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return defaults
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(
            f"cannot read the settings file {path}: {error}",
            hint="Correct it, or delete it to go back to the defaults.",
        ) from error
    known = {field.name for field in fields(Settings)}
    for key, value in table.items():
        if key not in known:
            raise SettingsError(
                f"{path}: there is no setting called {key!r}",
                hint=f"The settings are {', '.join(sorted(known))}.",
            )
        defaults = replace(defaults, **{key: _checked(path, key, value)})
    return defaults


def _checked(path: Path, key: str, value: object) -> Any:
    match key, value:
        case "library", str() if value:
            return absolute_path(value)
        case "model", str():
            return value
        case "device", str() if value in DEVICES:
            return value
        case "on_battery", str() if value in _ON_BATTERY:
            return value
        case (("jobs" | "max_pixels"), int()) if value > 0 and not isinstance(value, bool):
            return value
        case (("hidden" | "download_cloud"), bool()):
            return value
        case "max_seconds", int() | float() if 0 < value <= 86_400 and not isinstance(value, bool):
            return float(value)
        case "exclude", list() if all(isinstance(pattern, str) for pattern in value):
            return tuple(value)
    expected = {
        "library": "a folder in quotes",
        "model": "a name in quotes",
        "device": f"one of {', '.join(DEVICES)}",
        "jobs": "a whole number above 0",
        "max_pixels": "a whole number above 0",
        "max_seconds": "a number above 0, at most 86400",
        "hidden": "true or false",
        "download_cloud": "true or false",
        "exclude": "a list of patterns in quotes",
        "on_battery": f"one of {', '.join(_ON_BATTERY)}",
    }[key]
    raise SettingsError(
        f"{path}: {key} = {value!r} is not {expected}",
        hint=f"Write for example: {key} = {_EXAMPLES[key]}",
    )


_EXAMPLES = {
    "library": '"~/pictures-library"',
    "model": '"demo"',
    "device": '"cpu"',
    "jobs": "2",
    "max_pixels": "250000000",
    "max_seconds": "60",
    "hidden": "true",
    "download_cloud": "true",
    "exclude": '["*.tmp", "Thumbnails/"]',
    "on_battery": '"pause"',
}

"""Every expected failure of the product, each with a hint.

Libraries raise these; only the command line prints them and turns them into exit codes.
"""


class SiglipSearchError(Exception):
    """Base of every failure that a user can do something about.

    Attributes:
        hint: What the user can do about it, as one sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnreadablePictureError(SiglipSearchError):
    """A file cannot be read as a picture; str() is the reason that is recorded with it."""


class NotAPictureError(UnreadablePictureError):
    """The file's content is of no picture format at all."""


class PathError(SiglipSearchError):
    """A path given by the user does not exist or cannot be used."""


class ModelError(SiglipSearchError):
    """A model folder is incomplete, inconsistent or cannot be loaded."""


class UnknownModelError(ModelError):
    """No model of this name is known."""


class NoModelError(ModelError):
    """No model was chosen and none is the library's own."""


class DownloadError(ModelError):
    """A model could not be fetched."""


class DeviceError(SiglipSearchError):
    """A device cannot be used, or failed while it was."""


class QueryError(SiglipSearchError):
    """The query itself cannot be answered: it is empty, say."""


class WorkerError(SiglipSearchError):
    """The decoding processes cannot be started or keep dying before any work."""


class SettingsError(SiglipSearchError):
    """The settings file, or a setting in it, has no meaning."""


class DaemonRunningError(SiglipSearchError):
    """A daemon looks after this library already."""


class ServiceError(SiglipSearchError):
    """The system's service manager is not there, or refused what was asked of it."""

"""Which regular files a scan takes for pictures: by name, by first bytes, by where they are."""

from __future__ import annotations

import stat
from enum import Enum
from typing import TYPE_CHECKING

from siglip_search.errors import NotAPictureError
from siglip_search.photos.cloud_placeholder import is_online_only
from siglip_search.photos.fingerprint import TryAgainError, open_regular
from siglip_search.photos.formats import PICTURE_EXTENSIONS, SIGNATURE_BYTES, sniff_format
from siglip_search.photos.optional_formats import extensions_by_extra, is_extra_installed

if TYPE_CHECKING:
    import os

RESOURCE_FORK_PREFIX = b"._"
"""macOS lays "._name" beside files on foreign disks: resources, never the picture."""


_JXL = b"jxl"


class Judgement(Enum):
    """What a file is to a scan; the value says it to a person."""

    PICTURE = "a picture"
    ONLINE_ONLY = "only the cloud has it"
    MISSING_EXTRA = "an extra has to be installed to read it"
    NOT_REGULAR = "not a regular file"
    RESOURCE_FORK = "a resource fork of macOS, never a picture"
    OTHER_NAME = "its name is not that of a picture"
    OTHER_CONTENT = "its name has no extension and its first bytes are not those of a picture"


class FileRules:
    """What is taken for a picture with the extras that are installed now.

    Args:
        download_cloud: Take files as well that only the cloud has.
    """

    def __init__(self, *, download_cloud: bool) -> None:
        self.download_cloud = download_cloud
        self._taken = PICTURE_EXTENSIONS
        self._missing: dict[bytes, str] = {}
        for extra, extensions in extensions_by_extra().items():
            if is_extra_installed(extra):
                self._taken |= extensions
            else:
                self._taken -= extensions
                self._missing |= dict.fromkeys(extensions, extra)

    def by_name(self, name: bytes) -> bool | None:
        """Tell whether a file's name says that it is a picture that can be read here.

        Returns:
            None when the name has no extension at all, so that only the content can tell.
        """
        _, dot, extension = name.rpartition(b".")
        if not dot:
            return None
        return extension.lower() in self._taken

    def missing_extra(self, name: bytes) -> str | None:
        """Return the extra without which a file cannot be read, by its name.

        Of names without extension only JPEG XL is ever recognised and not read.
        """
        if not self._missing:
            return None
        _, dot, extension = name.rpartition(b".")
        return self._missing.get(extension.lower() if dot else _JXL)

    def names_missing_extra(self, name: bytes) -> bool:
        """Tell whether a file's name says that it is a picture which waits for an extra."""
        return (
            bool(self._missing)
            and b"." in name
            and not name.startswith(RESOURCE_FORK_PREFIX)
            and self.missing_extra(name) is not None
        )

    def judge(self, path: bytes, name: bytes, status: os.stat_result) -> Judgement:
        """Judge a file that the rules for paths let in; opened only when nothing else can tell.

        Args:
            path: Absolute.
            name: Its last part.
            status: What os.stat says of it.
        """
        return self.judge_named(path, name, status, self.by_name(name))

    def judge_named(
        self, path: bytes, name: bytes, status: os.stat_result, by_name: bool | None
    ) -> Judgement:
        """Do the same as `judge` for a name of which the answer of `by_name` is known."""
        if not stat.S_ISREG(status.st_mode):
            return Judgement.NOT_REGULAR
        if name[:2] == RESOURCE_FORK_PREFIX:
            return Judgement.RESOURCE_FORK
        if by_name is False:
            waits = self.names_missing_extra(name)
            return Judgement.MISSING_EXTRA if waits else Judgement.OTHER_NAME
        if not self.download_cloud and is_online_only(path, status):
            return Judgement.ONLINE_ONLY
        return Judgement.PICTURE if by_name else self._by_content(path)

    def _by_content(self, path: bytes) -> Judgement:
        try:
            with open_regular(path, download_cloud=self.download_cloud) as file:
                found = sniff_format(file.read(SIGNATURE_BYTES))
        except (OSError, NotAPictureError, TryAgainError):
            return Judgement.OTHER_CONTENT
        if found is None:
            return Judgement.OTHER_CONTENT
        return (
            Judgement.MISSING_EXTRA
            if found.lower().encode() in self._missing
            else Judgement.PICTURE
        )

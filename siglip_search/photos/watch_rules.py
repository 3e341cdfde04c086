"""Which events concern pictures at all: a coarse sieve in front of the scan, which decides."""

from __future__ import annotations

import os
from functools import lru_cache

from siglip_index.locations import comparable, relative_to
from siglip_search.photos.cloud_placeholder import is_stub
from siglip_search.photos.file_rules import FileRules
from siglip_search.photos.hidden_files import is_hidden
from siglip_search.photos.ignore_files import IGNORE_FILE_NAME
from siglip_search.photos.path_rules import PathRules
from siglip_search.photos.stacks import may_accompany

# Of the folders above the files of a burst few are different ones.
_REMEMBERED_FOLDERS = 4_096


class WatchRules:
    """What below a folder is worth following.

    Left out are hidden files and folders, those of the default list, files whose names are never
    a picture's nor a companion's, and the program's own. So a database, a download that has not
    got its name yet and what the program writes itself cause no look. What a rule of the user
    takes back in of the default list is seen by the next full scan only.

    Args:
        folder: Absolute, with no link in it.
        hidden: Take hidden files and folders as well.
        apart: Absolute folders in which nothing is ever followed.
    """

    def __init__(self, folder: bytes, *, hidden: bool, apart: tuple[bytes, ...] = ()) -> None:
        self._folder = folder
        self._hidden = hidden
        self._apart = frozenset(map(comparable, apart))
        self._paths = PathRules(folder, ())
        self._files = FileRules(download_cloud=False)
        self.takes_folder = lru_cache(_REMEMBERED_FOLDERS)(self._takes_folder)

    def takes_file(self, path: bytes) -> bool:
        """Tell whether a file may be a picture, a companion or an ignore file.

        Args:
            path: Absolute, at or below the folder.
        """
        folder, name = os.path.split(path)
        if name != IGNORE_FILE_NAME and not self._may_matter(name):
            return False
        return path == self._folder or self.takes_folder(folder)

    def _may_matter(self, name: bytes) -> bool:
        if is_stub(name):
            return True
        if not self._hidden and is_hidden(name, None):
            return False
        return (
            self._files.by_name(name) is not False
            or may_accompany(name)
            or self._files.names_missing_extra(name)
        )

    def _takes_folder(self, path: bytes) -> bool:
        """Tell whether a folder, all those above it considered, may hold pictures."""
        if comparable(path) in self._apart:
            return False
        relative = relative_to(path, self._folder)
        if not relative:
            return relative is not None
        if not self._hidden and is_hidden(os.path.basename(relative), None):
            return False
        if self._paths.leaves_out(relative, True, ()):
            return False
        return self.takes_folder(os.path.dirname(path))

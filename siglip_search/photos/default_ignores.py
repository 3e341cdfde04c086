"""Folders that hold no photographs, each with its reason: data, written as in .gitignore."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DefaultIgnore:
    """One line of the list.

    Attributes:
        pattern: As in .gitignore, without regard to case. It is compared with the path from the
            root's own name on, so that a root that is itself a library is known for one. Those
            that do not end with "/" mean files, whose names begin with a dot.
        reason: What lies there, in a few words for a person.
    """

    pattern: str
    reason: str


def _all(reason: str, *patterns: str) -> tuple[DefaultIgnore, ...]:
    return tuple(DefaultIgnore(pattern, reason) for pattern in patterns)


DEFAULT_IGNORES: tuple[DefaultIgnore, ...] = (
    # What was deleted.
    *_all("the bin of macOS", ".Trash/", ".Trashes/"),
    *_all("the bin of Linux desktops", ".Trash-*/"),
    *_all("the bin of Windows", "$RECYCLE.BIN/", "RECYCLER/", "RECYCLED/"),
    *_all("the bin of a NAS", "\\#recycle/", "@Recycle/", "trashbox/", "Network Trash Folder/"),
    *_all("deleted pictures of a telephone", ".trashed-*", ".globalTrash/"),
    *_all("the bin of digiKam", ".dtrash/"),
    # What systems keep for themselves.
    *_all(
        "a system folder of macOS",
        *(".DocumentRevisions-V100/", ".Spotlight-V100/", ".fseventsd/", ".TemporaryItems/"),
        *(".AppleDouble/", ".AppleDB/", ".AppleDesktop/", "Temporary Items/"),
    ),
    *_all("resource forks that macOS added to an archive", "__MACOSX/"),
    *_all("a system folder of Windows", "System Volume Information/"),
    *_all("pieces that a repair of the file system found", "lost+found/"),
    *_all("a cache, which its program makes anew", ".cache/", ".dropbox.cache/"),
    *_all("a temporary folder of a NAS", "@tmp/", ".@upload_cache/"),
    # Small copies of pictures that lie elsewhere.
    *_all("thumbnails of a Synology NAS", "@eaDir/"),
    *_all("thumbnails of a QNAP NAS", ".@__thumb/"),
    *_all("thumbnails", ".thumbnails/", ".xvpics/"),
    *_all("previews of Nextcloud", "**/appdata_*/preview/"),
    *_all("previews of Lightroom", "*.lrdata/", "*.lrcat-data/"),
    *_all("previews of Capture One", "**/CaptureOne/Cache/"),
    *_all("pictures that others showed in WhatsApp for a day", ".Statuses/"),
    # The same pictures as they were some time ago.
    *_all(
        "snapshots, which hold the same pictures as they were",
        *("\\#snapshot/", "~snapshot/", "@Recently-Snapshot/"),
        *(".snapshot/", ".snapshots/", ".zfs/"),
    ),
    *_all("backups of Time Machine, which hold the same pictures", "Backups.backupdb/"),
    *_all("former versions that Syncthing keeps", ".stversions/"),
    # Programs.
    *_all("a program's packages", "node_modules/"),
    *_all("the history of a source tree", ".git/", ".hg/", ".svn/"),
    # Libraries of programs: their originals, and nothing else.
    *_all("the inside of an Apple Photos library, its originals aside", "**/*.photoslibrary/*/"),
    *_all("the originals of an Apple Photos library", "!**/*.photoslibrary/originals/"),
    *_all("the originals of an older Apple Photos library", "!**/*.photoslibrary/Masters/"),
    *_all("the inside of an Aperture library, its originals aside", "**/*.aplibrary/*/"),
    *_all("the originals of an Aperture library", "!**/*.aplibrary/Masters/"),
    *_all(
        "the inside of an iPhoto library, its originals aside",
        *("**/*.photolibrary/*/", "**/*.migratedphotolibrary/*/"),
    ),
    *_all(
        "the originals of an iPhoto library",
        *("!**/*.photolibrary/Masters/", "!**/*.photolibrary/Originals/"),
        *("!**/*.migratedphotolibrary/Masters/", "!**/*.migratedphotolibrary/Originals/"),
    ),
    *_all("the inside of a Lightroom library, its originals aside", "**/*.lrlibrary/*/*/"),
    *_all("the originals of a Lightroom library", "!**/*.lrlibrary/*/originals/"),
    *_all("the inside of a Capture One catalogue, its originals aside", "**/*.cocatalog/*/"),
    *_all("the originals of a Capture One catalogue", "!**/*.cocatalog/Originals/"),
)
"""What no scan looks into; "!pattern" in a .siglipignore or --exclude takes an entry back."""

"""Files that only our own user can read: they contain names, dates of birth and NI numbers."""

import os
import stat
from pathlib import Path

from tis_sync.errors import UsageError

OTHERS = stat.S_IRWXG | stat.S_IRWXO  # every right of the group and of everybody else
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
PRIVATE_FOLDER = stat.S_IRWXU
ROOT = 0  # the user id of root, who can read and write everything anyway


def keep_new_files_private() -> None:
    """Create files of this process with mode 0600 and folders with 0700, whatever the umask was.

    A default access control list of a folder goes before the umask. So a site can still let another
    user collect the files for ESR.
    """
    os.umask(OTHERS)


def protect_home(home: Path) -> None:
    """Take everybody else's rights to the home folder and to everything in it, if it exists.

    Earlier versions left it readable.

    Args:
        home: the folder.

    Raises:
        UsageError: others can write to it, so that its files may not be ours.

    """
    try:
        found = home.stat()
    except FileNotFoundError:
        return  # it will be private when it is created
    except OSError as error:
        raise UsageError(_unusable(home, error)) from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"TIS_SYNC_HOME={str(home)!r} is not a folder.")
    if found.st_uid not in {os.geteuid(), ROOT}:
        raise UsageError(
            f"The home folder {home} belongs to another user (id {found.st_uid}), who could change "
            f"what is in it. Run tis-sync as that user, or set TIS_SYNC_HOME to another folder."
        )
    if found.st_mode & OTHERS_WRITE:
        raise UsageError(
            f"Other users can write to the home folder {home} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}). Check that everything in it is yours, then take "
            f"their rights: `chmod -R go-rwx {home}`. If the folder has to be shared, set "
            "TIS_SYNC_HOME to a new folder in it."
        )
    if not found.st_mode & OTHERS or found.st_uid != os.geteuid():
        return
    try:
        # The folder comes last: if this is interrupted, the next start does it again.
        for folder, folders, files in os.walk(home):
            for name in (*folders, *files):
                protect_file(Path(folder) / name)
        home.chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise UsageError(_unusable(home, error)) from None


def protect_file(path: Path) -> None:
    """Take everybody else's rights to a file or folder of ours; a link is left alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if found.st_mode & OTHERS and found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode):
        path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)


def _unusable(home: Path, error: OSError) -> str:
    return f"The home folder {home} cannot be used: {error.strerror}; check TIS_SYNC_HOME."

"""Which file a database is in, that it is private to its owner, and how files are made beside it."""

import contextlib
import errno
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from strands.types.exceptions import SessionException

DB_PATH_VARIABLE = "STRANDS_SQLITE_DB_PATH"
DEFAULT_DB_PATH = "sessions.db"
IN_MEMORY = ":memory:"

# Bytes: what file systems allow, and what SQLite does on Unix (`MAX_PATHNAME` in its os_unix.c).
LONGEST_NAME, LONGEST_PATH = 255, 512


def is_cluster(path: str) -> bool:
    """Tell whether a path is the URL of an rqlite cluster."""
    return path.startswith(("rqlite://", "rqlites://"))


def chosen_path(db_path: str | os.PathLike[str] | None) -> str:
    """Return the path to use: the one given, else that of the environment, else the default. "~" is the user's home.

    The URL of a cluster stays as it is.

    Raises:
        ValueError: If it cannot be a path.
    """
    path = db_path if db_path is not None else os.environ.get(DB_PATH_VARIABLE) or DEFAULT_DB_PATH
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ValueError(f"db_path={path!r}: a path is a non-empty string or os.PathLike, without NUL")
    url = path.strip()
    if is_cluster(url):
        return url
    # Anything else that looks like a URL would become the name of a file. What may be a password is left out.
    scheme = (re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url) or ("", ""))[1]
    if scheme.lower() in ("rqlite", "rqlites"):
        raise ValueError(f"db_path: the URL of a cluster is a string that begins with {scheme.lower()}://, not a Path")
    if scheme and url.startswith(f"{scheme}://"):
        raise ValueError(f"db_path: a URL with {scheme}:// is no database; that of a cluster begins with rqlite://")
    if path.startswith(("file:", "sqlite:")):
        raise ValueError(f"db_path={path!r}: must be a path, not a URL")
    return os.path.expanduser(path)  # noqa: PTH111 (`Path.expanduser` raises for an unknown user)


def private_file(path: str, *, create: bool = True) -> tuple[str, tuple[int, int]]:
    """Find a file, or make it, for this user only. No other thread may do so at the same time.

    Args:
        path: Where it is.
        create: Whether to make it.

    Returns:
        Its path with symbolic links resolved, and its id in the file system.

    Raises:
        SessionException: If it is no file or cannot be reached, or the path is another user's symbolic link.
    """
    # `Path.resolve` takes three times as long, and this runs for each manager.
    file = os.path.realpath(path)
    _check_name(path, file)
    try:
        try:
            link = os.lstat(path)
            if stat.S_ISLNK(link.st_mode) and hasattr(os, "geteuid") and link.st_uid != os.geteuid():
                raise SessionException(f"{path}: a symbolic link of another user, which may lead anywhere; refused")
            status = os.stat(file)  # noqa: PTH116 (the same)
        except FileNotFoundError:
            if not create:
                raise SessionException(f"{path}: no such file") from None
            status = _make_private_file(Path(file))
        if not stat.S_ISREG(status.st_mode):
            raise SessionException(f"{path}: not a file")
        if status.st_nlink > 1:
            warnings.warn(
                f"{file}: has {status.st_nlink} names (hard links), each with a write-ahead log of its own, so writers "
                "that use different ones lose each other's rows; remove the other names",
                RuntimeWarning,
                stacklevel=2,
            )
    except OSError as error:
        raise SessionException(f"{path}: cannot be opened: {error}") from error
    return file, (status.st_dev, status.st_ino)


def _check_name(path: str, file: str) -> None:
    """Make sure that a path, and what it resolves to, can be that of a database, before anything is made."""
    name = os.path.basename(path)  # noqa: PTH119 (`Path` drops the slash at an end)
    if name in ("", ".", ".."):
        raise SessionException(f"{path}: names a directory; add the name of a file")
    # SQLite adds "-journal" to the name.
    if len(os.fsencode(name)) + 8 > LONGEST_NAME:
        raise SessionException(f"{path}: too long a name; it may have {LONGEST_NAME - 8} bytes at the most")
    if os.name == "posix" and len(os.fsencode(file)) + 8 > LONGEST_PATH:
        raise SessionException(f"{path}: too long a path; SQLite takes {LONGEST_PATH - 8} bytes at the most")


def _make_private_file(path: Path) -> os.stat_result:
    make_private_directory(path.parent)
    # A descriptor of a database must not be closed behind SQLite's back, because that drops its locks
    # (https://sqlite.org/howtocorrupt.html). This file is new: there is no connection to it yet.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        path.chmod(0o600)  # The umask may have taken bits away. SQLite gives `-wal` and `-shm` the same.
    return path.stat()


def make_private_directory(path: Path) -> None:
    """Make a directory, and those above it, for this user only, unless they exist; all of them or none."""
    made: list[Path] = []
    try:
        for directory in (*reversed(path.parents), path):
            if not directory.is_dir():
                with contextlib.suppress(FileExistsError):  # Another process was first.
                    directory.mkdir(mode=0o700)
                    made.append(directory)
                    directory.chmod(0o700)  # The umask may have taken bits away.
        if not path.is_dir():
            raise FileExistsError(errno.EEXIST, "not a directory", str(path))
    except OSError:
        for directory in reversed(made):
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


@contextlib.contextmanager
def new_file(path: Path, refuse_existing: Callable[[Path], None]) -> Iterator[Path]:
    """Make a private file that is complete at its path, and on disk, or absent.

    Args:
        path: Where it is to be.
        refuse_existing: Raises if something is there already. Asked before and after the file is filled.

    Yields:
        The path of an empty file beside it, to fill and close. If the process is killed, it is left over.

    Raises:
        SessionException: If the file cannot be made.
    """
    refuse_existing(path)
    with _write_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent)
        os.close(descriptor)
        Path(name).chmod(0o600)  # The umask may have taken bits away.
    partial = Path(name)
    try:
        yield partial
        with _write_errors(path):
            _sync(partial, os.O_RDWR)
            # Not a hard link, which would find out what exists in the same step: not all file systems have them.
            refuse_existing(path)
            partial.rename(path)
    except BaseException:
        for suffix in ("", "-wal", "-shm"):  # SQLite may have filled it.
            with contextlib.suppress(OSError):
                Path(f"{partial}{suffix}").unlink()
        raise
    # The directory's entry; some systems cannot do this.
    with contextlib.suppress(OSError):
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SessionException(f"{path}: cannot be written: {error.strerror}") from error

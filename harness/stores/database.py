"""Driver. One SQLite file: opened, brought to today's tables, and its errors said in our words.

WAL with ``synchronous=FULL``: a commit that returned survives a power cut. WAL needs shared memory, so all processes
that use a store run on one host, and its folder is on a local disk.

Source:
    SQLite, "Write-Ahead Logging" and "PRAGMA synchronous"; SQLAlchemy, "SQLite: Serializable isolation / Savepoints /
    Transactional DDL" for the explicit BEGIN.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from harness.deadline import Deadline
from harness.errors import DiskFull, HarnessError, InputError, StoreError, UnusableStore
from harness.stores import schema

#: How long a writer waits for another process's writer. A transaction takes milliseconds; this allows for a slow disk.
BUSY_S = 60.0

#: An I/O error with less room than this on the disk is a full disk: SQLite says so for its shared-memory file.
FULL_BELOW_BYTES = 1024**2

#: What to do about a store that is not as it was.
RESTORE = "Restore it from a backup, or name another folder with --store."

#: Execution option of a connection that will write: its transaction takes the write lock at once, because a read lock
#: that another writer has overtaken can never become a write lock.
WRITES = "hts_writes"


def open_database(path: Path, *, must_exist: bool, busy_s: float = BUSY_S) -> sa.Engine:
    """Open a store's database, creating and migrating it as needed.

    Args:
        path: The file. Its folder exists.
        must_exist: There is evidence beside it, so that an empty or missing database is a loss and not a beginning.
        busy_s: How long a writer waits for a writer of another process.

    Raises:
        UnusableStore: Not a database, damaged, of a newer version, or lost.
        StoreError: Locked for ``busy_s``.
        InputError: The file cannot be written.
        DiskFull: There is no room for it.
    """
    if must_exist and not path.exists():
        raise _lost(path)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), pool_size=4, max_overflow=-1)

    def set_up(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
        connection.isolation_level = None  # the driver begins nothing by itself; _begin does
        connection.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    sa.event.listen(engine, "connect", set_up)
    sa.event.listen(engine, "begin", _begin)
    try:
        with said_plainly(path, opening=True):
            _bring_up(engine, path, must_exist=must_exist)
            keep_a_log(engine, Deadline.after(busy_s))
    except BaseException:
        engine.dispose()
        raise
    return engine


def keep_a_log(engine: sa.Engine, deadline: Deadline) -> None:
    """Switch the file to write-ahead logging, for good. Only now: a file that is not ours stays as it was."""
    connection = engine.raw_connection()  # the switch is refused inside a transaction
    try:
        # SQLite does not always wait by itself here: of 960 openings of a new store by six processes at once, 3 were
        # told at once that it is busy.
        for _ in deadline.poll(0.02):
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if _code(error) != "BUSY" or deadline.expired:
                    raise
            else:
                return
    finally:
        connection.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bring_up(engine: sa.Engine, path: Path, *, must_exist: bool) -> None:
    with engine.begin() as connection:
        if _revision(connection) == schema.REVISION:
            return
    # Asked again under the write lock: another process may have migrated it meanwhile.
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        revision = _revision(connection)
        if revision == schema.REVISION:
            return
        from harness.stores import migrate  # noqa: PLC0415 - Alembic takes a quarter of a second to import

        if revision is not None and revision not in migrate.known_revisions():
            raise UnusableStore(
                f"The store '{path.parent}' was written by a newer version of hts-compat (tables '{revision}').",
                hint="Update hts-compat, or name another folder with --store.",
            )
        if revision is None and sa.inspect(connection).get_table_names():
            raise UnusableStore(
                f"'{path}' is a database, but not one of hts-compat.", hint="Name another folder with --store."
            )
        if revision is None and must_exist:
            raise _lost(path)
        migrate.upgrade(connection)


def _lost(path: Path) -> UnusableStore:
    return UnusableStore(
        f"The store '{path.parent}' has evidence, but its database is empty or gone.",
        hint=f"Restore '{path.name}' from a backup, or name another folder with --store.",
    )


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(schema.alembic_version.name):
        return None
    return connection.execute(sa.select(schema.alembic_version.c.version_num)).scalar_one_or_none()


@contextmanager
def said_plainly(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Turn whatever SQLite raises inside into an error of ours.

    Args:
        path: The database.
        opening: A file that cannot be written is the user's trouble; in the middle of a run it is the lab's.
    """
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise _plain(error.orig, path, opening=opening) from error
        raise
    except sqlite3.Error as error:
        raise _plain(error, path, opening=opening) from error


def _code(error: sqlite3.Error) -> str:
    """Give SQLite's primary result code, such as FULL or IOERR; empty when the error has none."""
    _, _, name = getattr(error, "sqlite_errorname", "").partition("_")
    return str(name.partition("_")[0])


def _plain(error: sqlite3.Error, path: Path, *, opening: bool) -> HarnessError:
    code, detail = _code(error), str(error)
    if code == "FULL" or (code == "IOERR" and shutil.disk_usage(path.parent).free < FULL_BELOW_BYTES):
        return disk_full(path.parent, detail)
    match code:
        case "NOTADB" | "CORRUPT":
            return UnusableStore(
                f"The store's database '{path}' is damaged or no database.", detail=detail, hint=RESTORE
            )
        case "READONLY" | "CANTOPEN" | "PERM" | "AUTH":
            return not_writable(path.parent, detail, opening=opening)
        case "BUSY" | "LOCKED":
            return StoreError(
                f"The store '{path.parent}' is locked by another process.",
                detail=detail,
                hint="Wait for the other run, or end the program that has the database open.",
            )
        case "ERROR":  # a table or a column that we made is not there
            return UnusableStore(f"The tables in '{path}' are not as they were made.", detail=detail, hint=RESTORE)
        case _:
            return StoreError(f"The store's database '{path}' cannot be used: {detail}.", hint=RESTORE)


@contextmanager
def read_as_written(path: Path) -> Iterator[None]:
    """Say plainly that a record is not what was once written.

    Raises:
        UnusableStore: Reading a record failed inside.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableStore(
            f"The store's database '{path}' has a record that cannot be read.",
            detail=f"{type(error).__name__}: {error}",
            hint=RESTORE,
        ) from error


def disk_full(folder: Path, detail: str) -> DiskFull:
    """Make the error for a disk without room."""
    return DiskFull(
        f"The disk that holds the store '{folder}' is full.",
        detail=detail,
        hint="Make room and go on with --resume; what was saved before is kept.",
    )


def not_writable(folder: Path, detail: str, *, opening: bool) -> HarnessError:
    """Make the error for a folder that cannot be written: the user's trouble at the start, the lab's later."""
    kind = InputError if opening else StoreError
    return kind(
        f"The store's folder '{folder}' cannot be written.", detail=detail, hint="Name another folder with --store."
    )

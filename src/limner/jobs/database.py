"""One database, SQLite or PostgreSQL, behind SQLAlchemy.

SQLite is opened in WAL mode and every transaction that writes begins with BEGIN IMMEDIATE, so that two processes never
deadlock halfway. What the driver raises becomes `DatabaseError`, once, here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, CursorResult, Executable, ScalarResult, create_engine, event, inspect, make_url, text
from sqlalchemy import engine as sync
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from limner.errors import ConfigError, DatabaseError, InvalidRequest
from limner.ports import Connection

BUSY_TIMEOUT_MS = 10_000
UPGRADE_PATIENCE_MS = 600_000
"""How long a process waits on SQLite while another brings the schema up to date: with many pictures that takes long."""
STREAMED = 1000
"""Rows that are read in one go where there may be very many."""
IDLE_TIMEOUT_MS = 10_000
"""How long PostgreSQL waits for a process in the middle of a transaction, for whose locks others wait: it may be
suspended, or its machine gone."""
NETWORK: dict[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""How soon a connection to a machine that is gone counts as broken; by default it takes a quarter of an hour or two."""
MIGRATIONS = Path(__file__).parent / "migrations"
_UPGRADE_LOCK = 7_203_501_642
"""Key of the advisory lock that lets one process at a time change the schema (PostgreSQL)."""

T = TypeVar("T")


class Database:
    """Connections to one database.

    Args:
        url: `sqlite:///path/to/file` or `postgresql://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except SQLAlchemyError as error:
            raise ConfigError(_bad_url(url)) from error
        kind = parsed.get_backend_name()
        if kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not parsed.database):
            raise ConfigError(_bad_url(url))
        self.is_sqlite = kind == "sqlite"
        if self.is_sqlite:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        parsed = parsed.set(drivername="sqlite+aiosqlite" if self.is_sqlite else "postgresql+psycopg")
        self.url = parsed.render_as_string(hide_password=False)
        self._file: _File | None = None
        try:
            if self.is_sqlite:
                self.engine = create_async_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
                event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
                event.listen(self.engine.sync_engine, "begin", _begin)
                self._file = _File(parsed)
            else:
                network = {name: value for name, value in NETWORK.items() if name not in parsed.query}
                self.engine = create_async_engine(
                    self.url, pool_pre_ping=True, pool_size=10, max_overflow=10, connect_args=network
                )
                event.listen(self.engine.sync_engine, "connect", _prepare_postgresql)
        except ModuleNotFoundError as error:
            raise ConfigError("PostgreSQL needs a driver. Install it with: pip install 'limner[postgres]'") from error

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Connection]:
        """A transaction that may write; committed at the end of the block, rolled back when it raises."""
        with translated():
            async with self._file.begin() if self._file else self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def glance(self) -> AsyncGenerator[Connection]:
        """As `read`, for a few rows that an index finds: what is asked several times a second."""
        with translated():
            if self._file is None:
                async with self.engine.connect() as connection:
                    yield connection
            else:
                with self._file.reader.connect() as connection:
                    yield _Inline(connection)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A connection for reading only; on SQLite it never waits for a writer."""
        with translated():
            async with self.engine.connect() as connection:
                yield connection

    async def upgrade(self) -> None:
        """Bring the schema to this release's form; several processes may do so at once.

        Raises `ConfigError` where a newer release has brought it to a form that this one does not know.
        """
        if not await self._is_upgraded():
            await asyncio.to_thread(self._upgrade)

    async def _is_upgraded(self) -> bool:
        """Whether nothing is left to do: the usual case, in which every process need not import Alembic."""
        newest = max(file.name.partition("_")[0] for file in MIGRATIONS.glob("versions/[0-9]*.py"))
        with suppress(SQLAlchemyError, OSError):
            async with self.engine.connect() as connection:
                return await connection.scalar(text("SELECT version_num FROM alembic_version")) == newest
        return False

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        driver = "sqlite" if self.is_sqlite else "postgresql+psycopg"
        engine = create_engine(make_url(self.url).set(drivername=driver))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with translated(), engine.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql(f"PRAGMA busy_timeout={UPGRADE_PATIENCE_MS}")
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    connection.commit()
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except CommandError as error:
            raise ConfigError(
                f"A newer release of limner has changed the form of the database ({error}). "
                "Update limner here as well, or choose another database (`database.url`)."
            ) from error
        finally:
            engine.dispose()

    async def check(self) -> None:
        """Raises `DatabaseError` unless the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        if self._file:
            self._file.close()


class _File:
    """A SQLite file without a thread for every statement: short reads, and transactions that may write.

    SQLite has one writer at a time, and whoever finds it busy sleeps ever longer before asking again: here the others
    of this process wait instead, and go on at once, in their order. Only the beginning, which may have to wait for
    another process, and the end, which may have to wait for the disk, go to a thread. What lies between takes
    less time than going to a thread and back; long searches belong into `Database.read`.
    """

    def __init__(self, url: URL) -> None:
        connect = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
        self.reader, self._writer = (create_engine(url.set(drivername="sqlite"), connect_args=connect) for _ in "rw")
        for engine in (self.reader, self._writer):
            event.listen(engine, "connect", _prepare_sqlite)
        event.listen(self._writer, "begin", _begin_immediate)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Connection]:
        """As `AsyncEngine.begin`."""
        async with self._in_turn():
            opening = asyncio.create_task(asyncio.to_thread(self._open))
            try:
                connection = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.wait((opening,))
                if not opening.cancelled() and opening.exception() is None:
                    await asyncio.to_thread(opening.result().close)
                raise
            try:
                yield _Inline(connection)
            except BaseException:
                await whole(asyncio.to_thread(connection.close))
                raise
            await whole(asyncio.to_thread(_commit, connection))

    @asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_MS / 1000):
                await self._turn.acquire()
        except TimeoutError as error:
            raise TimeoutError("database is locked by this process") from error
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close all connections."""
        for engine in (self.reader, self._writer):
            engine.dispose()

    def _open(self) -> sync.Connection:
        connection = self._writer.connect()
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection


def _commit(connection: sync.Connection) -> None:
    with connection:
        connection.commit()


class _Inline:
    """A connection whose statements run where they are awaited, except those with very many rows."""

    def __init__(self, connection: sync.Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[*tuple[Any, ...]]:
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        return self._connection.scalars(statement, parameters)

    async def stream_scalars(self, statement: Executable) -> AsyncIterator[Any]:
        return self._rows(await whole(asyncio.to_thread(self._connection.scalars, statement)))

    @staticmethod
    async def _rows(found: ScalarResult[Any]) -> AsyncGenerator[Any]:
        while some := await whole(asyncio.to_thread(found.fetchmany, STREAMED)):
            for row in some:
                yield row


async def database_exists(url: str) -> bool:
    """Whether there is a database with our tables; makes none. Raises `ConfigError` and `DatabaseError`."""
    if _lacks_file(url):
        return False
    database = Database(url)
    try:
        async with database.read() as connection:
            return await connection.run_sync(lambda sync: inspect(sync).has_table("jobs"))
    finally:
        await database.aclose()


def _lacks_file(url: str) -> bool:
    with suppress(SQLAlchemyError):
        parsed = make_url(url)
        return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or ".").is_file()
    return False


def shown_url(url: str) -> str:
    """The address without its password."""
    return make_url(url).render_as_string(hide_password=True)


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be cut in the middle, as a transaction; a cancellation takes effect after its end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # nobody asks for it any more
        raise


@contextmanager
def translated() -> Generator[None]:
    """Turn what the driver raises into `DatabaseError`; violated constraints pass, callers know what they mean."""
    try:
        yield
    except IntegrityError:
        raise
    except DataError as error:
        # As PostgreSQL says of a NUL inside a text. Trying again would not help.
        told = str(error.orig).strip().partition("\n")[0]
        raise InvalidRequest(f"A value cannot be stored ({told}). Take out unusual characters.") from error
    except (SQLAlchemyError, OSError) as error:
        told = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
        raise DatabaseError(
            f"The database cannot be used ({told[0] if told else type(error).__name__}). "
            "Check that it runs and that its disk has space; the work goes on when it answers again."
        ) from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin` and `_begin_immediate`
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}")
    cursor.close()
    connection.commit()


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _bad_url(url: str) -> str:
    shown = url.split("@")[-1]
    return (
        f"Setting `database.url` is {shown!r}. Write sqlite:///path/to/file.db or postgresql://user:password@host/name."
    )

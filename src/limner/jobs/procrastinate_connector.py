"""Procrastinate's queries on limner's own connections, so that both see one transaction and one kind of error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, LiteralString, cast

import psycopg
from procrastinate.connector import BaseAsyncConnector, Notify
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb
from sqlalchemy.engine import CursorResult, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from limner.jobs.database import Database
from limner.ports import Connection

RECONNECT_S = 1.0

log = logging.getLogger("limner.queue")


class Connector(BaseAsyncConnector):
    """Procrastinate's queries on our connections; what the driver raises becomes `DatabaseError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._address = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def open_async(self, pool: Any = None) -> None:
        """Nothing to do: the database opens connections when they are needed."""

    async def close_async(self) -> None:
        """Nothing to do: the database closes them."""

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Run a statement in a transaction of its own."""
        async with self._database.begin() as connection:
            await _execute(connection, query, arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """The one row of a statement."""
        async with self._database.begin() as connection:
            return dict((await _execute(connection, query, arguments)).mappings().one())

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """All rows of a statement."""
        async with self._database.begin() as connection:
            return await self.execute_query_all_async_with_connection(connection, query, **arguments)

    async def execute_query_all_async_with_connection(
        self, connection: Connection, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """All rows of a statement that is part of somebody's transaction."""
        return [dict(row) for row in (await _execute(connection, query, arguments)).mappings()]

    async def run_script(self, connection: Connection, script: LiteralString) -> None:
        """Run several statements without arguments as part of somebody's transaction."""
        raw = await cast(AsyncConnection, connection).get_raw_connection()
        await cast(psycopg.AsyncConnection[Any], raw.driver_connection).execute(script)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Pass on notifications until cancelled. While the connection is lost none come; workers look as well."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._address, autocommit=True) as connection:
                    for channel in channels:
                        await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
                    async for said in connection.notifies():
                        await on_notification(channel=said.channel, payload=said.payload)
            except (psycopg.Error, OSError) as error:
                log.warning("notifications are interrupted: %s", error)
            await asyncio.sleep(RECONNECT_S)


async def _execute(connection: Connection, query: str, arguments: dict[str, Any]) -> CursorResult[Any]:
    return await cast(AsyncConnection, connection).exec_driver_sql(
        query, {name: _adapted(value) for name, value in arguments.items()}
    )


def _adapted(value: Any) -> Any:
    match value:
        case dict():
            return Jsonb(value)
        case list():
            return [_adapted(item) for item in cast(list[Any], value)]
        case tuple():
            return tuple(_adapted(item) for item in cast(tuple[Any, ...], value))
        case _:
            return value

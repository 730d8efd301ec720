"""The tables. The rows are the truth about jobs, pictures and everything that belongs to an owner.

Times are seconds since 1970 by the clock of the database (`NOW`), so that machines need not agree on theirs. Every row
has an owner. Records go in as JSON; what is searched or sorted has a column of its own.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

# SQLite gives out rising row ids only to a plain INTEGER key.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Now(FunctionElement[float]):
    """The database's clock, in seconds since 1970."""

    name = "now_s"
    type = Float()
    inherit_cache = True


@compiles(Now, "sqlite")
def _now_sqlite(element: Now, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_postgresql(element: Now, compiler: Any, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


NOW = Now()

NAME_CHARACTERS = 200
"""Longer names of adapters are found by their beginning: an index holds no more."""

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("lane", String(64), nullable=False),
    Column("model", String(500), nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("request", JSON, nullable=False),
    Column("plans", JSON, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("worker", String(200)),
    Column("lease_until", Float),
    Column("admitted", Boolean, nullable=False, default=False),
    Column("adapters", JSON, nullable=False, default=list),
    Column("warnings", JSON, nullable=False, default=list),
    Column("error", JSON),
    Column("cached", Boolean, nullable=False, default=False),
    Column("idempotency_key", String(200)),
    Column("fingerprint", String(64), nullable=False),
    Column("webhook", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("release", String(40), nullable=False, server_default=""),
    UniqueConstraint("owner", "idempotency_key"),
    Index("ix_jobs_status_lane", "status", "lane"),
    Index("ix_jobs_owner_seq", "owner", "seq"),
    Index("ix_jobs_owner_started_at", "owner", "started_at"),
    Index("ix_jobs_owner_status_seq", "owner", "status", "seq"),
    Index("ix_jobs_worker", "worker"),
    Index("ix_jobs_finished_at", "finished_at"),
    sqlite_autoincrement=True,
)

pictures = Table(
    "pictures",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("seed", String(20), nullable=False),
    Column("recipe_key", String(64)),
    Column("image_id", String(64)),
    Column("error", JSON),
    Index("ix_pictures_recipe_key", "recipe_key"),
)
"""What became of each picture that a job asked for."""

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("type", String(32), nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("job_id", "number"),
    Index("ix_events_owner_id", "owner", "id"),
    sqlite_autoincrement=True,
)

live = Table(
    "live",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("picture", Integer, primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("progress", JSON),
    Column("preview", LargeBinary),
    Column("preview_at", JSON),
    Index("ix_live_version", "version"),
)
"""The newest progress and preview of each picture under way; rows go when the attempt ends."""

images = Table(
    "images",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("number", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("format", String(8), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("seed", String(20), nullable=False),
    Column("model", String(500), nullable=False),
    Column("favourite", Boolean, nullable=False, default=False),
    Column("key", String(500), nullable=False),
    Column("thumbnail_key", String(500), nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    # Holds all that pictures are filtered by: rows with their recipes are read only for those that are shown.
    Index("ix_images_filters", "owner", "seq", "deleted_at", "favourite", "width", "height", "created_at", "model"),
    Index("ix_images_job_id", "job_id"),
    Index("ix_images_key", "key"),
    Index("ix_images_thumbnail_key", "thumbnail_key"),
    sqlite_autoincrement=True,
)

image_adapters = Table(
    "image_adapters",
    metadata,
    Column("name", String(NAME_CHARACTERS), primary_key=True),
    Column("image", Serial, ForeignKey("images.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Index("ix_image_adapters_image", "image"),
)
"""Which adapters took effect in which picture, to find pictures by; their outcomes are in the recipes."""

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("name", String(300), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("key", String(500), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Index("ix_uploads_owner_sha256", "owner", "sha256"),
)

templates = Table(
    "templates",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("name", String(200), nullable=False),
    Column("request", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("owner", "name"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("host", String(300), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lane", String(64), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("report", JSON, nullable=False),
)

model_wishes = Table(
    "model_wishes",
    metadata,
    Column("worker", String(200), primary_key=True),
    Column("model", String(500), primary_key=True),
    Column("id", String(64), nullable=False),
    Column("wanted", String(8), nullable=False),
    Column("problem", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
)
"""What workers are to load and unload, and why they could not."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("url", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due_at", Float),
    Column("delivered_at", Float),
    Column("last_error", Text),
    Index("ix_deliveries_due_at", "due_at"),
    Index("ix_deliveries_job_id", "job_id"),
)
"""Webhook messages; `due_at` is empty when there is nothing more to do."""

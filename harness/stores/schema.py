"""Driver. The tables of a store, as they are today; ``migrations/`` says how a store gets here.

1. Ids, keys and documents are text; times are UTC ISO 8601 text of one width, so that text order is time order.
2. What is asked of the rows stands in columns; the whole value stands beside it as a JSON document.
3. A change here is a new file in ``migrations/versions`` and a new ``REVISION``; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

#: The newest migration. A store at this revision is opened without asking Alembic.
REVISION = "0002"

#: Where Alembic keeps the revision of a store.
alembic_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32)))


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware time, written in UTC with microseconds."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = sa.String(32)
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - inherited
        """Write the time; a naive one is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "a time without a time zone cannot be stored"
            raise ValueError(msg)
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - inherited
        """Read the time back."""
        return None if value is None else datetime.fromisoformat(value)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: ``number`` orders runs that began at the same time; ``suite_document`` holds the whole suite; ``fence`` grows with
#: every process that takes the run up.
run = sa.Table(
    "run",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("tool_version", sa.Text, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("drill", sa.Boolean, nullable=False),
    sa.Column("expected_cells", sa.Integer, nullable=False),
    sa.Column("suite_document", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False, server_default="1"),
    sqlite_autoincrement=True,
)

#: A question, once for each execution key.
cell = sa.Table(
    "cell",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

#: What a run expects: the cells of its plan (``listed``) in their order, then the controls that they need besides.
#: ``local`` is what a cell has that its key does not cover (paths on this host, provenance, why it is unsupported).
run_cell = sa.Table(
    "run_cell",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("run.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key"), nullable=False),
    sa.Column("listed", sa.Boolean, nullable=False),
    sa.Column("local", sa.Text, nullable=False),
    sa.Index(None, "run_id", "cell_key"),
)

#: Bytes that lie in a file; the row is written when the file is durable.
blob = sa.Table(
    "blob",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
)

#: One row for each claim. The events are a blob, the one truth of an attempt.
attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, sa.ForeignKey("run.id"), nullable=False),
    sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key"), nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("document", sa.Text),
    sa.Column("events_sha256", sa.String(64), sa.ForeignKey("blob.sha256")),
    sa.UniqueConstraint("run_id", "cell_key", "role", "ordinal", "fence"),
    sa.CheckConstraint("state IN ('open', 'finished', 'superseded')", name="state"),
    sa.CheckConstraint(
        "state != 'finished' OR (document IS NOT NULL AND events_sha256 IS NOT NULL)", name="finished_is_whole"
    ),
)

#: What attempts meant. ``number`` is the order of writing; ``seen_at`` is when the newest attempt was made (when there
#: was none: when it was judged), so that an old run judged again does not pass for news.
judgement = sa.Table(
    "judgement",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.Text, sa.ForeignKey("run.id"), nullable=False),
    sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key"), nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("judged_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index(None, "run_id", "cell_key"),
    sa.Index(None, "cell_key", "seen_at"),
    sqlite_autoincrement=True,
)

#: A bad outcome that a named person answers for, until a day. ``scope`` says which cells, as JSON.
waiver = sa.Table(
    "waiver",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("ticket", sa.Text),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)

#: What was said to and by a vendor about one detection of one file.
case = sa.Table(
    "case",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("product", sa.Text, nullable=False),
    sa.Column("threat", sa.Text, nullable=False),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("opened_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.UniqueConstraint("product", "threat", "file"),
)

"""Driver. Runs under a fence: it grows with every process that takes a run up, so that an older one cannot write."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the fence; a run that is there was taken up once."""
    op.add_column("run", sa.Column("fence", sa.Integer, nullable=False, server_default="1"))

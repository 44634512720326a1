"""Driver. Bring a store to today's tables: every missing migration in the caller's transaction, all of them or none.

A module of its own, so that Alembic is imported only for a store that is new or old.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "harness.stores:migrations")
    config.attributes["connection"] = connection
    return config


def known_revisions() -> frozenset[str]:
    """Give the revisions that this version can start from."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(connection: sa.Connection) -> None:
    """Run the missing migrations. Does nothing to a store of today."""
    command.upgrade(_config(connection), "head")

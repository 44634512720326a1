"""Driver. What Alembic runs: all missing migrations, inside the caller's own transaction (``stores/migrate.py``)."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

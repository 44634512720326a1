"""Driver. The first tables: runs, what they expect, attempts under fences, blobs, judgements, waivers and cases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "run",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("suite", sa.Text, nullable=False),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("tool_version", sa.Text, nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("drill", sa.Boolean, nullable=False),
        sa.Column("expected_cells", sa.Integer, nullable=False),
        sa.Column("suite_document", sa.Text, nullable=False),
        sa.UniqueConstraint("id", name="uq_run_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "cell",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "run_cell",
        sa.Column("run_id", sa.Text, sa.ForeignKey("run.id", name="fk_run_cell_run_id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key", name="fk_run_cell_cell_key"), nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("local", sa.Text, nullable=False),
    )
    op.create_index("ix_run_cell_run_id_cell_key", "run_cell", ["run_id", "cell_key"])
    op.create_table(
        "blob",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("run.id", name="fk_attempt_run_id"), nullable=False),
        sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key", name="fk_attempt_cell_key"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("document", sa.Text),
        sa.Column("events_sha256", sa.String(64), sa.ForeignKey("blob.sha256", name="fk_attempt_events_sha256")),
        sa.UniqueConstraint(
            "run_id", "cell_key", "role", "ordinal", "fence", name="uq_attempt_run_id_cell_key_role_ordinal_fence"
        ),
        sa.CheckConstraint("state IN ('open', 'finished', 'superseded')", name="ck_attempt_state"),
        sa.CheckConstraint(
            "state != 'finished' OR (document IS NOT NULL AND events_sha256 IS NOT NULL)",
            name="ck_attempt_finished_is_whole",
        ),
    )
    op.create_table(
        "judgement",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("run.id", name="fk_judgement_run_id"), nullable=False),
        sa.Column("cell_key", sa.String(64), sa.ForeignKey("cell.key", name="fk_judgement_cell_key"), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("judged_at", sa.String(32), nullable=False),
        sa.Column("seen_at", sa.String(32), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_judgement_run_id_cell_key", "judgement", ["run_id", "cell_key"])
    op.create_index("ix_judgement_cell_key_seen_at", "judgement", ["cell_key", "seen_at"])
    op.create_table(
        "waiver",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ticket", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("threat", sa.Text, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opened_at", sa.String(32), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.UniqueConstraint("product", "threat", "file", name="uq_case_product_threat_file"),
    )

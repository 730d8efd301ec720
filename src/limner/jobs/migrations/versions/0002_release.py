"""Jobs say which release of limner wrote them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("release", sa.String(length=40), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("jobs", "release")

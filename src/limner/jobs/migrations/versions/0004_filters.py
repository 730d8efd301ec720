"""Pictures are found by what was painted with and by their shape."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KNOWN = {
    "sqlite": """
        INSERT OR IGNORE INTO image_adapters (name, image)
        SELECT substr(json_extract(outcome.value, '$.name'), 1, 200), images.seq
        FROM images, json_each(images.recipe, '$.adapters') AS outcome
        WHERE json_extract(outcome.value, '$.status') != 'skipped'
    """,
    "postgresql": """
        INSERT INTO image_adapters (name, image)
        SELECT left(outcome.value ->> 'name', 200), images.seq
        FROM images, json_array_elements(coalesce(images.recipe -> 'adapters', '[]')) AS outcome(value)
        WHERE outcome.value ->> 'status' != 'skipped'
        ON CONFLICT DO NOTHING
    """,
}


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "image_adapters",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("image", serial, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["image"], ["images.seq"], name=op.f("fk_image_adapters_image_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", "image", name=op.f("pk_image_adapters")),
    )
    op.create_index("ix_image_adapters_image", "image_adapters", ["image"], unique=False)
    op.execute(KNOWN[op.get_bind().dialect.name])
    op.drop_index("ix_images_owner_seq", table_name="images")
    op.create_index(
        "ix_images_filters",
        "images",
        ["owner", "seq", "deleted_at", "favourite", "width", "height", "created_at", "model"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index("ix_images_filters", table_name="images")
    op.create_index("ix_images_owner_seq", "images", ["owner", "seq"], unique=False)
    op.drop_table("image_adapters")

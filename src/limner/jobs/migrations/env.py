"""Runs Alembic's migrations on the connection that `Database.upgrade` hands over."""

from alembic import context

from limner.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()

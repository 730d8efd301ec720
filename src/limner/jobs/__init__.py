"""Jobs that cannot be lost: their table, their event log, their queue and the worker that runs them."""

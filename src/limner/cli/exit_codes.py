"""What the exit codes of `limner` mean.

| code | meaning |
|---|---|
| 0 | everything was done |
| 1 | it failed, and not for what was asked; or the job was cancelled |
| 2 | the command, the request or a setting is wrong |
| 3 | some pictures were painted, others failed |
| 130 | interrupted |
"""

from __future__ import annotations

from limner.errors import ConfigError, LimnerError, RequestError

OK = 0
FAILED = 1
WRONG = 2
PARTIAL = 3
INTERRUPTED = 130


def exit_code_of(error: LimnerError) -> int:
    """The exit code for an error that ended the command."""
    return WRONG if isinstance(error, RequestError | ConfigError) else FAILED

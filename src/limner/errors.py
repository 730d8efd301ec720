"""Everything that can go wrong, as one tree whose branches say whose fault it is.

    LimnerError
    ├─ RequestError        the caller must change something
    │   ├─ InvalidRequest      a value is out of range, unreadable or contradictory
    │   ├─ Unsupported         understood, but this checkpoint, sampler or device cannot do it
    │   ├─ NotFound            no checkpoint, adapter, preset, backend or file of that name
    │   └─ AdapterMismatch     a LoRA does not fit, and the request asked to fail in that case
    ├─ CapacityError       the same request may work later
    │   └─ OutOfMemory         the device's memory did not suffice, even for this request alone
    ├─ BackendError        the picture maker failed
    │   ├─ BrokenCheckpoint    weights are missing, truncated, foreign or in a refused format
    │   └─ EngineFault         the engine produced something that is not a picture (non-finite latents)
    ├─ StorageError        a file could not be written or read back
    └─ ConfigError         only at start: names the setting, its source and a good value

Every leaf has a stable `code`, says whether trying again makes sense (`retryable`), and carries `details` for programs.
A message reads "what happened. What to do." HTTP statuses and exit codes live at the doors, not here.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LimnerError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.details: dict[str, Any] = details

    @property
    def message(self) -> str:
        """What happened and what to do, for people."""
        return str(self.args[0])


class RequestError(LimnerError):
    """The request cannot be fulfilled as it stands. Change it and send it again."""

    code = "request"


class InvalidRequest(RequestError):
    """A value of the request is not valid. Correct it and send it again."""

    code = "invalid_request"


class Unsupported(RequestError):
    """The chosen checkpoint or backend cannot do this. Choose another one or change the request."""

    code = "unsupported"


class NotFound(RequestError):
    """There is nothing of that name. Check the spelling."""

    code = "not_found"


class AdapterMismatch(RequestError):
    """An adapter does not fit the checkpoint. Choose one of the same family, or allow limner to paint without it."""

    code = "adapter_mismatch"


class CapacityError(LimnerError):
    """There is no room for this now. Try again later."""

    code = "capacity"
    retryable = True


class OutOfMemory(CapacityError):
    """The device's memory did not suffice for this picture. Choose a smaller size or free memory."""

    code = "out_of_memory"


class BackendError(LimnerError):
    """The picture maker failed."""

    code = "backend"


class BrokenCheckpoint(BackendError):
    """The checkpoint's files cannot be used. Fetch them again."""

    code = "broken_checkpoint"


class EngineFault(BackendError):
    """The engine produced something that is not a picture."""

    code = "engine_fault"


class StorageError(LimnerError):
    """A file could not be written or read. Check the disk's space and the folder's permissions."""

    code = "storage"
    retryable = True


class ConfigError(LimnerError):
    """A setting is wrong. Correct it and start again."""

    code = "config"

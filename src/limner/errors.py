"""Everything that can go wrong, as one tree whose branches say whose fault it is.

    LimnerError
    ├─ RequestError        the caller must change something
    │   ├─ InvalidRequest      a value is out of range, unreadable or contradictory
    │   ├─ Unsupported         understood, but this checkpoint, sampler or device cannot do it
    │   ├─ NotFound            no checkpoint, adapter, preset, backend, job or file of that name
    │   ├─ Conflict            it contradicts what is there already
    │   ├─ Refused             not allowed from here, or not for this caller
    │   ├─ TooLarge            more bytes or pixels than are accepted
    │   └─ AdapterMismatch     a LoRA does not fit, and the request asked to fail in that case
    ├─ CapacityError       the same request may work later
    │   ├─ OutOfMemory         the device's memory did not suffice, even for this request alone
    │   └─ QueueFull           too many jobs wait already
    ├─ BackendError        the picture maker failed
    │   ├─ BrokenCheckpoint    weights are missing, truncated, foreign or in a refused format
    │   ├─ EngineFault         the engine produced something that is not a picture (non-finite latents)
    │   ├─ Unreachable         a server does not answer, or what answers is none of ours
    │   ├─ Timeout             a server took longer than it was given
    │   ├─ Rejected            a server understood the request and refuses it
    │   ├─ Garbled             a server's answer is not what its protocol says
    │   └─ AttemptsExhausted   the job ended its workers, every time it was begun
    ├─ StorageError        a file could not be written or read back, or its storage does not answer
    │   └─ StorageFull         there is no room for it
    ├─ DatabaseError       the database does not answer, or refuses
    └─ ConfigError         only at start: names the setting, its source and a good value
    outcomes, not errors: LeaseLost

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


class Conflict(RequestError):
    """This contradicts what is there already. Look at the present state and decide again."""

    code = "conflict"


class Refused(RequestError):
    """This is not allowed. Ask the operator of this server."""

    code = "refused"


class TooLarge(RequestError):
    """This is larger than what is accepted. Send less."""

    code = "too_large"


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


class QueueFull(CapacityError):
    """Too many jobs wait already. Try again when some have ended."""

    code = "queue_full"


class BackendError(LimnerError):
    """The picture maker failed."""

    code = "backend"


class BrokenCheckpoint(BackendError):
    """The checkpoint's files cannot be used. Fetch them again."""

    code = "broken_checkpoint"


class EngineFault(BackendError):
    """The engine produced something that is not a picture."""

    code = "engine_fault"


class Unreachable(BackendError):
    """The server does not answer. Check its address and that it runs."""

    code = "unreachable"
    retryable = True


class Timeout(BackendError):
    """The server took longer than it was given. Try again, or give it more time."""

    code = "timeout"
    retryable = True


class Rejected(BackendError):
    """The server refuses the request. Change what it objects to."""

    code = "rejected"


class Garbled(BackendError):
    """The server's answer is not what its protocol says. Check its address, and what stands in front of it."""

    code = "garbled"


class AttemptsExhausted(BackendError):
    """The worker died every time that it began this job. Look into the worker's log, or ask for less."""

    code = "attempts_exhausted"


class StorageError(LimnerError):
    """A file could not be written or read. Check that its disk or bucket can be reached, and what it permits."""

    code = "storage"
    retryable = True


class StorageFull(StorageError):
    """There is no room for a file. Make some, or give it more."""

    code = "storage_full"


class DatabaseError(LimnerError):
    """The database does not answer or refuses to write. Check that it runs and that its disk has space."""

    code = "database"
    retryable = True


class ConfigError(LimnerError):
    """A setting is wrong. Correct it and start again."""

    code = "config"


class LeaseLost(Exception):
    """Another attempt has taken over the job; what this one found out is dropped."""

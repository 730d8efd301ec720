"""What a job tells, in the form that its events have on the wire, and what that means for a display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limner.events import Event, Failed, Info, Progress, StageUpdate, Warned

_KINDS = {"progress": Progress, "info": Info, "warning": Warned, "error": Failed, "stage_update": StageUpdate}


@dataclass(frozen=True)
class Told:
    """One event of a job; only what is in the durable log has a number."""

    type: str
    data: dict[str, Any]
    number: int | None = None

    @property
    def event(self) -> Event | None:
        """The event as a backend told it; None for what is about the job as a whole, and for pictures."""
        kind = _KINDS.get(self.type)
        if kind is None or self.data.get("scope") == "job":
            return None
        return kind.model_validate({name: self.data[name] for name in kind.model_fields if name in self.data})

    @property
    def place(self) -> str:
        """Where the job as a whole is now; empty when this event does not say."""
        if self.type != "stage_update" or self.data.get("scope") != "job":
            return ""
        if self.data["status"] == "pending":
            return "waiting"
        attempt = self.data.get("attempt", 1)
        return "begun" if attempt == 1 else f"begun, attempt {attempt}"

"""RunPod's HTTP API for one serverless endpoint: its paths, its states, and what its refusals mean.

Knows nothing of pictures. Jobs are sent again only where RunPod surely did nothing with them; asking how they are and
cancelling them is repeated as often as patience allows. Invariant: what is returned has been checked to be of the
protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from limner.backends.remote import Answer, Connection, Patience
from limner.backends.remote_pictures import MAX_PICTURE_BYTES
from limner.backends.settings import RunpodSettings
from limner.errors import ConfigError, Garbled, Rejected, Unreachable

TITLE = "RunPod"
WAITING, RUNNING, COMPLETED = "IN_QUEUE", "IN_PROGRESS", "COMPLETED"
FAILED, CANCELLED, TIMED_OUT = "FAILED", "CANCELLED", "TIMED_OUT"
ENDED = (COMPLETED, FAILED, CANCELLED, TIMED_OUT)

ANSWER_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 2 * (MAX_PICTURE_BYTES * 4 // 3)


@dataclass(frozen=True)
class JobState:
    """What RunPod says of a job: its state, what its worker said since somebody asked last, and how it ended."""

    status: str
    messages: tuple[object, ...]
    output: object
    error: object


class Endpoint:
    """The way to one endpoint.

    Args:
        settings: the group `runpod` of the settings.
        patience: how often RunPod is asked.
        answer_timeout_s: seconds without a sign of life, after which a request is given up; 30 when absent, but the
            SDK's own server, which has no endpoints' ids, answers only when a job has ended.

    Raises `ConfigError` where endpoint or key are missing.
    """

    def __init__(self, settings: RunpodSettings, patience: Patience, answer_timeout_s: float | None = None) -> None:
        self.url = _url(settings)
        key = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}
        usual_s = ANSWER_TIMEOUT_S if settings.endpoint_id else settings.timeout_s
        self._connection = Connection(
            self.url, TITLE, headers=key, timeout_s=answer_timeout_s or usual_s, patience=patience
        )
        self._method = "GET"

    async def aclose(self) -> None:
        """Close the connection. May be called twice."""
        await self._connection.aclose()

    async def run(self, body: bytes) -> str:
        """Send a job; its id. Raises `Rejected`, `CapacityError`, `Unreachable`, `Timeout` and `Garbled`."""
        headers = {"Content-Type": "application/json"}
        answer = await self._connection.request("POST", "/run", again="unless_done", content=body, headers=headers)
        job_id = self._accepted(answer).get("id")
        if not isinstance(job_id, str) or not job_id.replace("-", "").replace("_", "").isalnum():
            raise Garbled(f"RunPod took a job and gave it the id {str(job_id)[:80]!r}. Look at what answers there.")
        return job_id

    async def stream(self, job_id: str) -> JobState | None:
        """How a job is, with what its worker said since this was asked last; None where it is not known."""
        return await self._state(f"/stream/{job_id}")

    async def status(self, job_id: str) -> JobState | None:
        """How a job is, with all that its worker said once it has ended; None where it is not known (any more)."""
        return await self._state(f"/status/{job_id}")

    async def cancel(self, job_id: str) -> None:
        """Cancel a job; one that has ended, or is not known, is left alone."""
        await self._connection.request("POST", f"/cancel/{job_id}")

    async def _state(self, path: str) -> JobState | None:
        answer = await self._ask(path)
        if answer.status == 404:
            return None
        found = self._accepted(answer)
        status, stream = found.get("status"), found.get("stream")
        if status not in (WAITING, RUNNING, *ENDED):
            raise Garbled(f"RunPod says that a job is {str(status)[:80]!r}, which is no state. Look at what answers.")
        messages = cast(list[object], stream) if isinstance(stream, list) else []
        return JobState(status, tuple(_said(message) for message in messages), found.get("output"), found.get("error"))

    async def _ask(self, path: str) -> Answer:
        ask = partial(self._connection.request, max_bytes=MAX_ANSWER_BYTES)
        method = self._method
        answer = await ask(method, path)
        if answer.status == 405 and method == "GET":
            # The SDK's own server answers to POST only, RunPod to both.
            self._method = "POST"
            answer = await ask("POST", path)
        return answer

    def _accepted(self, answer: Answer) -> dict[str, Any]:
        if answer.status in (200, 201, 202):
            return answer.json()
        told = answer.shown()
        match answer.status:
            case 401 | 403:
                raise Rejected("RunPod refuses the key. Put a valid one into the variable LIMNER_RUNPOD__API_KEY.")
            case 402:
                raise Rejected("RunPod asks for payment: the account has no credit left. Add some there.")
            case 404:
                raise Rejected(f"There is no endpoint at {self.url}. Check `runpod.endpoint_id`.")
            case 413:
                raise Rejected("The request is larger than RunPod takes. Give smaller pictures, or fewer.")
            case status if status >= 500:
                raise Unreachable(f"RunPod answered {status} ({told!r}). Try again later.")
            case status:
                raise Rejected(f"RunPod refuses the request with {status} ({told!r}). Look at the endpoint there.")


def _url(settings: RunpodSettings) -> str:
    ours = settings.base_url == RunpodSettings.model_fields["base_url"].default
    if settings.endpoint_id is None and ours:
        raise ConfigError(
            "Backend `runpod` needs an endpoint. Set `runpod.endpoint_id`, and the key in the variable "
            "LIMNER_RUNPOD__API_KEY."
        )
    if settings.api_key is None and ours:
        raise ConfigError("Backend `runpod` needs RunPod's key. Put it into the variable LIMNER_RUNPOD__API_KEY.")
    return f"{settings.base_url}/{settings.endpoint_id}" if settings.endpoint_id else settings.base_url


def _said(message: object) -> object:
    """What a worker said, out of RunPod's envelope."""
    if not isinstance(message, dict):
        raise Garbled(f"RunPod's stream holds {str(message)[:80]!r}. Look at what answers there.")
    envelope = cast(dict[str, Any], message)
    return {"error": envelope["error"]} if envelope.get("error") else envelope.get("output")

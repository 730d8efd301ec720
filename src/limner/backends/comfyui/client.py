"""One ComfyUI server: its routes and its socket, with the surprises that it has.

What it says is reconciled here: a prompt that it refused to take twice may be queued all the same, a prompt that it
took may have lost a branch, `/interrupt` stops whoever is painting unless told whom. It knows no template and no order.
Invariant: nothing that somebody else sent is ever stopped or removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import urlencode

from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from limner.backends.comfyui.templates import Graph, title_of
from limner.backends.remote import Answer, Connection, Patience
from limner.backends.remote_pictures import png
from limner.errors import Garbled, LimnerError, OutOfMemory, Rejected, Timeout, Unreachable

SOCKET_OPEN_S = 5.0
CANCEL_TRIES = 5
MAX_MESSAGE_BYTES = 32 * 2**20
PREVIEW_TYPES = (1, 4)


@dataclass(frozen=True)
class Standing:
    """The ids in a server's queue."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.running) + len(self.pending)


@dataclass(frozen=True)
class Ended:
    """A prompt that a server's history knows: its outputs by node, and why it has none."""

    outputs: Mapping[str, Any]
    error: LimnerError | None = None


@dataclass(frozen=True)
class Hint:
    """What the socket told of a prompt; it may miss things.

    `kind` is `began`, `node` (one is being computed), `step` (of a node), `preview` or `ended`.
    """

    kind: Literal["began", "node", "step", "preview", "ended"]
    node: str = ""
    step: int = 0
    steps: int = 0
    picture: bytes = b""


@dataclass
class Instance:
    """A server, and how many of our prompts are on their way to it.

    Args:
        url: its address.
        patience: how often it is asked.
    """

    url: str
    patience: Patience | None = None
    timeout_s: float = 30.0
    sending: int = 0
    _choices: dict[tuple[str, str], list[str]] = field(default_factory=dict[tuple[str, str], list[str]])

    def __post_init__(self) -> None:
        self.connection = Connection(self.url, "ComfyUI", timeout_s=self.timeout_s, patience=self.patience)

    async def aclose(self) -> None:
        """Close what is open."""
        await self.connection.aclose()

    # --- what it has -------------------------------------------------------------------------------------------------

    async def stats(self) -> dict[str, Any]:
        """Facts on the server and its devices."""
        return (await self._got("/system_stats")).json()

    async def queue(self) -> Standing:
        """What runs there and what waits, whoever sent it."""
        found = (await self._got("/queue")).json()
        running, pending = (_ids(found.get(name)) for name in ("queue_running", "queue_pending"))
        return Standing(running, pending)

    async def choices(self, node_class: str, name: str) -> list[str] | None:
        """What an input of a node class may be, such as the checkpoints' files; None where that is not a list.

        Asked for anew whenever it is called; `known_choices` remembers.
        """
        answer = await self._got(f"/object_info/{node_class}")
        inputs = _dict(_dict(answer.json().get(node_class)).get("input"))
        for group in ("required", "optional"):
            described: object = _dict(inputs.get(group)).get(name)
            if isinstance(described, list) and described:
                first: object = cast(list[Any], described)[0]
                if first == "COMBO":
                    first = _dict(cast(list[Any], described)[-1]).get("options")
                if isinstance(first, list):
                    found = [str(choice) for choice in cast(list[Any], first)]
                    self._choices[node_class, name] = found
                    return found
        return None

    def known_choices(self, node_class: str, name: str) -> list[str]:
        """What `choices` found last; nothing before."""
        return self._choices.get((node_class, name), [])

    # --- a prompt ----------------------------------------------------------------------------------------------------

    async def upload(self, image: Image.Image) -> str:
        """Send a picture; the name that the server gave it."""
        content = png(image)
        name = f"limner-{hashlib.sha256(content).hexdigest()[:24]}.png"
        files = {"image": (name, content, "image/png")}
        answer = await self.connection.request("POST", "/upload/image", files=files, data={"type": "input"})
        found = self._checked(answer).json()
        if not isinstance(found.get("name"), str):
            raise Garbled(f"ComfyUI at {self.url} took a picture and did not name it. Look into its log.")
        return "/".join(part for part in (found.get("subfolder") or "", found["name"]) if part)

    async def submit(self, graph: Graph, prompt_id: str, client_id: str, *, previews: bool) -> None:
        """Have a graph painted under this id. Raises `Rejected`, which names nodes and what is wrong with them.

        Whatever happens on the way, it is looked whether the prompt is there before anybody thinks of another try.
        """
        extra: dict[str, Any] = {"preview_method": "auto" if previews else "none"}
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra}
        failure: LimnerError | None = None
        answer: Answer | None = None
        try:
            answer = await self.connection.request("POST", "/prompt", again="unless_done", json=body)
        except (Unreachable, Timeout) as error:
            failure = error
        if answer is not None and answer.status == 200:
            found = answer.json()
            if nodes := _dict(found.get("node_errors")):
                await self.cancel(prompt_id)
                raise Rejected(self._refused(graph, nodes, "drops a part of the graph"))
            if found.get("prompt_id") != prompt_id:
                await self.cancel(str(found.get("prompt_id")))
                told = f"ComfyUI at {self.url} gave the prompt another id than it was sent with. Update ComfyUI."
                raise Garbled(told)
            return
        if answer is not None and answer.status < 500:
            raise Rejected(self._objection(answer, graph))
        if await self._is_there(prompt_id):
            return
        if failure is None and answer is not None:
            failure = Rejected(f"ComfyUI at {self.url} answered {answer.status}: {answer.shown()}. Look into its log.")
        assert failure is not None
        raise failure

    async def ended(self, prompt_id: str, graph: Graph | None = None) -> Ended | None:
        """How a prompt ended; None while it has not, and where the server does not know it."""
        entry = _dict((await self._got(f"/history/{prompt_id}")).json().get(prompt_id))
        if not entry:
            return None
        status = _dict(entry.get("status"))
        outputs = _dict(entry.get("outputs"))
        if status.get("status_str") != "error":
            return Ended(outputs)
        pairs = [_list(message) for message in _list(status.get("messages"))]
        messages = {str(pair[0]): _dict(pair[1]) for pair in pairs if len(pair) == 2}
        return Ended(outputs, self._why(messages, graph or _graph_of(entry)))

    async def cancel(self, prompt_id: str) -> None:
        """Take our prompt out of the queue, or stop it where it runs; nothing where it is neither."""
        for _ in range(CANCEL_TRIES):
            await self.connection.request("POST", "/queue", json={"delete": [prompt_id]})
            standing = await self.queue()
            if prompt_id in standing.running:
                # An old server ignores the id and stops whatever runs: only sent while that is ours.
                await self.connection.request("POST", "/interrupt", json={"prompt_id": prompt_id})
                return
            if prompt_id not in standing.pending:
                return

    async def view(self, image: Mapping[str, Any]) -> bytes | None:
        """The bytes of a picture that was saved; None where its file is gone."""
        query = {name: str(image.get(name) or "") for name in ("filename", "subfolder", "type")}
        answer = await self.connection.request("GET", f"/view?{urlencode(query)}")
        return None if answer.status == 404 else self._checked(answer).content

    @asynccontextmanager
    async def socket(self, client_id: str) -> AsyncGenerator[Socket | None]:
        """The socket of a client id that nobody has used; None where it cannot be opened."""
        address = "ws" + self.url.removeprefix("http") + f"/ws?clientId={client_id}"
        try:
            opened = await connect(address, max_size=MAX_MESSAGE_BYTES, open_timeout=SOCKET_OPEN_S, proxy=None)
        except (OSError, TimeoutError, WebSocketException):
            yield None
            return
        try:
            try:
                await opened.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            except (OSError, WebSocketException):
                yield None
                return
            yield Socket(opened)
        finally:
            opened.close_timeout = 0.5
            await opened.close()

    # --- how it is read ----------------------------------------------------------------------------------------------

    async def _is_there(self, prompt_id: str) -> bool:
        for pause_s in (0.0, 0.2, 0.5):
            await asyncio.sleep(pause_s)
            try:
                standing = await self.queue()
                if prompt_id in (*standing.running, *standing.pending) or await self.ended(prompt_id):
                    return True
            except Unreachable:
                return False
        return False

    async def _got(self, path: str) -> Answer:
        return self._checked(await self.connection.request("GET", path))

    def _checked(self, answer: Answer) -> Answer:
        if answer.status in (401, 403):
            raise Rejected(f"ComfyUI at {self.url} answered {answer.status}: it wants a login. Let limner in there.")
        if answer.status >= 500:
            raise Unreachable(f"ComfyUI at {self.url} answered {answer.status} to {answer.url}. Look into its log.")
        if answer.status != 200:
            raise Garbled(f"{answer.url} answered {answer.status}. Check that ComfyUI is there, and not too old.")
        return answer

    def _objection(self, answer: Answer, graph: Graph) -> str:
        try:
            found = answer.json()
        except Garbled:
            return f"ComfyUI at {self.url} answered {answer.status}: {answer.shown()}. Check the template."
        if nodes := _dict(found.get("node_errors")):
            return self._refused(graph, nodes, "refuses the graph")
        error = _dict(found.get("error"))
        told = " ".join(str(error[name]) for name in ("message", "details") if error.get(name)) or answer.shown()
        return f"ComfyUI at {self.url} refuses the graph: {told.rstrip('.')}. Check the template."

    def _refused(self, graph: Graph, nodes: Mapping[str, Any], what: str) -> str:
        told: list[str] = []
        for node, found in nodes.items():
            for error in _list(_dict(found).get("errors")):
                message, details = (str(_dict(error).get(name) or "") for name in ("message", "details"))
                told.append(f"node {node} ({title_of(graph, node)}): {': '.join(p for p in (message, details) if p)}")
        listed = "; ".join(told) or f"nodes {', '.join(nodes)}"
        return f"ComfyUI at {self.url} {what}: {listed}. Correct the template, or put there what it lacks."

    def _why(self, messages: Mapping[str, dict[str, Any]], graph: Graph) -> LimnerError:
        if failed := messages.get("execution_error"):
            node = str(failed.get("node_id"))
            kind, message = (str(failed.get(name) or "") for name in ("exception_type", "exception_message"))
            where = f"node {node} ({title_of(graph, node)})"
            if "OutOfMemory" in kind:
                return OutOfMemory(f"ComfyUI at {self.url} ran out of memory in {where}. Choose a smaller size.")
            told = " ".join(message.split())[:300].rstrip(".")
            return Rejected(f"ComfyUI at {self.url} failed in {where}: {kind}: {told}. Look into its log.", node=node)
        if "execution_interrupted" in messages:
            return Rejected(
                f"Somebody stopped the picture on ComfyUI at {self.url}. Send it again if it was a mistake."
            )
        return Rejected(f"ComfyUI at {self.url} failed and does not say why. Look into its log.")


class Socket:
    """The messages of one client id."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    async def hints(self, prompt_id: str) -> AsyncGenerator[Hint]:
        """What concerns this prompt, until the socket closes; others' messages come here too and are passed over."""
        ours = False
        try:
            async for message in self._opened:
                if isinstance(message, bytes):
                    if found := _preview(message, prompt_id, ours):
                        yield found
                    continue
                try:
                    said = _dict(json.loads(message))
                except ValueError:
                    continue
                values = _dict(said.get("data"))
                if values.get("prompt_id") != prompt_id:
                    continue
                kind = str(said.get("type"))
                ours = kind not in ENDS and not (kind == "executing" and values.get("node") is None)
                for hint in _hints(kind, values):
                    yield hint
        except (OSError, WebSocketException):
            return


ENDS = ("execution_success", "execution_error", "execution_interrupted")


def _hints(kind: str, values: Mapping[str, Any]) -> list[Hint]:
    if kind in ENDS:
        return [Hint("ended")]
    if kind == "execution_start":
        return [Hint("began")]
    if kind == "executing":
        return [Hint("node", str(values["node"]))] if values.get("node") is not None else [Hint("ended")]
    if kind == "progress":
        return [_step(str(values.get("node")), values)]
    if kind == "progress_state":
        nodes = [(str(node), _dict(state)) for node, state in _dict(values.get("nodes")).items()]
        return [_step(node, state) for node, state in nodes if state.get("state") == "running"]
    return []


def _step(node: str, values: Mapping[str, Any]) -> Hint:
    step, steps = (_whole(values.get(name)) for name in ("value", "max"))
    return Hint("step", node, step, steps) if step > 0 else Hint("node", node)


def _preview(message: bytes, prompt_id: str, ours: bool) -> Hint | None:
    """A picture on its way. One that does not say whose it is counts as ours only while ours is painted."""
    if len(message) < 8:
        return None
    kind, second = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
    if kind == 1 and ours:
        return Hint("preview", picture=message[8:])
    if kind == 4 and len(message) >= 8 + second:
        try:
            about = _dict(json.loads(message[8 : 8 + second]))
        except ValueError:
            return None
        if about.get("prompt_id") == prompt_id:
            return Hint("preview", node=str(about.get("node_id") or ""), picture=message[8 + second :])
    return None


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _dict(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _ids(entries: object) -> tuple[str, ...]:
    """The prompts' ids: the second item of each entry."""
    found = [_list(entry) for entry in _list(entries)]
    return tuple(str(entry[1]) for entry in found if len(entry) > 1)


def _graph_of(entry: Mapping[str, Any]) -> Graph:
    prompt = _list(entry.get("prompt"))
    return _dict(prompt[2]) if len(prompt) > 2 else {}

"""Paints for `limner workflow run`, here or on a server, with what the translation has to say in front."""

from __future__ import annotations

from collections.abc import Sequence

from limner.cli.application import Application
from limner.cli.painting import Painting
from limner.cli.remote import Remote
from limner.cli.running import Place, Run
from limner.cli.sending import Sending
from limner.config import Settings
from limner.domain import GenerationRequest
from limner.workflows.comfyui.reading import Remark


class _Remarking(Run):
    """A run that has something to say first; what is without effect is left to `limner workflow explain`."""

    remarks: Sequence[Remark] = ()

    def _say_remarks(self) -> None:
        for remark in self.remarks:
            told = f"node {remark.node}: {remark.text}."
            if remark.kind == "differs":
                self._warn(told)
            elif remark.kind == "note":
                self._note(told)


class WorkflowPainting(_Remarking, Painting):
    """One run of a translated workflow on this machine; arguments as of `Painting`, and the remarks."""

    def __init__(self, application: Application, settings: Settings, place: Place, remarks: Sequence[Remark]) -> None:
        Painting.__init__(self, application, settings, None, place)
        self.remarks = remarks

    async def _paint_all(self, requests: list[GenerationRequest]) -> None:
        self._say_remarks()
        await Painting._paint_all(self, requests)


class WorkflowSending(_Remarking, Sending):
    """One run of a translated workflow on a server; arguments as of `Sending`, and the remarks."""

    def __init__(self, application: Application, url: str, place: Place, remarks: Sequence[Remark]) -> None:
        Sending.__init__(self, application, url, None, place)
        self.remarks = remarks

    async def _paint_all(self, requests: list[GenerationRequest]) -> None:
        self._say_remarks()
        await Sending._paint_all(self, requests)


async def names_on(url: str, application: Application) -> tuple[dict[str, str], list[str]]:
    """The checkpoints of a server with their families, and its LoRAs. Raises as `Remote` does."""
    async with Remote(url, application.say) as server:
        models = (await server.call("GET", "/api/models"))["models"]
        adapters = (await server.call("GET", "/api/adapters"))["adapters"]
    return {model["name"]: model.get("family", "") for model in models}, [adapter["name"] for adapter in adapters]

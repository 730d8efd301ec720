"""The composition root: settings in, pictures out. The only place that wires the parts together.

A request becomes an order here (preset, plans, reference picture, adapters' files) and goes to a backend; what the
backend tells is passed on as it comes. Backends are found by name, made when they are first needed, and closed with the
studio.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import EntryPoints, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from limner.backends.catalogue import lora_folders
from limner.backends.fake import FakeBackend
from limner.config import Settings, load_settings
from limner.context import context_pictures, context_size
from limner.domain import GenerationRequest, Plan, Recipe, Reference
from limner.errors import BackendError, ConfigError, InvalidRequest, LimnerError, NotFound, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Info, Warned
from limner.failover import paint
from limner.media.pictures import fit, fit_mask, open_mask, open_reference, require_same_shape, sha256_of
from limner.ports import Backend, Capabilities, Order
from limner.workflows.adapters import list_adapters, resolve_adapters, shipped_adapters, suggested_words, trigger_of
from limner.workflows.families import EDITING_PRESET, FACTS, edits_pictures, require_fitting
from limner.workflows.plans import make_plans
from limner.workflows.presets import Preset, Presets

ENTRY_POINTS = "limner.backends"
AUTO, NATIVE = "auto", "native"
NATIVE_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "torchsde", "scipy")

BackendFactory = Callable[[Settings], Backend]

log = logging.getLogger("limner")


@dataclass(frozen=True)
class Picture:
    """A finished picture and how it came about.

    `warnings` tells what is not quite as asked for: of this picture, and which others of its request failed.
    """

    image: Image.Image
    recipe: Recipe
    warnings: tuple[str, ...] = ()


class Studio:
    """Everything limner can do, behind one object.

        async with Studio() as studio:
            for picture in await studio.generate(GenerationRequest(prompt="a red boat on the sea")):
                picture.image.save("boat.png")

    Requests may run at the same time, on one event loop; a backend that can, batches them.

    Args:
        settings: the settings; read from environment and file when absent.
        backend: used for every request, whatever that names; its owner closes it.
    """

    def __init__(self, settings: Settings | None = None, backend: Backend | None = None) -> None:
        self.settings = settings or load_settings()
        self.presets = presets_of(self.settings)
        self._only = backend
        self._backends: dict[str, Backend] = {}
        self._lock = threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the backends that were used."""
        backends, self._backends = list(self._backends.values()), {}
        for backend in backends:
            await backend.aclose()

    async def run(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Paint, and tell what happens; the last event is `Done`. Closing the generator cancels.

        Raises `RequestError` when the request cannot be fulfilled at all and `BackendError` when the backend breaks
        down; failures of single pictures are `Failed` events.
        """
        request, plans = await asyncio.to_thread(self.planned, request)
        async with aclosing(self.paint(request, plans)) as events:
            async for event in events:
                yield event

    async def paint(
        self,
        request: GenerationRequest,
        plans: tuple[Plan, ...],
        references: Sequence[Image.Image] = (),
        mask: Image.Image | None = None,
        token: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Paint a planned request on its backend, or on those that it falls back to; `references` as for `order`.

        `token` is the same in every attempt at a job. Events and errors as of `run`.
        """

        def ordered(name: str, numbers: Sequence[int]) -> tuple[Backend, Order]:
            backend = self.backend(name)
            wanted = tuple(plans[number] for number in numbers)
            on_it = request.model_copy(update={"backend": backend.name})
            if name == NATIVE and self._only is None and name != names[0]:
                on_it = self._taken_over(on_it)
            return backend, replace(self.order(on_it, wanted, backend, references, mask), token=token)

        names = await asyncio.to_thread(self.route, request)
        make = partial(asyncio.to_thread, ordered)
        async with aclosing(paint(names, make, len(plans))) as events:
            async for event in events:
                yield event

    async def generate(self, request: GenerationRequest) -> list[Picture]:
        """All pictures of a request, in their order.

        Where some pictures fail, the others are returned and carry a warning that says so; where all fail, the first
        failure is raised.
        """
        painted: dict[int, ImageGenerated] = {}
        failures: list[Failed] = []
        warnings: list[str] = []
        async for event in self.run(request):
            match event:
                case ImageGenerated():
                    painted[event.index] = event
                case Failed():
                    failures.append(event)
                case Warned():
                    warnings.append(event.message)
                case Info():
                    log.info(event.message)
                case Done(status="cancelled"):
                    raise BackendError("The request was cancelled before it ended. Run it again.")
                case _:
                    pass
        if not painted:
            raise raised(failures[0]) if failures else BackendError("The backend ended without a picture. Report this.")
        warnings += [f"Picture {f.index} failed: {f.message}" for f in failures if f.index is not None]
        warnings += [f.message for f in failures if f.index is None]
        return [_picture(painted[index], warnings) for index in sorted(painted)]

    def capabilities(self, backend: str | None = None) -> Capabilities:
        """What can be asked of a backend, the configured one when none is named."""
        return self.backend(backend or self.settings.backend).capabilities()

    def abilities(self, name: str) -> Capabilities:
        """What can be asked of a backend, without starting an engine: of `native` all but its checkpoints.

        Raises as `backend` does, and whatever a backend of another package raises.
        """
        if self._only is None and name == "native":
            from limner.backends.native import abilities

            return abilities(self.settings.native)
        return self.backend(name).capabilities()

    def backend(self, name: str) -> Backend:
        """The backend of that name, made when it is asked for first. May take seconds, since it imports the engine.

        Raises `NotFound`, which lists the known names, and `ConfigError` when its packages are missing.
        """
        if self._only is not None:
            return self._only
        if name == AUTO:
            name = NATIVE
        with self._lock:
            if name not in self._backends:
                self._backends[name] = _make(name, self.settings)
            return self._backends[name]

    def made(self, name: str) -> Backend | None:
        """The backend of that name if it was made already; never makes one."""
        return self._only or self._backends.get(name)

    def backend_of(self, request: GenerationRequest) -> str:
        """The name of the backend that a request will go to."""
        return request.backend if "backend" in request.model_fields_set else self.settings.backend

    def route(self, request: GenerationRequest) -> tuple[str, ...]:
        """The names of the backends that a request is tried on, in their order.

        `auto` stands for all that are set up and can do it, the engine of this machine first. May take a moment: each
        of them is asked. Raises `Unsupported` when none can do it.
        """
        first = self.backend_of(request)
        if self._only is not None:
            return (self._only.name,)
        names = [name for name in offered_backends(NATIVE) if self._can(name, request)] if first == AUTO else [first]
        names.sort(key=lambda name: name != NATIVE)
        if not names and not request.fallback:
            raise Unsupported(
                "No backend that is set up can do this. `limner doctor` lists them; name one, or leave out what they "
                "cannot do."
            )
        return tuple(dict.fromkeys((*names, *request.fallback)))

    def _can(self, name: str, request: GenerationRequest) -> bool:
        try:
            able = self.abilities(name)
        except Exception as error:  # noqa: BLE001  # one that another package brings must not stop the others
            log.info("backend %s is left out: %s", name, error)
            return False
        return (
            (name != NATIVE or not missing_packages())
            and (able.references or not request.references)
            and (able.masks or not request.mask)
            and (able.adapters or not request.adapters)
            and (not able.models or request.model is None or request.model in able.models)
        )

    def adapters(self) -> list[dict[str, Any]]:
        """The adapters that a request may name, with their trigger words and those that their training suggests."""
        return [
            {"name": name, "trigger": trigger_of(path), "suggested": suggested_words(path)}
            for name, path in sorted(self.adapter_files().items())
        ]

    def adapter_files(self) -> dict[str, Path]:
        """Name to file of the adapters that a request may name."""
        return list_adapters(self._adapter_folders())

    @property
    def default_model(self) -> str:
        """The checkpoint of the native engine for requests that name none: a name or a path."""
        native = self.settings.native
        return str(native.model_path) if native.model_path else native.model

    def _family_of(self, model: str) -> str | None:
        from limner.backends.native import family_of

        return family_of(self.settings.native, model)

    def families(self) -> dict[str, str]:
        """The family of every sound checkpoint of the native engine on this machine, by name; needs no torch."""
        from limner.backends.native import list_checkpoints

        return {entry.name: entry.family for entry in list_checkpoints(self.settings.native) if not entry.problem}

    def require_checkpoint(self, name: str) -> None:
        """Raises `NotFound` with the nearest names unless the native engine has that checkpoint on this machine."""
        from limner.backends.native import BUILTIN_DIR, Catalogue

        Catalogue(self.settings.native, BUILTIN_DIR).shelves().find(name)

    def planned(
        self,
        request: GenerationRequest,
        *,
        reference_sizes: Sequence[tuple[int, int]] | None = None,
        families: Mapping[str, str] | None = None,
    ) -> tuple[GenerationRequest, tuple[Plan, ...]]:
        """The request with preset, adapters, references and backend resolved, and its plans with every number fixed.

        Needs no backend and no device.

        Args:
            request: what the caller wants.
            reference_sizes: width and height of its references, where these are no files here.
            families: the checkpoints that there are, where these are not the ones on this machine.

        Raises `RequestError` for what cannot be fulfilled whatever the backend.
        """
        adapters, _ = resolve_adapters(request.adapters, self._adapter_folders())
        # Opened first: what is no picture, or has no end, must not be read for its SHA-256.
        opened = [open_reference(reference.path) for reference in request.references if reference.path is not None]
        sizes = tuple(reference_sizes or (picture.size for picture in opened))
        references = tuple(_checked(reference) for reference in request.references)
        resolved: dict[str, object] = {"adapters": adapters, "references": references}
        resolved["backend"] = self.backend_of(request)
        if request.mask:
            if request.mask.path is not None:
                open_mask(request.mask.path)
            resolved["mask"] = _checked(request.mask)
        request = request.model_copy(update=resolved)
        request, preset, family = self._prepared(request, families)
        require_fitting(request, family)
        return request, make_plans(
            request,
            preset,
            default_seed_source=lambda: secrets.randbits(53),
            context_size=context_size(request.references_as, sizes),
        )

    def _prepared(
        self, request: GenerationRequest, families: Mapping[str, str] | None
    ) -> tuple[GenerationRequest, Preset, str | None]:
        """The request with what its preset says for it, that preset, and the family where it is known."""
        native = self._only is None and request.backend in (NATIVE, AUTO)
        # What another backend has by default is not known here; of a checkpoint that is named, ours may be a copy.
        ours = native or (self._only is None and NATIVE in request.fallback and request.model is not None)
        known = families if families is not None else self.families() if ours else {}
        model = request.model or self.default_model
        family = known.get(model) or self._family_of(model) if ours else None
        if request.stages:
            return request, Preset(name="stages", stages=request.stages), family
        edits = bool(request.references) and not request.mask and edits_pictures(model, family)
        otherwise = EDITING_PRESET if edits and request.references_as != "start" else self.presets.default_for(family)
        preset = self.presets.get(request.preset or otherwise)
        chosen: dict[str, object] = {}
        unfit = bool(preset.family and family and family != preset.family)
        if unfit and request.model is not None:
            raise InvalidRequest(
                f"Preset `{preset.name}` is made for {_title(preset.family)}; checkpoint `{request.model}` is "
                f"{_title(family)}. Leave the preset out, or choose one for that family.",
                preset=preset.name,
            )
        if unfit:
            chosen["model"], family = _fitting(preset, known), preset.family
        said = request.model_fields_set
        for name in ("negative_prompt", "clip_skip", "references_as"):
            if name not in said and (value := getattr(preset, name)):
                chosen[name] = value
        if not request.references:
            chosen.pop("references_as", None)
        return request.model_copy(update=chosen), preset, family

    def _taken_over(self, request: GenerationRequest) -> GenerationRequest:
        """A request that was planned for another backend, with a checkpoint of ours that suits its preset.

        Raises `NotFound` and `Unsupported` where there is none, or where ours cannot do what was asked for.
        """
        model, known = request.model or self.default_model, self.families()
        family = known.get(model) or self._family_of(model)
        if request.model is None and request.preset:
            preset = self.presets.get(request.preset)
            if preset.family and family and family != preset.family:
                request, family = request.model_copy(update={"model": _fitting(preset, known)}), preset.family
        require_fitting(request, family)
        return request

    def order(
        self,
        request: GenerationRequest,
        plans: tuple[Plan, ...],
        backend: Backend,
        references: Sequence[Image.Image] = (),
        mask: Image.Image | None = None,
    ) -> Order:
        """What the backend is handed for a planned request; `references` and `mask` when they are no files here."""
        _, adapter_files = resolve_adapters(request.adapters, self._adapter_folders())
        _check(request, plans, backend)
        kept = None
        references = references or [open_reference(given.path) for given in request.references if given.path]
        if request.references_as in ("context", "stitched"):
            context = context_pictures(references, stitch=request.references_as == "stitched")
            return Order(request=request, plans=plans, context=context, adapter_files=adapter_files)
        reference = references[0] if references else None
        if reference and request.mask and request.mask.path:
            mask = open_mask(request.mask.path)
        if reference and mask:
            mask, kept = _masked(mask, reference, plans[0].width, plans[0].height)
        if reference:
            first = plans[0].stages[0]
            # Where a part is kept, the picture is cut to the last stage's shape; earlier stages see all of that.
            reference = (
                kept.resize((first.width, first.height), Image.Resampling.LANCZOS)
                if kept
                else fit(reference, first.width, first.height)
            )
        return Order(
            request=request, plans=plans, reference=reference, adapter_files=adapter_files, mask=mask, kept=kept
        )

    def _adapter_folders(self) -> list[Path]:
        native = self.settings.native
        return [path for path in (native.adapters_dir, shipped_adapters(), *lora_folders(native)) if path]


def _title(family: str | None) -> str:
    facts = FACTS.get(family or "")
    return facts.title if facts else str(family)


def _fitting(preset: Preset, known: Mapping[str, str]) -> str:
    """The first checkpoint of a preset's family, one that is made to change pictures where the preset does.

    Raises `NotFound` where there is none.
    """
    names = [name for name, family in known.items() if family == preset.family]
    if preset.references_as in ("context", "stitched"):
        names.sort(key=lambda name: not edits_pictures(name, preset.family))
    if not names:
        raise NotFound(
            f"Preset `{preset.name}` is made for {_title(preset.family)}, and there is no such checkpoint. "
            "Add one with `limner models add`, or name a `model`.",
            preset=preset.name,
        )
    return names[0]


def presets_of(settings: Settings) -> Presets:
    """The presets as these settings have them."""
    generation = settings.generation
    return Presets(
        settings.presets_dir,
        default=generation.preset,
        steps=generation.steps,
        cfg=generation.cfg,
        stage_changes=(generation.stage1, generation.stage2, generation.stage3),
    )


def backend_names() -> list[str]:
    """The names of all backends that are installed."""
    return sorted({*_BUILT_IN, *(point.name for point in _installed())})


@cache
def _installed() -> EntryPoints:
    """What other packages bring; looked up once, as all files of all packages are asked for it."""
    return entry_points(group=ENTRY_POINTS)


def offered_backends(default: str) -> list[str]:
    """The backends that people choose from: without `fake`, which is for tests, unless it is the default."""
    return [name for name in backend_names() if name != FakeBackend.name or name == default]


def raised(failure: Failed) -> LimnerError:
    """The error that a `Failed` event tells of."""
    kinds: dict[str, type[LimnerError]] = {}
    pending: list[type[LimnerError]] = [LimnerError]
    while pending:
        kind = pending.pop()
        kinds[kind.code] = kind
        pending += kind.__subclasses__()
    return kinds.get(failure.code, BackendError)(failure.message, index=failure.index)


def missing_packages() -> list[str]:
    """The packages of the extra `native` that are not installed."""
    return [name for name in NATIVE_PACKAGES if find_spec(name) is None]


def _native(settings: Settings) -> Backend:
    if missing := missing_packages():
        raise ConfigError(
            f"Backend `native` needs packages that are not installed: {', '.join(missing)}. "
            "Install them with: pip install 'limner[native]'",
            missing=missing,
        )
    from limner.backends.native import NativeBackend

    return NativeBackend(settings.native)


def _comfyui(settings: Settings) -> Backend:
    from limner.backends.comfyui import ComfyUIBackend

    return ComfyUIBackend(settings.comfyui)


def _openai(settings: Settings) -> Backend:
    from limner.backends.openai_images import OpenAIBackend

    return OpenAIBackend(settings.openai)


def _runpod(settings: Settings) -> Backend:
    from limner.backends.runpod import RunpodBackend

    return RunpodBackend(settings.runpod)


_BUILT_IN: dict[str, BackendFactory] = {
    "native": _native,
    "fake": lambda settings: FakeBackend(),
    "comfyui": _comfyui,
    "openai": _openai,
    "runpod": _runpod,
}


def _make(name: str, settings: Settings) -> Backend:
    factory = _BUILT_IN.get(name)
    if factory is None:
        found = _installed().select(name=name)
        if not found:
            known = ", ".join(backend_names())
            raise NotFound(f"There is no backend `{name}`. Choose one of: {known}.", name=name, known=backend_names())
        factory = next(iter(found)).load()
    return factory(settings)


def _check(request: GenerationRequest, plans: tuple[Plan, ...], backend: Backend) -> None:
    able = backend.capabilities()
    for kind, known, wanted in (
        ("sampler", able.samplers, {stage.sampler for stage in plans[0].stages}),
        ("schedule", able.schedules, {stage.schedule for stage in plans[0].stages}),
    ):
        if missing := sorted(wanted - set(known)):
            told = ", ".join(f"`{name}`" for name in missing)
            raise Unsupported(f"Backend `{backend.name}` has no {kind} {told}. Choose one of: {', '.join(known)}.")
    if request.adapters and not able.adapters:
        raise Unsupported(f"Backend `{backend.name}` cannot use adapters. Leave them out or choose another backend.")
    if request.references and not able.references:
        raise Unsupported(f"Backend `{backend.name}` cannot start from a picture. Leave it out or choose another one.")
    if request.mask and not able.masks:
        raise Unsupported(
            f"Backend `{backend.name}` cannot keep a part of a picture. Leave the mask out or choose another backend."
        )


def _masked(
    mask: Image.Image, reference: Image.Image, width: int, height: int
) -> tuple[Image.Image, Image.Image] | tuple[None, None]:
    """Mask and picture at the size of the finished one; neither where the mask keeps nothing."""
    require_same_shape(mask.size, reference.size)
    mask = fit_mask(mask, width, height)
    if mask.getextrema() == (255, 255):
        return None, None
    return mask, fit(reference, width, height)


def _checked(reference: Reference) -> Reference:
    if reference.path is None:
        return reference
    actual = sha256_of(reference.path)
    if reference.sha256 and reference.sha256.lower() != actual:
        raise InvalidRequest(
            f"Picture `{reference.path}` is not the one that the request means: its SHA-256 differs. "
            "Give the original file or leave sha256 out.",
            path=reference.path,
            expected=reference.sha256,
            found=actual,
        )
    return reference.model_copy(update={"sha256": actual})


def _picture(event: ImageGenerated, warnings: list[str]) -> Picture:
    image = Image.frombytes("RGB", (event.width, event.height), event.rgb)
    return Picture(image, event.recipe, tuple(dict.fromkeys((*event.recipe.warnings, *warnings))))

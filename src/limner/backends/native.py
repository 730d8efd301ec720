"""Our own engine as a backend: one thread drives it, any number of requests share it.

The thread owns the engine and everything with tensors; coroutines hand it commands and read events from their own
queues. A slow reader never slows the engine: progress and previews not read in time are replaced by newer ones.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.backends.catalogue import Catalogue
from limner.backends.hashes import Hashes
from limner.backends.settings import NativeSettings
from limner.backends.whole_pictures import WholePictures
from limner.domain import SAMPLERS, SCHEDULES, AdapterOutcome, AdapterStatus, GenerationRequest, Recipe
from limner.errors import AdapterMismatch, EngineFault, LimnerError, Unsupported
from limner.events import Done, Event, Failed, ImageGenerated, Info, Preview, Progress, StageUpdate, Warned
from limner.ports import Capabilities, HeldModel, Order

if TYPE_CHECKING:
    from limner.engine.checkpoints import CheckpointEntry
    from limner.engine.engine import Engine, Happening, Stepped
    from limner.engine.families.port import AppliedAdapters
    from limner.engine.inpainting import Inpainting
    from limner.engine.residency import Checkpoint, Places, Residency
    from limner.engine.threads import Threads

IDLE_S = 0.2


class Mailbox:
    """Events for one request, from the engine's thread to its coroutine.

    Facts are kept in order; of progress, and of previews, only the newest unread one of each picture is kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._events: dict[object, Event | LimnerError] = {}
        self._count = 0
        self._ready = asyncio.Event()

    def put(self, event: Event | LimnerError) -> None:
        """Called on the engine's thread."""
        with self._lock:
            self._count += 1
            key: object = (event.type, event.index) if isinstance(event, Progress | Preview) else self._count
            self._events.pop(key, None)
            self._events[key] = event
        # The loop may be closed already when its program ended in the middle; nobody reads any more then.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ready.set)

    async def take(self) -> list[Event | LimnerError]:
        """Everything unread, oldest first; waits until there is something."""
        await self._ready.wait()
        with self._lock:
            self._ready.clear()
            events, self._events = list(self._events.values()), {}
        return events


@dataclass
class Counters:
    """What the engine has done since it was started; written by its thread only."""

    steps: int = 0
    pictures: int = 0  # moved by these steps, all together
    seconds: float = 0.0
    stages: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])  # times and seconds

    def stepped(self, happenings: list[Happening], seconds: float) -> None:
        """Count one step of the engine."""
        from limner.engine.engine import StageEnded, Stepped

        moved = sum(isinstance(happening, Stepped) for happening in happenings)
        self.steps += moved > 0
        self.pictures += moved
        self.seconds += seconds
        for happening in happenings:
            if isinstance(happening, StageEnded):
                times, spent = self.stages.get(happening.stage, (0, 0.0))
                self.stages = self.stages | {happening.stage: (times + 1, spent + happening.outcome.duration_s)}


@dataclass
class Job:
    """A request inside the engine's thread."""

    order: Order
    mailbox: Mailbox
    checkpoint: Checkpoint | None = None
    adapters: AppliedAdapters = ()
    only_in: tuple[tuple[int, ...] | None, ...] = ()  # the stages of each of these
    outcomes: tuple[AdapterOutcome, ...] = ()
    warnings: list[str] = field(default_factory=list[str])
    pictures: dict[int, int] = field(default_factory=dict[int, int])  # engine id -> index in the order
    fractions: dict[int, float] = field(default_factory=dict[int, float])  # index -> share of its work done
    steps: dict[int, int] = field(default_factory=dict[int, int])  # index -> steps done, over its stages
    noted: set[str] = field(default_factory=set[str])
    painted: int = 0
    failed: int = 0
    changes_before: int = 0  # of the number of threads
    started: float = field(default_factory=time.monotonic)

    @property
    def request(self) -> GenerationRequest:
        return self.order.request

    @property
    def finished(self) -> bool:
        return self.painted + self.failed == len(self.order.plans)

    def note(self, message: str, code: str) -> None:
        """Tell something once."""
        if message not in self.noted:
            self.noted.add(message)
            self.mailbox.put(Info(message=message, code=code))

    def warn(self, message: str, code: str) -> None:
        """Tell once, and write into the pictures' recipes, that the result is not quite what was asked for."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.mailbox.put(Warned(message=message, code=code))


class NativeBackend:
    """Limner's own engine.

    Args:
        settings: device, precision, folders, token budget.
    """

    name = "native"

    def __init__(self, settings: NativeSettings) -> None:
        self._settings = settings
        self._commands: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._residency: Residency | None = None
        self._threads: Threads | None = None
        self._whole = WholePictures(lambda happening: self._commands.put(lambda: self._happened([happening])))
        self._jobs: dict[int, Job] = {}
        self._leaving: list[tuple[str, Future[None]]] = []
        self._start_lock = threading.Lock()
        self._counters = Counters()
        self._hashes = Hashes()

    def capabilities(self) -> Capabilities:
        """What the engine can do with the checkpoints found on disk."""
        names = tuple(entry.name for entry in list_checkpoints(self._settings) if not entry.problem)
        return abilities(self._settings, names)

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Paint an order; closing the generator aborts its pictures between two steps."""
        job = Job(order, Mailbox(asyncio.get_running_loop()))
        self._command(lambda: self._accept(job))
        try:
            while True:
                for event in await job.mailbox.take():
                    if isinstance(event, LimnerError):
                        raise event
                    yield event
                    if isinstance(event, Done):
                        return
        finally:
            self._commands.put(lambda: self._drop(job))

    def statistics(self) -> dict[str, float]:
        """Counters since the start, and what is under way now: steps, pictures moved by them, seconds by stage."""
        counted = self._counters
        figures: dict[str, float] = {
            "engine_steps_total": counted.steps,
            "engine_step_pictures_total": counted.pictures,
            "engine_busy_seconds_total": round(counted.seconds, 3),
            "engine_running_pictures": len(self._jobs),
        }
        for stage, (times, spent) in counted.stages.items():
            figures |= {f"stage_{stage}_runs_total": times, f"stage_{stage}_seconds_total": round(spent, 3)}
        return figures

    @property
    def threads(self) -> int | None:
        """The CPU threads that are painted with now; None before the engine has decided."""
        return self._threads.count if self._threads is not None else None

    def loaded(self) -> dict[str, HeldModel]:
        """What is in memory, by name; may be asked from any thread."""
        residency = self._residency
        if residency is None:
            return {}
        busy = {id(job.checkpoint) for job in self._jobs.copy().values()}
        return {
            entry.name: HeldModel(
                memory_bytes=entry.memory_bytes,
                idle_since=None if id(entry) in busy else residency.used_at(entry),
                sha256=entry.known_sha256,
            )
            for entry in residency.loaded()
        }

    async def load(self, name: str) -> None:
        """Read a checkpoint's weights between two steps; pictures under way wait for that long."""
        done: Future[None] = Future()
        self._command(lambda: self._load(name, done))
        await asyncio.wrap_future(done)

    async def unload(self, name: str) -> None:
        """Free a checkpoint's memory when no picture is under way with it; cancelling gives that up."""
        done: Future[None] = Future()
        self._command(lambda: self._leaving.append((name, done)))
        await asyncio.wrap_future(done)

    async def aclose(self) -> None:
        """Stop the engine's thread after the step it is in; running orders end with an error."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._commands.put(None)
            await asyncio.to_thread(thread.join)

    # --- the engine's thread -----------------------------------------------------------------------------------------

    def _command(self, command: Callable[[], None]) -> None:
        with self._start_lock:
            if self._thread is None:
                # Not a daemon: those are cut off inside torch when the program ends, which aborts it.
                self._thread = threading.Thread(target=self._work, name="limner-engine")
                self._thread.start()
        self._commands.put(command)

    def _work(self) -> None:
        # A program that ends without closing us must not wait for its pictures.
        while threading.main_thread().is_alive():
            busy = self._engine is not None and self._engine.busy
            if not busy and self._threads is not None:
                self._threads.rest()
            try:
                command = self._commands.get_nowait() if busy else self._commands.get(timeout=IDLE_S)
            except queue.Empty:
                if busy:
                    self._step()
                self._unload()
                continue
            if command is None:
                break
            command()
            del command  # it may hold the last job, and with that its checkpoint
            self._unload()
        self._close()

    def _step(self) -> None:
        assert self._engine is not None
        started = time.monotonic()
        if self._threads is not None:
            self._threads.look()
        try:
            happenings = self._engine.step()
        except Exception as error:  # noqa: BLE001  # whatever it is, the thread must live and the callers must know
            fault = EngineFault(f"{type(error).__name__} in the engine: {error}. Report this.")
            for job in {id(job): job for job in self._jobs.values()}.values():
                self._refuse(job, fault)
            return
        self._counters.stepped(happenings, time.monotonic() - started)
        self._happened(happenings)

    def _happened(self, happenings: list[Happening]) -> None:
        for happening in happenings:
            if (job := self._jobs.get(happening.id)) is None:
                continue
            try:
                self._tell(job, happening)
            except Exception as error:  # noqa: BLE001  # likewise
                self._refuse(job, EngineFault(f"{type(error).__name__} while reporting: {error}. Report this."))

    def _close(self) -> None:
        for job in {id(job): job for job in self._jobs.values()}.values():
            self._refuse(job, EngineFault("The engine was closed while this request ran. Run it again."))
        for _, done in self._leaving:
            if done.set_running_or_notify_cancel():
                done.set_exception(EngineFault("The engine was closed before the checkpoint left. Start it again."))
        self._leaving = []
        self._whole.close()
        self._engine = self._residency = None

    def _load(self, name: str, done: Future[None]) -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            self._keeper().load(name)
        except LimnerError as error:
            done.set_exception(error)
        except Exception as error:  # noqa: BLE001  # likewise
            done.set_exception(EngineFault(f"{type(error).__name__} while loading `{name}`: {error}. Report this."))
        else:
            done.set_result(None)

    def _unload(self) -> None:
        """Free the memory of what is to leave, and of what has been idle for too long, unless it is painted with."""
        if not self._leaving and not self._settings.unload_after_s:
            return
        self._leaving = [(name, done) for name, done in self._leaving if not done.cancelled()]
        if self._drop_unused({name for name, _ in self._leaving}):
            from limner.engine.device import give_back_memory

            give_back_memory()
        kept = {entry.name for entry in self._residency.loaded()} if self._residency else set[str]()
        gone = [done for name, done in self._leaving if name not in kept]
        self._leaving = [(name, done) for name, done in self._leaving if name in kept]
        for done in gone:
            if done.set_running_or_notify_cancel():
                done.set_result(None)

    def _drop_unused(self, leaving: Collection[str]) -> int:
        if (residency := self._residency) is None:
            return 0
        after_s, now = self._settings.unload_after_s, time.time()
        busy = {id(job.checkpoint) for job in self._jobs.values()}
        unused = [
            entry
            for entry in residency.loaded()
            if id(entry) not in busy
            and (entry.name in leaving or (after_s and now - residency.used_at(entry) >= after_s))
        ]
        for entry in unused:
            residency.drop(entry)
        return len(unused)

    def _painted_with(self) -> list[Checkpoint | None]:
        return [job.checkpoint for job in self._jobs.values()]

    def _keeper(self) -> Residency:
        import_engine()
        from limner.engine.residency import Residency
        from limner.engine.threads import Threads

        if self._residency is None:
            self._threads = Threads(self._settings.threads)
            self._residency = Residency(places_of(self._settings), self._painted_with)
        return self._residency

    def _refuse(self, job: Job, error: LimnerError) -> None:
        self._drop(job)
        job.mailbox.put(error)

    def _drop(self, job: Job) -> None:
        for picture in [picture for picture, owner in self._jobs.items() if owner is job]:
            del self._jobs[picture]
            if self._engine is not None:
                self._engine.abort(picture)
            self._whole.abort(picture)
            self._rest(job)

    def _rest(self, job: Job) -> None:
        """Note when a checkpoint was last painted with."""
        if self._residency is not None and job.checkpoint is not None:
            self._residency.touch(job.checkpoint)

    def _accept(self, job: Job) -> None:
        """Load what the order needs and put its pictures in line; runs on the engine's thread."""
        try:
            self._prepare(job)
        except LimnerError as error:
            self._refuse(job, error)
        except Exception as error:  # noqa: BLE001  # likewise
            self._refuse(job, EngineFault(f"{type(error).__name__} while preparing the request: {error}. Report this."))

    def _prepare(self, job: Job) -> None:
        residency = self._keeper()
        from limner.engine.engine import Engine, Painting
        from limner.engine.pixels import tensor_of

        if self._engine is None:
            self._engine = Engine(token_budget=self._settings.token_budget)
        if not self._jobs and self._threads is not None:
            self._threads.look()
        job.changes_before = self._threads.changes if self._threads else 0
        checkpoint = job.checkpoint = residency.get(job.request.model)
        self._hashes.begin(checkpoint)
        for note in checkpoint.notes:
            job.note(note, "precision")
        if (pipeline := checkpoint.pipeline) is not None:
            job.pictures = self._whole.accept(job, pipeline)
            self._jobs |= dict.fromkeys(job.pictures, job)
            return
        self._attach_adapters(job, checkpoint)
        if image := job.order.reference:
            first = job.order.plans[0].stages[0]
            if image.size != (first.width, first.height):
                raise Unsupported(
                    f"The reference picture is {image.width}x{image.height}, the first stage "
                    f"{first.width}x{first.height}. Fit it before the order is made."
                )
        reference = tensor_of(image) if image else None
        context = tuple(tensor_of(image) for image in job.order.context)
        inpainting = self._inpainting(job.order)
        if job.order.mask is not None and job.order.mask.getextrema() == (0, 0):
            job.note("The mask is black everywhere: nothing is painted anew. White is what is painted.", "empty_mask")
        self._note_idle(job)
        if not job.request.prompt.strip():
            job.note("The prompt is empty: the picture is whatever comes.", "empty_prompt")
        for index, plan in enumerate(job.order.plans):
            picture = self._engine.add(
                Painting(
                    plan,
                    checkpoint.family,
                    job.adapters,
                    reference,
                    inpainting,
                    context,
                    previews=self._settings.previews,
                    stage_adapters=self._by_stage(job, len(plan.stages)),
                )
            )
            job.pictures[picture] = index
            self._jobs[picture] = job

    @staticmethod
    def _note_idle(job: Job) -> None:
        """Tell what the request says and the plan leaves without effect."""
        stages = job.order.plans[0].stages
        if job.request.negative_prompt.strip() and all(stage.cfg == 1 for stage in stages):
            job.note("cfg is 1: the negative prompt has no effect. Raise cfg for it.", "idle_negative")
        first = stages[0]
        if job.order.reference is not None and first.denoise < 1 and int(first.steps / first.denoise) == first.steps:
            job.note(
                f"With {first.steps} steps, denoise {first.denoise:g} paints all of the picture anew, as in ComfyUI: "
                "its part of the schedule is less than one step. Take more steps.",
                "idle_reference",
            )

    @staticmethod
    def _by_stage(job: Job, stages: int) -> tuple[AppliedAdapters, ...]:
        """What is applied in each stage; empty where all is in every stage."""
        if all(only is None for only in job.only_in):
            return ()
        return tuple(
            tuple(each for each, only in zip(job.adapters, job.only_in, strict=True) if only is None or stage in only)
            for stage in range(stages)
        )

    @staticmethod
    def _inpainting(order: Order) -> Inpainting | None:
        from limner.engine.inpainting import Inpainting
        from limner.engine.pixels import mask_of, tensor_of

        if order.mask is None or order.kept is None:
            return None
        size = (order.plans[0].width, order.plans[0].height)
        if order.reference is None or not order.mask.size == order.kept.size == size:
            raise Unsupported(
                f"A mask goes with a reference picture, and both with pictures of {size[0]}x{size[1]}. "
                "Fit them before the order is made."
            )
        return Inpainting(tensor_of(order.kept), mask_of(order.mask))

    def _attach_adapters(self, job: Job, checkpoint: Checkpoint) -> None:
        assert self._residency is not None
        applied: list[tuple[Any, float]] = []
        only_in: list[tuple[int, ...] | None] = []
        outcomes: list[AdapterOutcome] = []
        for wanted, file in zip(job.request.adapters, job.order.adapter_files, strict=True):
            loaded = self._residency.adapter(Path(file), checkpoint)
            outcome = loaded.outcome(wanted.weight).model_copy(update={"name": wanted.name})
            outcomes.append(outcome)
            if outcome.status is not AdapterStatus.APPLIED:
                message = f"LoRA `{wanted.name}` was {outcome.status}: {outcome.reason}"
                if job.request.on_adapter_mismatch == "fail":
                    raise AdapterMismatch(message, outcome=outcome.model_dump(mode="json"))
                job.warn(message, "adapter_mismatch")
            if loaded.adapter is not None:
                applied.append((loaded.adapter, wanted.weight))
                only_in.append(wanted.stages)
        job.adapters, job.outcomes, job.only_in = tuple(applied), tuple(outcomes), tuple(only_in)

    # --- happenings to events ----------------------------------------------------------------------------------------

    def _tell(self, job: Job, happening: Happening) -> None:
        from limner.engine import engine as e
        from limner.engine.pixels import png_bytes

        index = job.pictures[happening.id]
        plan = job.order.plans[index]
        match happening:
            case e.StageBegan(stage=stage) | e.StageEnded(stage=stage):
                status = "processing" if isinstance(happening, e.StageBegan) else "completed"
                size = plan.stages[stage]
                job.mailbox.put(
                    StageUpdate(
                        index=index, stage=stage, stages=len(plan.stages), status=status,
                        width=size.width, height=size.height,
                    )
                )  # fmt: skip
            case e.Stepped():
                job.mailbox.put(self._progress(job, index, happening))
            case e.Previewed():
                png = png_bytes(happening.pixels)
                job.mailbox.put(Preview(index=index, stage=happening.stage, step=happening.step, png=png))
            case e.PreviewFailed(error=error):
                job.note(f"A preview failed; the picture is painted without. {error.message}", "no_preview")
            case e.Noted(unknown=words):
                listed = ", ".join(f"“{word}”" for word in words)
                job.note(f"This checkpoint does not know {listed}; the picture is made from the rest.", "unknown_words")
            case e.Painted():
                assert job.checkpoint is not None
                hashing = self._hashes.begin(job.checkpoint)
                if not hashing.done():
                    # Told again when its recipe can be written; nobody else waits for that.
                    hashing.add_done_callback(lambda _: self._commands.put(lambda: self._happened([happening])))
                    return
                if happening.tiled:
                    job.warn(
                        "Memory ran out while a picture was decoded: it was decoded in tiles, whose seams may show.",
                        "decoded_in_tiles",
                    )
                job.painted += 1
                job.mailbox.put(self._image(job, index, happening, *self._hashes.of(job.checkpoint)))
            case e.Broke(error=error):
                job.failed += 1
                job.mailbox.put(Failed(message=error.message, code=error.code, retryable=error.retryable, index=index))
        if isinstance(happening, e.Painted | e.Broke):
            del self._jobs[happening.id]
            self._rest(job)
            job.fractions[index] = 1.0
            if job.finished:
                status = "completed" if not job.failed else "partial" if job.painted else "failed"
                duration_s = round(time.monotonic() - job.started, 3)
                job.mailbox.put(Done(status=status, images=job.painted, failed=job.failed, duration_s=duration_s))

    @staticmethod
    def _progress(job: Job, index: int, stepped: Stepped) -> Progress:
        plans = job.order.plans
        job.fractions[index] = stepped.fraction
        stages = plans[index].stages
        # A schedule may have more or fewer steps than its stage asks for; the total counts those that were asked for.
        part = stages[stepped.stage].steps * stepped.step // stepped.steps
        job.steps[index] = sum(stage.steps for stage in stages[: stepped.stage]) + part
        done = sum(job.fractions.values()) / len(plans)
        elapsed_s = time.monotonic() - job.started
        return Progress(
            current=sum(job.steps.values()),
            total=sum(stage.steps for plan in plans for stage in plan.stages),
            index=index,
            stage=stepped.stage,
            stages=len(plans[index].stages),
            step=stepped.step,
            steps=stepped.steps,
            eta_s=round(elapsed_s * (1 - done) / done, 2) if done > 0 else None,
        )

    def _threads_of(self, job: Job) -> int | None:
        """The CPU threads that a job was painted with, where that is one number."""
        checkpoint, threads = job.checkpoint, self._threads
        if threads is None or checkpoint is None or checkpoint.device != "cpu" or checkpoint.pipeline is not None:
            return None
        return threads.count if threads.changes == job.changes_before else None

    def _image(self, job: Job, index: int, painted: Any, sha256: str, unread: str) -> ImageGenerated:
        from limner.engine.pixels import rgb_bytes

        checkpoint = job.checkpoint
        assert checkpoint is not None
        if unread:
            job.warn(
                f"The weights of `{checkpoint.name}` cannot be read any more ({unread}): the recipe names no hash of "
                "them.",
                "unhashed",
            )
        elif not sha256:
            job.warn(
                f"The files of `{checkpoint.name}` have changed since they were loaded: the recipe names no hash of "
                "the weights that painted this.",
                "replaced",
            )
        recipe = Recipe(
            request=job.request,
            plan=job.order.plans[index],
            index=index,
            checkpoint=checkpoint.name,
            checkpoint_sha256=sha256,
            family=checkpoint.loaded.name,
            device=checkpoint.device,
            precision=checkpoint.precision,
            threads=self._threads_of(job),
            adapters=job.outcomes,
            outcome=painted.outcomes,
            warnings=tuple(job.warnings),
            versions=versions(),
        )
        _, height, width = painted.pixels.shape
        return ImageGenerated(index=index, width=width, height=height, rgb=rgb_bytes(painted.pixels), recipe=recipe)


def import_engine() -> None:
    """Import all that painting needs, which takes seconds.

    Of the million objects that this makes none becomes garbage: looking for some meanwhile would take an eighth more.
    """
    if _imported.is_set():
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        from limner.engine import device, engine, pixels, residency  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        if collects:
            gc.enable()
    _imported.set()


_imported = threading.Event()


def abilities(settings: NativeSettings, models: tuple[str, ...] = ()) -> Capabilities:
    """What the engine can do, whatever the checkpoint; known without starting it."""
    return Capabilities(
        models, SAMPLERS, SCHEDULES, previews=settings.previews, adapters=True, references=True, masks=True
    )


@cache
def versions() -> dict[str, str]:
    """Versions of what shapes a picture; finding them out takes milliseconds."""
    from importlib.metadata import version

    return {name: version(name) for name in ("limner", "torch", "diffusers", "transformers")}


# --- what the command line asks ---------------------------------------------------------------------------------------

BUILTIN_DIR = Path(__file__).parent.parent / "weights"


def places_of(settings: NativeSettings) -> Places:
    """The engine's view of the settings."""
    from limner.engine.residency import Places

    catalogue = Catalogue(settings, BUILTIN_DIR)
    precision = {
        component: getattr(settings, f"{component}_dtype") or settings.dtype
        for component in ("transformer", "text_encoder", "vae")
    }
    return Places(
        models_dir=catalogue.models_dir,
        builtin_dir=BUILTIN_DIR,
        default_model=str(settings.model_path) if settings.model_path else settings.model,
        device=settings.device,
        precision=precision,
        given=catalogue.given,
        elsewhere=catalogue.elsewhere,
        memory_budget_bytes=None if settings.memory_budget_mb is None else settings.memory_budget_mb * 1_000_000,
        offload=settings.offload,
        vae_tiling=settings.vae_tiling,
    )


def list_checkpoints(settings: NativeSettings) -> list[CheckpointEntry]:
    """Every checkpoint on disk, broken ones with their problem."""
    return Catalogue(settings, BUILTIN_DIR).entries()


def family_of(settings: NativeSettings, name: str) -> str | None:
    """The family of a checkpoint by its name, or None; cheap, and without importing the engine."""
    return Catalogue(settings, BUILTIN_DIR).family_of(name)


def checkpoint_sha256(settings: NativeSettings, name: str) -> str:
    """The SHA-256 of a checkpoint's transformer; reads all of it unless it was asked before."""
    return Catalogue(settings, BUILTIN_DIR).find(name).sha256()


def judge_adapters(
    settings: NativeSettings, adapters: Mapping[str, Path], only: str | None = None
) -> dict[str, dict[str, AdapterOutcome]]:
    """How well adapters would fit each sound checkpoint, from headers alone: adapter, checkpoint, outcome.

    `only` is the one checkpoint to judge them for.
    """
    from limner.engine.adapters import judge_adapter
    from limner.engine.families.registry import family_module

    catalogue = Catalogue(settings, BUILTIN_DIR)
    judged: dict[str, dict[str, AdapterOutcome]] = {name: {} for name in adapters}
    for entry in catalogue.entries() if adapters else ():
        if entry.problem or only not in (None, entry.name):
            continue
        files = catalogue.find(entry.name)
        targets = family_module(entry.family).header_targets(files)
        for name, path in adapters.items():
            found = judge_adapter(path, targets, entry.family, checkpoint=entry.name)
            judged[name][entry.name] = found.outcome(1.0).model_copy(update={"name": name})
    return judged


def precision_of(settings: NativeSettings, name: str) -> tuple[dict[str, str], list[str]]:
    """The precision that a checkpoint would be painted with, by component, and notes about it; imports the engine."""
    from limner.engine.families.registry import family_module
    from limner.engine.precision import choose_device, choose_precision

    files = Catalogue(settings, BUILTIN_DIR).find(name)
    policy = family_module(files.family).precision_policy(files)
    chosen = choose_precision(choose_device(settings.device), places_of(settings).precision, policy)
    return chosen.names(), list(chosen.notes)


def device_memory_bytes(settings: NativeSettings) -> dict[str, int]:
    """Memory of a CUDA device that this process holds; empty on others and before the engine was imported."""
    # While another thread imports it, asking would hold up the caller until that is done.
    if not _imported.is_set() or not settings.device.startswith(("auto", "cuda")):
        return {}
    from limner.engine.device import cuda_memory_bytes

    return cuda_memory_bytes()


def device_report(settings: NativeSettings) -> dict[str, object]:
    """Device, precision, memory and versions that pictures would be painted with, and what is wrong."""
    from limner.engine.device import report

    found = report(places_of(settings), settings.threads)
    return {
        "device": found.device,
        "device_name": found.name,
        "precision": found.precision,
        "memory_total_bytes": found.memory_total_bytes,
        "memory_free_bytes": found.memory_free_bytes,
        "threads": found.threads,
        "versions": versions(),
        "problems": list(found.problems),
        **({"notes": list(found.notes)} if found.notes else {}),
    }

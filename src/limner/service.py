"""The service: settings in, durable jobs out. Wires store, queue, storage and studio for servers and workers.

A server submits and reads; a worker runs. Both build the same `Service` from the same settings and meet in the
database. Nothing here imports torch: the studio makes a backend when the first job needs it.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from limner.config import JobSettings, Settings, load_settings
from limner.domain import AdapterRequest, GenerationRequest, ImageRecord, Job, Plan, Reference, Upload, WorkerRecord
from limner.errors import ConfigError, InvalidRequest, NotFound
from limner.events import Event
from limner.jobs.database import Database
from limner.jobs.gallery import Gallery
from limner.jobs.queue import TableQueue
from limner.jobs.records import NewJob
from limner.jobs.store import JobStore
from limner.jobs.wishes import Fulfilment, WishRows
from limner.jobs.worker import Worker
from limner.jobs.workers import WorkerRows
from limner.media.pictures import require_same_shape
from limner.ports import ModelKeeper, Queue, Storage
from limner.storage.local import LocalStorage
from limner.studio import AUTO, NATIVE, Studio, backend_names
from limner.workflows.families import edits_pictures

NATIVE_LANE, REMOTE_LANE = "native", "remote"
ALIVE_S = 30.0
REPORTS_KEPT_S = 2.0
"""How old a worker's last sign of life may be, unless leases are longer: a worker gives four signs in a lease."""


class Service:
    """Everything that a server or a worker needs.

    Args:
        settings: the settings; read from environment and file when absent.
        studio: paints; made from the settings when absent.
    """

    def __init__(self, settings: Settings | None = None, studio: Studio | None = None) -> None:
        self.settings = settings or load_settings()
        self.studio = studio or Studio(self.settings)
        self.database = Database(self.settings.database_url)
        self.queue = queue_of(self.settings.jobs, self.database)
        self.store = JobStore(self.database, self.queue)
        self.workers = WorkerRows(self.database)
        self.wishes = WishRows(self.database)
        self.gallery = Gallery(self.database, storage_of(self.settings))
        self._workers: list[WorkerRecord] = []
        self._reported_until = 0.0

    async def __aenter__(self) -> Self:
        await self.database.upgrade()
        await self.queue.prepare()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.studio.aclose()
        await self.gallery.storage.aclose()
        await self.database.aclose()

    async def submit(
        self,
        request: GenerationRequest,
        owner: str,
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
        webhook: str | None = None,
        reuse: bool = True,
    ) -> tuple[Job, bool]:
        """Make a request a durable job; the job, and whether it is new.

        Args:
            request: what the caller wants; references name uploads or stored pictures, never paths.
            owner: whose job it is.
            priority: more goes first.
            idempotency_key: the same key answers with the same job.
            webhook: address that is told of the job's end.
            reuse: whether pictures that were painted before may be the answer.

        Raises `RequestError` when it cannot be fulfilled at all, `Conflict` and `QueueFull` as the store does.
        """
        request, sizes = await self._grounded(request, owner)
        fingerprint = _digest([request.model_dump(mode="json", exclude_unset=True), webhook])
        families = await self._families()
        resolved, plans = await asyncio.to_thread(
            self.studio.planned, request, reference_sizes=sizes, families=families
        )
        await self._require_checkpoint(resolved)
        keys = tuple(await self._recipe_keys(request, resolved, plans))
        new = NewJob(
            owner=owner,
            request=resolved,
            plans=plans,
            lane=NATIVE_LANE if NATIVE in await self._backends(resolved) else REMOTE_LANE,
            fingerprint=fingerprint,
            recipe_keys=keys,
            model=resolved.model or self.studio.default_model,
            priority=priority,
            max_attempts=self.settings.jobs.max_attempts,
            idempotency_key=idempotency_key,
            webhook=webhook,
            reuse=reuse,
            waiting_limit=self.settings.jobs.waiting_limit,
        )
        return await self.store.create(new)

    async def _grounded(
        self, request: GenerationRequest, owner: str
    ) -> tuple[GenerationRequest, list[tuple[int, int]]]:
        """The request with its references found and pinned by their hashes, and their sizes in pixels."""
        found = [await self._found(reference, owner) for reference in request.references]
        changes: dict[str, Any] = {"references": tuple(reference for reference, _ in found)}
        if request.mask:
            changes["mask"], size = await self._found(request.mask, owner)
            require_same_shape(size, found[0][1])
        adapters = await self._named_adapters(request)
        for backend in (self.studio.backend_of(request), *request.fallback):
            if backend not in (AUTO, self.settings.backend, *backend_names()):
                known = ", ".join(backend_names())
                raise NotFound(f"There is no backend `{backend[:80]}`. Choose one of: {known}.", known=backend_names())
        if request.model and _is_path(request.model):
            raise InvalidRequest(f"Model {request.model[:80]!r} is not a name. Choose one of `/api/models`.")
        return request.model_copy(update=changes | {"adapters": adapters}), [size for _, size in found]

    async def _found(self, reference: Reference, owner: str) -> tuple[Reference, tuple[int, int]]:
        """A reference pinned by its hash, and its size in pixels."""
        if reference.path is not None:
            raise InvalidRequest("References are uploads or pictures of the gallery here. Upload the file first.")
        if reference.upload is not None:
            record: Upload | ImageRecord = await self.gallery.use_upload(reference.upload, owner)
        else:
            assert reference.image is not None
            record = await self.gallery.get(reference.image, owner)
        return reference.model_copy(update={"sha256": record.sha256}), (record.width, record.height)

    async def _named_adapters(self, request: GenerationRequest) -> tuple[AdapterRequest, ...]:
        """The adapters under their plain names: a file that lies elsewhere on this machine is nobody's to ask for."""
        if not request.adapters:
            return ()
        known = await asyncio.to_thread(self.studio.adapter_files)
        named: list[AdapterRequest] = []
        for adapter in request.adapters:
            if _is_path(adapter.name):
                raise InvalidRequest(f"Adapter {adapter.name[:80]!r} is not a name. Choose one of `/api/adapters`.")
            plain = adapter.name if adapter.name in known else adapter.name.removesuffix(".safetensors")
            if plain not in known:
                near = difflib.get_close_matches(plain, known, n=3, cutoff=0.4) or sorted(known)[:10]
                listed = f"Known: {', '.join(near)}." if near else "None are known yet."
                raise NotFound(f"There is no adapter `{adapter.name[:80]}`. {listed}", near=near)
            named.append(adapter.model_copy(update={"name": plain}))
        return tuple(named)

    async def _recipe_keys(
        self, request: GenerationRequest, resolved: GenerationRequest, plans: tuple[Plan, ...]
    ) -> list[str | None]:
        """What two pictures share exactly when they are the same; None while the checkpoint's hash is not known."""
        model = resolved.model or self.studio.default_model
        known = next(
            (entry for entry in await self._reported() if entry["name"] == model and entry.get("sha256")), None
        )
        files = await asyncio.to_thread(self.studio.adapter_files) if resolved.adapters else {}
        if known is None or any(adapter.name not in files for adapter in resolved.adapters):
            return [None] * len(plans)
        shared: dict[str, Any] = {
            "limner": version("limner"),
            "checkpoint": [known["sha256"], known.get("marks", "")],
            "backend": [resolved.backend, *resolved.fallback],
            "adapters": [
                adapter.model_dump(mode="json") | {"file": _mark(files[adapter.name])} for adapter in resolved.adapters
            ],
            "references": [resolved.references_as, *(reference.sha256 for reference in resolved.references)],
            "output": resolved.output.model_dump(mode="json"),
        }
        if resolved.mask:
            shared["mask"] = resolved.mask.sha256
        return [_digest([shared, plan.model_dump(mode="json")]) for plan in plans]

    async def living_workers(self) -> list[WorkerRecord]:
        """The workers that have given a sign of life lately; the newest first."""
        return await self.workers.list(max(ALIVE_S, self.settings.jobs.lease_s))

    async def _families(self) -> dict[str, str] | None:
        """Family by checkpoint, as living workers report; None while none has."""
        reported = await self._reported()
        return {entry["name"]: entry.get("family", "") for entry in reported if not entry.get("problem")} or None

    async def editor(self) -> str | None:
        """The name of a checkpoint that is made to change pictures, FLUX.1 Kontext; None where there is none."""
        families = await self._families() or await asyncio.to_thread(self.studio.families)
        return next((name for name, family in families.items() if edits_pictures(name, family)), None)

    async def _reported(self) -> list[dict[str, Any]]:
        """The checkpoints of all living workers; looked up at most every two seconds."""
        if time.monotonic() >= self._reported_until:
            self._reported_until = time.monotonic() + REPORTS_KEPT_S
            self._workers = await self.living_workers()
        return [entry for worker in self._workers for entry in worker.models]

    async def _require_checkpoint(self, request: GenerationRequest) -> None:
        """Raises `NotFound` for a checkpoint that no worker has: those of this machine have what lies here.

        What lies on other machines only they know, beside what they report; there a job may still fail for it.
        """
        model = request.model
        known = {entry["name"] for entry in await self._reported()}
        painters = [worker for worker in self._workers if worker.lane == NATIVE_LANE]
        # A worker reports what it has some seconds after its start.
        all_here = bool(known and painters) and all(worker.host == socket.gethostname() for worker in painters)
        if model is None or model in known or not all_here or set(await self._backends(request)) != {NATIVE}:
            return
        await asyncio.to_thread(self.studio.require_checkpoint, model)

    def worker(
        self, name: str, lane: str, report: Callable[[], dict[str, Any]] = dict, loaded: Collection[str] = ()
    ) -> Worker:
        """A worker of this service for one lane; it prefers jobs for the checkpoints in `loaded`, a live set."""
        jobs = self.settings.jobs
        wishes = Fulfilment(
            self.wishes,
            name,
            lambda: self.studio.backend("native"),
            self._loaded,
            lambda: self.workers.register(name, lane, jobs.slots, report()),
        )
        return Worker(
            self.store,
            self.workers,
            self.queue,
            self._paint,
            self.gallery.keep,
            self.gallery.discard,
            name=name,
            lane=lane,
            slots=jobs.slots,
            lease_s=jobs.lease_s,
            loaded=loaded,
            report=report,
            beside=wishes.run if lane == NATIVE_LANE else None,
        )

    def _loaded(self) -> Collection[str]:
        backend = self.studio.made("native")
        return backend.loaded() if isinstance(backend, ModelKeeper) else ()

    async def reap(self) -> int:
        """Give back the jobs of workers that have died; how many.

        Where the database is a file, all workers are processes of this machine: their end shows at once. Elsewhere it
        shows in the end of their leases.
        """
        released = 0
        if self.database.is_sqlite:
            for worker in await self.workers.list():
                if worker.host == socket.gethostname() and not _exists(worker.pid):
                    released += await self.store.release_worker(worker.id)
                    await self.workers.remove(worker.id)
        return released + await self.store.reap()

    async def remove_old(self, older_than_s: float) -> int:
        """Remove jobs that ended so long ago with all that belongs to them, and uploads of no more use; how many jobs.

        Rows go first, some at a time, then their files: what an end in between leaves is found by the repair.
        """
        removed = 0
        while True:
            some, keys = await self.store.remove_old(older_than_s)
            await self.gallery.remove_unused(keys)
            removed += some
            if not some:
                break
        await self.gallery.remove_old_uploads(older_than_s)
        return removed

    async def _paint(self, job: Job, missing: tuple[int, ...]) -> AsyncGenerator[Event, None]:
        model = job.request.model
        if model and await asyncio.to_thread(Path(model).exists) and model not in await self._known_models():
            # Whoever sends jobs names checkpoints; which files lie beside a worker is not theirs to find out.
            raise NotFound(f"There is no checkpoint `{model}`. Choose one of `/api/models`.", name=model)
        references = await self.gallery.references(job.request, job.owner)
        mask = await self.gallery.mask(job.request, job.owner)
        plans = tuple(job.plans[number] for number in missing)
        async with aclosing(self.studio.paint(job.request, plans, references, mask, job.id)) as events:
            async for event in events:
                yield event

    async def _backends(self, request: GenerationRequest) -> Collection[str]:
        """The names of the backends that may paint a request."""
        if request.backend == AUTO:
            return await asyncio.to_thread(self.studio.route, request)
        return (request.backend, *request.fallback)

    async def _known_models(self) -> Collection[str]:
        backend = await asyncio.to_thread(self.studio.backend, self.settings.backend)
        return backend.capabilities().models


def storage_of(settings: Settings) -> Storage:
    """The storage that the settings name. Raises `ConfigError` when they contradict each other."""
    wanted = settings.storage
    if wanted.url is None:
        for name in ("endpoint", "region", "access_key_id", "secret_access_key"):
            if getattr(wanted, name) is not None:
                raise ConfigError(f"Setting `storage.{name}` is for a bucket. Set `storage.url` as well, or remove it.")
        return LocalStorage(settings.pictures_dir)
    if wanted.folder is not None:
        raise ConfigError("`storage.folder` and `storage.url` are both set. Keep the one where pictures shall be.")
    if (wanted.access_key_id is None) != (wanted.secret_access_key is None):
        raise ConfigError("Of `storage.access_key_id` and `storage.secret_access_key` one is set. Set both or neither.")
    try:
        from limner.storage.s3 import S3Storage
    except ModuleNotFoundError as error:
        raise ConfigError("Buckets need a package. Install it with: pip install 'limner[s3]'") from error
    bucket, _, prefix = wanted.url.removeprefix("s3://").partition("/")
    return S3Storage(
        bucket,
        prefix.strip("/"),
        endpoint=wanted.endpoint,
        region=wanted.region,
        access_key_id=wanted.access_key_id,
        secret_access_key=wanted.secret_access_key.get_secret_value() if wanted.secret_access_key else None,
        allow_http=wanted.allow_http,
        timeout_s=wanted.timeout_s,
    )


def queue_of(settings: JobSettings, database: Database) -> Queue:
    """The queue of the settings. Raises `ConfigError` where it cannot be had."""
    wanted = settings.queue
    if wanted == "auto":
        wanted = "table" if database.is_sqlite else "procrastinate"
    if wanted == "table":
        return TableQueue(database, owner_cap=settings.per_owner)
    if database.is_sqlite:
        raise ConfigError(
            "Setting `jobs.queue` is `procrastinate`, which needs PostgreSQL. "
            "Set `database.url` to postgresql://user:password@host/name, or write `auto`.",
            setting="jobs.queue",
        )
    try:
        from limner.jobs.procrastinate_queue import ProcrastinateQueue
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Setting `jobs.queue` is `{settings.queue}`: on PostgreSQL that needs a package that is missing "
            f"({error.name}). Install it with: pip install 'limner[postgres]', or write `table`.",
            setting="jobs.queue",
        ) from error
    return ProcrastinateQueue(database, owner_cap=settings.per_owner, stalled_s=settings.lease_s)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "~", ".")) or "\\" in name or ".." in name.split("/")


def _mark(file: Path) -> list[int]:
    """Changes when a file does; reading all of it for its hash would hold up the answer."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _exists(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it is somebody else's
        return True

"""Remember which job at RunPod paints which picture, so that a worker that died finds it again.

RunPod names a job only in its answer: that a picture is about to be sent is written down before, its job's id as soon
as it is known. One small file a picture, written whole or not at all. Where the folder is lost, or the next attempt
runs on a machine with another one, the picture is sent, painted and paid for again; nothing else is wrong then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any, cast

from limner.domain import Plan
from limner.errors import StorageError

KEPT_S = 24 * 3600.0
"""Longer than RunPod keeps any result: 30 minutes after its job has ended."""

log = logging.getLogger("limner")


class JobIds:
    """The ids of jobs by what they paint.

    Args:
        folder: where they are kept; made when it is missing.
        endpoint: address of the endpoint that they belong to.
    """

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder, self._endpoint = folder, endpoint
        self._swept = False

    def key(self, token: str, plan: Plan) -> str:
        """What a picture of a job is remembered by; the same in every attempt."""
        told = json.dumps([self._endpoint, token, plan.model_dump_json()])
        return hashlib.sha256(told.encode()).hexdigest()

    async def find(self, key: str) -> str | None:
        """The id of the job; empty when it was sent and its id never came; None when nothing was sent."""
        return await asyncio.to_thread(self._read, self._folder / f"{key}.json")

    async def keep(self, key: str, job_id: str = "") -> None:
        """Remember; without an id that the picture is about to be sent. Raises `StorageError`."""
        path = self._folder / f"{key}.json"
        try:
            await asyncio.to_thread(self._write, path, json.dumps({"job": job_id}))
        except OSError as error:
            raise StorageError(
                f"The id of a job at RunPod cannot be kept in {path.parent} ({error.strerror or error}). Check the "
                "disk's space and the folder's permissions, or set `runpod.jobs_dir`.",
                path=str(path),
            ) from error

    async def forget(self, key: str) -> None:
        """There is nothing to find again."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread((self._folder / f"{key}.json").unlink, missing_ok=True)

    def _read(self, path: Path) -> str | None:
        try:
            found: object = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s): its picture is sent again", path, error)
            return None
        job_id = cast(dict[str, Any], found).get("job") if isinstance(found, dict) else None
        return job_id if isinstance(job_id, str) else None

    def _write(self, path: Path, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            self._sweep()
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep(self) -> None:
        oldest = time.time() - KEPT_S
        for path in (*self._folder.glob("*.json"), *self._folder.glob(".*.part")):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

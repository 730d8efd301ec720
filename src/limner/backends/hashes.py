"""Hashes of the weights that pictures are painted with, read beside the engine's thread.

Recipes name them, and tens of gigabytes take many seconds: only the picture whose recipe it is waits for that. This
module knows checkpoints in memory and their files, no requests. Invariant: nothing that goes wrong here is raised.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from limner.errors import LimnerError

if TYPE_CHECKING:
    from limner.engine.checkpoint_files import CheckpointFiles
    from limner.engine.residency import Checkpoint


class Hashes:
    """What is known of the hashes of checkpoints in memory; asked on one thread only."""

    def __init__(self) -> None:
        self._reading: WeakKeyDictionary[Checkpoint, Future[str]] = WeakKeyDictionary()

    def begin(self, checkpoint: Checkpoint) -> Future[str]:
        """Read the files of a checkpoint, once; its result says what went wrong, empty if nothing did."""
        if (reading := self._reading.get(checkpoint)) is None:
            reading = self._reading[checkpoint] = Future()
            # The files alone: a checkpoint that is dropped meanwhile gives its memory back at once. The thread may be
            # cut off when the program ends, for it only reads.
            arguments = (checkpoint.loaded.files, reading)
            threading.Thread(target=_read, args=arguments, name="limner-hash", daemon=True).start()
        return reading

    def of(self, checkpoint: Checkpoint) -> tuple[str, str]:
        """The hash of a checkpoint's denoiser, and why there is none; waits for what `begin` began.

        Both are empty where a file has changed since it was loaded.
        """
        if problem := self.begin(checkpoint).result():
            return "", problem
        try:
            return checkpoint.sha256, ""
        except (OSError, LimnerError) as error:
            return "", _said(error)


def _read(files: CheckpointFiles, reading: Future[str]) -> None:
    try:
        files.sha256()  # it is remembered from now on
    except Exception as error:  # noqa: BLE001  # whatever it is, a picture waits for the answer
        reading.set_result(_said(error))
    else:
        reading.set_result("")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__

"""The records that describe checkpoints on the disk. They hold paths and facts, and judge nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from limner.engine.checkpoint_index import CheckpointIndex
from limner.engine.tensor_files import files_sha256, open_tensors

WHOLE_PREFIX = "model.diffusion_model."

Layout = Literal["diffusers", "split", "whole"]


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint lie: folders (diffusers) or files; one file may hold several parts.

    `parts` are called as diffusers calls them: `transformer` (the denoiser, whatever it is), `text_encoder`,
    `text_encoder_2`, `tokenizer`, `tokenizer_2`, `vae`. `index` remembers hashes, where there is one.
    """

    name: str
    family: str
    layout: Layout
    path: Path
    parts: Mapping[str, Path]
    builtin: bool = False
    index: CheckpointIndex | None = field(default=None, compare=False, repr=False)

    @property
    def transformer(self) -> Path:
        """The denoiser."""
        return self.parts["transformer"]

    @property
    def text_encoder(self) -> Path:
        """The first text encoder."""
        return self.parts["text_encoder"]

    @property
    def tokenizer(self) -> Path:
        """The folder of the first text encoder's tokenizer."""
        return self.parts["tokenizer"]

    @property
    def vae(self) -> Path:
        """The autoencoder."""
        return self.parts["vae"]

    def sha256(self) -> str:
        """The hash of the denoiser's weights, remembered until a file changes."""
        files = open_tensors(self.transformer).files
        if self.index is None:
            return files_sha256(files)
        found = files_sha256(files, self.index.sha256)
        self.index.save()
        return found


@dataclass(frozen=True)
class CheckpointEntry:
    """One line of the list of checkpoints; `problem` says why it cannot be painted with, and is empty otherwise.

    `size_bytes` are of all parts, `dtype` and `parameters` of the denoiser, which lies in `weights`.
    """

    name: str
    family: str
    path: Path
    size_bytes: int
    problem: str = ""
    builtin: bool = False
    layout: str = ""
    dtype: str = ""
    parameters: int = 0
    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Given:
    """Parts that a setting names explicitly, where they are not where limner would look."""

    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizer: Path | None = None

    def part(self, name: str) -> Path | None:
        """The part of that name, None where it is not given."""
        return vars(self).get(name)


@dataclass(frozen=True)
class Elsewhere:
    """Where else checkpoints lie: further folders, and the index, which knows what was added to them."""

    folders: tuple[Path, ...] = ()
    index: Path | None = None

"""Find limner's name for a file that a workflow names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

SUFFIXES = (".safetensors", ".gguf", ".sft", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Shelf:
    """What there is to paint with.

    Args:
        checkpoints: the family of each checkpoint, by name; empty where that is not known.
        adapters: names of LoRAs.
        renamed: names of the workflow's files, with or without folder and suffix, to limner's names.
        paths: whether those may be files, too.
    """

    checkpoints: Mapping[str, str] = field(default_factory=dict[str, str])
    adapters: Collection[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    paths: bool = False

    def checkpoint(self, file: str) -> str | None:
        """The checkpoint that a file of the workflow means; None where there is none, or several might be meant."""
        return self._found(file, self.checkpoints)

    def adapter(self, file: str) -> str | None:
        """The LoRA that a file of the workflow means, as `checkpoint`."""
        return self._found(file, self.adapters)

    def near(self, file: str, names: Collection[str]) -> list[str]:
        """The names that resemble that of the file most; some of all names where none does."""
        plain = plain_name(self._wanted(file)).rpartition("/")[2]
        return difflib.get_close_matches(plain, list(names), n=3, cutoff=0.4) or sorted(names)[:10]

    def _wanted(self, file: str) -> str:
        plain = plain_name(file)
        for name, limners in self.renamed.items():
            if plain_name(name) in (plain, plain.rpartition("/")[2]):
                return limners
        return file

    def _found(self, file: str, names: Collection[str]) -> str | None:
        wanted = self._wanted(file)
        if wanted in names or (self.paths and wanted != file and wanted.startswith(("/", "./", "../", "~"))):
            return wanted
        plain = plain_name(wanted).casefold()
        if exact := [name for name in names if plain_name(name).casefold() == plain]:
            return exact[0] if len(exact) == 1 else None
        stem = plain.rpartition("/")[2]
        alike = [name for name in names if plain_name(name).casefold().rpartition("/")[2] == stem]
        return alike[0] if len(alike) == 1 else None


def plain_name(file: str) -> str:
    """A file's name with slashes and without the suffix of weights."""
    name = file.replace("\\", "/").strip()
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]

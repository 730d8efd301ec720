"""Look through the folders for checkpoints, and put each of them together from its parts.

Every folder is looked through where it lies; nothing is copied. What was found out about files is kept in the index,
where there is one, so that an unchanged file is not opened again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from limner.engine.checkpoint_files import WHOLE_PREFIX, CheckpointEntry, CheckpointFiles, Elsewhere, Given, Layout
from limner.engine.checkpoint_folders import (
    WEIGHT_SUFFIXES,
    Found,
    Root,
    checkpoints_in,
    has_tokenizer,
    is_diffusers,
    is_folder,
    own_root,
    parts_in,
    roots_of,
    why_closed,
)
from limner.engine.checkpoint_index import CheckpointIndex, stamp_of
from limner.engine.checkpoint_judge import Facts, facts_of, holds, require_family
from limner.engine.needs import FAMILIES, TEXT_FOLDERS, VAE_FOLDERS, Need, strangeness
from limner.engine.pipeline_folders import GENERIC, is_own_class, pipeline_class, pipeline_parts
from limner.engine.signatures import title
from limner.engine.tensor_files import open_tensors, some, weights_file
from limner.errors import BrokenCheckpoint, LimnerError, NotFound

_ONE_AUTOENCODER = {"zimage", "flux"}
"""Families that were published with the same autoencoder."""


class Shelves:
    """All places where checkpoints lie, looked through when first asked.

    Args:
        models_dir: limner's own folder.
        builtin_dir: what came with limner.
        elsewhere: further folders, and the index.
    """

    def __init__(self, models_dir: Path, builtin_dir: Path, elsewhere: Elsewhere | None = None) -> None:
        elsewhere = elsewhere or Elsewhere()
        self.index = CheckpointIndex(elsewhere.index) if elsewhere.index is not None else None
        self._models_dir = models_dir
        added = self.index.added if self.index else ()
        self._single = [path for path in added if not is_folder(path)]
        folders = [(builtin_dir, True), (models_dir, False), *((path, False) for path in elsewhere.folders)]
        folders += [(path, False) for path in added if is_folder(path)]
        self._closed = [(folder, builtin) for folder, builtin in folders if why_closed(folder)]
        self.roots = list(_distinct(root for folder, builtin in folders for root in roots_of(folder, builtin)))

    def save(self) -> None:
        """Keep what was learned of files."""
        if self.index is not None:
            self.index.save()

    @cached_property
    def places(self) -> dict[str, Found]:
        """Every checkpoint by its name, the built-in ones first; the same name in a later folder is told apart."""
        found: dict[str, Found] = {}
        seen: set[Path] = set()
        for place in self._candidates():
            real = place.path.resolve()
            if real in seen or (place.loose and not self._is_checkpoint(place.path)):
                continue
            seen.add(real)
            name = place.name
            if name in found:
                name = place.root.name if place.path == place.root.path else f"{place.root.name}/{name}"
            found.setdefault(name, Found(name, place.path, place.root, place.loose))
        return found

    def find(self, name_or_path: str) -> Found:
        """The checkpoint of that name, path or repository; raises `NotFound` with the nearest names."""
        wanted = name_or_path
        for suffix in ("", *WEIGHT_SUFFIXES):
            if (place := self.places.get(wanted.removesuffix(suffix))) is not None:
                return place
        published = [place for place in self.places.values() if place.root.published == name_or_path]
        if len(published) == 1:
            return published[0]
        path = Path(name_or_path).expanduser()
        if path.exists():
            known = next((place for place in self.places.values() if place.path == path), None)
            return known or Found(path.name if is_folder(path) else path.stem, path, own_root(path))
        folded = {name.casefold(): name for name in self.places}
        alike = difflib.get_close_matches(name_or_path.casefold(), folded, n=3, cutoff=0.4)
        near = [folded[name] for name in alike] or sorted(self.places)
        hint = (
            f"{'The nearest' if alike else 'Known'}: {some(near)}."
            if near
            else f"Put checkpoints into `{self._models_dir}`."
        )
        raise NotFound(f"There is no checkpoint `{name_or_path}`. {hint}", name=name_or_path, near=near[:3])

    def facts(self, path: Path) -> Facts:
        """What the header of a denoiser (a file, or a diffusers folder) says; never fails."""
        try:
            weights = weights_file(_denoiser(path))
        except LimnerError as error:
            return Facts("broken", problem=error.message)
        remembered = self.index.recall(weights).get("facts") if self.index else None
        if remembered:
            return Facts(**cast("dict[str, Any]", remembered))
        found = facts_of(weights)
        if is_folder(path) and _has_own_pipeline(path, found):
            found = replace(found, kind="denoiser", family=GENERIC)
        if self.index is not None:
            self.index.learn(weights, facts=asdict(found))
        return found

    def files(self, place: Found, given: Given) -> CheckpointFiles:
        """The parts of a checkpoint; raises as `find_checkpoint`."""
        return self._folder(place, given) if is_folder(place.path) else self._split(place, given)

    def entries(self, given: Given) -> list[CheckpointEntry]:
        """All checkpoints, judged."""
        around = stamp_of(self._surroundings(given))
        entries = [self._entry(place, given, around) for place in self.places.values()]
        self.save()
        return entries

    def entry(self, place: Found, given: Given) -> CheckpointEntry:
        """One checkpoint, judged."""
        return self._entry(place, given, stamp_of(self._surroundings(given)))

    def watched(self, given: Given) -> list[Path]:
        """Every file that the list depends on: it stays the same as long as none of them changes."""
        files: list[Path] = []
        for place in self.places.values():
            files += sorted(place.path.rglob("*")) if is_folder(place.path) else [place.path]
        return [*files, *self._surroundings(given)]

    def _candidates(self) -> Iterator[Found]:
        for root in self.roots:
            yield from checkpoints_in(root)
        for folder, builtin in self._closed:
            yield Found(folder.name, folder, Root(folder, builtin))
        for path in self._single:
            # What is gone is listed too, so that its name can be removed.
            yield Found(path.stem, path, own_root(path), loose=not why_closed(path.parent) and path.exists())

    def _is_checkpoint(self, path: Path) -> bool:
        return self.facts(path).kind in ("denoiser", "broken")

    def _entry(self, place: Found, given: Given, around: str) -> CheckpointEntry:
        facts = self.facts(place.path)
        unjudged = CheckpointEntry(place.name, facts.family, place.path, 0, facts.problem, place.root.builtin)
        try:
            weights = weights_file(_denoiser(place.path))
        except LimnerError:
            return unjudged
        inside = [file for file in sorted(place.path.rglob("*")) if file.is_file()] if is_folder(place.path) else []
        key = f"{around}:{stamp_of(inside)}:{place.name}"
        remembered = self.index.recall(weights).get("entry") if self.index else None
        if remembered and remembered["key"] == key:
            known = {name: value for name, value in remembered.items() if name != "key"}
            known |= {"path": place.path, "weights": tuple(Path(file) for file in known["weights"])}
            return CheckpointEntry(**known)
        entry = self._judged(unjudged, facts, place, given)
        if self.index is not None:
            kept = asdict(entry) | {"path": str(entry.path), "weights": [str(file) for file in entry.weights]}
            self.index.learn(weights, entry={"key": key, **kept})
        return entry

    def _judged(self, unjudged: CheckpointEntry, facts: Facts, place: Found, given: Given) -> CheckpointEntry:
        size, problem, layout = 0, "", ""
        weights: tuple[Path, ...] = ()
        try:
            weights = open_tensors(_denoiser(place.path)).files
            size = sum(file.stat().st_size for file in weights)
            files = self.files(place, given)
            parts = {file for name, part in files.parts.items() if "tokenizer" not in name for file in _weights(part)}
            size, layout = sum(file.stat().st_size for file in parts), files.layout
        except LimnerError as error:
            problem = error.message
        return CheckpointEntry(
            unjudged.name,
            facts.family,
            place.path,
            size,
            problem,
            place.root.builtin,
            layout,
            facts.dtype,
            facts.parameters,
            weights,
        )

    def _surroundings(self, given: Given) -> list[Path]:
        """Everything that may become a part of something, and what is beside it."""
        files: list[Path] = []
        for root in self.roots:
            for kind in (*TEXT_FOLDERS, *VAE_FOLDERS, "tokenizers"):
                files += sorted((root.path / kind).rglob("*"))
            files += parts_in(root, (*TEXT_FOLDERS, *VAE_FOLDERS))
            if is_diffusers(root.path):
                files += sorted(root.path.rglob("*"))
        return [*dict.fromkeys(files), *self._single, *(path for path in vars(given).values() if path)]

    def _folder(self, place: Found, given: Given) -> CheckpointFiles:
        path = place.path
        if not is_diffusers(path) and not why_closed(path):
            raise BrokenCheckpoint(
                f"`{path}` is not a checkpoint: it has no model_index.json. Name a diffusers folder, or a safetensors "
                "or GGUF file.",
                file=str(path),
            )
        source = open_tensors(_denoiser(path))
        if self.facts(path).family not in FAMILIES and not is_own_class(path):
            pipeline_class(path)
            parts = pipeline_parts(path)
            return CheckpointFiles(place.name, GENERIC, "diffusers", path, parts, place.root.builtin, self.index)
        family = require_family(source)
        about = FAMILIES[family]
        beside = [need.part for need in about.needs(source.shapes) or ()] or ["text_encoder", "vae"]
        wanted = {part: given.part(part) or path / part for part in (*beside, *about.tokenizers)}
        if absent := [part.name + "/" for part in wanted.values() if not part.exists()]:
            raise BrokenCheckpoint(f"`{path}` lacks {some(absent)}. Fetch the whole folder again.", file=str(path))
        for part in about.tokenizers:
            _require_tokenizer(wanted[part])
        parts = {"transformer": path / about.denoiser} | wanted
        return CheckpointFiles(place.name, family, "diffusers", path, parts, place.root.builtin, self.index)

    def _split(self, place: Found, given: Given) -> CheckpointFiles:
        path = place.path
        source = open_tensors(path)
        family = require_family(source)
        about = FAMILIES[family]
        needs = about.needs(source.shapes)
        if needs is None:
            raise BrokenCheckpoint(
                f"`{path}` lacks {about.landmarks}, which every {title(family)} denoiser has. Fetch it again.",
                file=str(path),
            )
        whole = any(not tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors) and any(
            tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors
        )
        parts = {"transformer": path}
        for need in needs:
            inside = path if whole and need.fits(source.shapes) else None
            parts[need.part] = given.part(need.part) or inside or self._partner(place, need, family)
        for part, (kind, encoder) in about.tokenizers.items():
            parts[part] = given.part(part) or self._tokenizer(place, part, parts[encoder], kind)
            _require_tokenizer(parts[part])
        layout: Layout = "whole" if whole else "split"
        return CheckpointFiles(place.name, family, layout, path, parts, place.root.builtin, self.index)

    def _nearby(self, place: Found) -> list[Root]:
        """The roots in which parts are looked for, that of the checkpoint itself first; nothing that is built in."""
        own = own_root(place.path) if place.path.is_file() else place.root
        return list(_distinct([place.root, own, *(root for root in self.roots if not root.builtin)]))

    def _lends(self, root: Root, need: Need, family: str) -> bool:
        """Whether parts of this root may serve: whole checkpoints lend to their own kind only.

        Shapes do not tell everything: autoencoders of several families have sixteen channels.
        """
        if not is_diffusers(root.path):
            return True
        owner = self.facts(root.path).family
        return owner == family or (need.part == "vae" and {owner, family} <= _ONE_AUTOENCODER)

    def _partner(self, place: Found, need: Need, family: str) -> Path:
        """A file whose tensors fit: of the nearest root that has any, plain numbers before quantised ones.

        Among several that are as good a name decides, see `strangeness`; then the alphabet.
        """
        others: list[str] = []
        lenders = [root for root in self._nearby(place) if self._lends(root, need, family)]
        for candidates in (*(parts_in(root, need.folders) for root in lenders), self._single):
            fitting: list[tuple[bool, int, Path]] = []
            for file in candidates:
                answer = holds(file, need)
                if answer is not None:
                    fitting.append((not answer, strangeness(file.name, need, family), file))
                elif file != place.path:
                    others.append(file.name)
            if fitting:
                return min(fitting)[-1]
        home = next((root.path for root in lenders if root.path == self._models_dir), lenders[0].path)
        where = " or ".join(f"`{home / folder}`" for folder in need.folders)
        beyond = f", nor in {len(lenders) - 1} other folders" if len(lenders) > 1 else ""
        seen = f" (none of {some(dict.fromkeys(others))} is one)" if others else ""
        raise BrokenCheckpoint(
            f"`{place.path.name}` needs {need.what}; there is none in {where}{beyond}{seen}. Put the file there, or "
            "name it in the settings.",
            file=str(place.path),
            expected=need.what,
        )

    def _tokenizer(self, place: Found, part: str, text_encoder: Path, kind: str) -> Path:
        beside = text_encoder.parent
        near = self._nearby(place)
        candidates = (
            text_encoder.with_suffix("") / part,
            text_encoder.with_suffix(""),
            beside / part,
            beside,
            beside.parent / part,
            *(root.path / "tokenizers" / kind for root in near),
            near[0].path / part,
        )
        for folder in candidates:
            if has_tokenizer(folder):
                return folder
        home = self._models_dir / "tokenizers" / kind
        raise BrokenCheckpoint(
            f"`{place.path.name}` needs the {kind} tokenizer, which single files do not carry. Put tokenizer.json and "
            f"tokenizer_config.json (from the `{part}/` folder of the model's page) into `{home}`, or name their "
            "folder in the settings.",
            file=str(place.path),
            expected=str(home),
        )


def _distinct(roots: Iterable[Root]) -> Iterator[Root]:
    seen: set[Path] = set()
    for root in roots:
        if (real := root.path.resolve()) not in seen:
            seen.add(real)
            yield root


def _denoiser(path: Path) -> Path:
    if why := why_closed(path):
        raise BrokenCheckpoint(f"`{path}` cannot be read ({why}). Check its permissions.", file=str(path))
    if not is_folder(path):
        return path
    inside = next((path / part for part in ("transformer", "unet") if (path / part).is_dir()), None)
    if inside is None:
        raise BrokenCheckpoint(f"`{path}` lacks its transformer/ folder. Fetch it again.", file=str(path))
    return inside


def _has_own_pipeline(folder: Path, facts: Facts) -> bool:
    if facts.problem or facts.family in FAMILIES:
        return False
    try:
        return not is_own_class(folder) and bool(pipeline_class(folder))
    except LimnerError:
        return False


def _weights(part: Path) -> tuple[Path, ...]:
    return open_tensors(part).files


def _require_tokenizer(folder: Path) -> None:
    if not has_tokenizer(folder):
        raise BrokenCheckpoint(f"`{folder}` holds no tokenizer. Expected a tokenizer.json in it.", file=str(folder))

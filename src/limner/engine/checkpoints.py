"""Find checkpoints on the disk and put their weights into networks; never over a network.

A checkpoint is a diffusers folder, ComfyUI's split files, or one file that holds all parts. It is recognised by its
tensors, never by its name, and it is opened by headers alone until somebody asks for weights. Invariant: a network is
built on the meta device and every one of its tensors comes from a file; nothing is ever drawn at random.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from limner.engine.signatures import latent_channels, partners, recognise, text_width, title
from limner.engine.tensor_files import TensorSource, files_sha256, open_tensors, some
from limner.errors import BrokenCheckpoint, LimnerError, NotFound, Unsupported

PAINTED = ("zimage",)
TRANSFORMER_FOLDERS = ("diffusion_models", "unet")
TEXT_FOLDERS = ("text_encoders", "clip")
VAE_FOLDERS = ("vae",)
WHOLE_FOLDERS = ("checkpoints",)
TOKENIZER_FOLDER = "tokenizers/qwen3"
WHOLE_PREFIX = "model.diffusion_model."
ALIGNMENT = 64
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")

Layout = Literal["diffusers", "split", "whole"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint lie: folders (diffusers) or files; one file may hold several parts."""

    name: str
    layout: Layout
    path: Path
    transformer: Path
    text_encoder: Path
    vae: Path
    tokenizer: Path
    builtin: bool = False

    def sha256(self) -> str:
        """The hash of the transformer's weights, remembered until a file changes."""
        return files_sha256(open_tensors(self.transformer).files)


@dataclass(frozen=True)
class CheckpointEntry:
    """One line of the list of checkpoints; `problem` says why it cannot be painted with, and is empty otherwise."""

    name: str
    family: str
    path: Path
    size_bytes: int
    problem: str = ""
    builtin: bool = False


@dataclass(frozen=True)
class Given:
    """Parts that a setting names explicitly, where they are not where limner would look."""

    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizer: Path | None = None


def find_checkpoint(
    name_or_path: str, models_dir: Path, builtin_dir: Path, given: Given | None = None
) -> CheckpointFiles:
    """The files of a checkpoint.

    Args:
        name_or_path: a name from `list_checkpoints`, a diffusers folder, or a transformer's safetensors file.
        models_dir: ComfyUI's kind of folder: diffusers folders, `diffusion_models/`, `text_encoders/`, `vae/`.
        builtin_dir: the folder that holds the built-in checkpoints.
        given: parts to use instead of those found beside it.

    Raises:
        NotFound: there is nothing of that name; the message lists the nearest ones.
        BrokenCheckpoint: a part is missing; the message says which and where it belongs.
        Unsupported: it belongs to an architecture that this version does not paint.
    """
    given = given or Given()
    places = _places(models_dir, builtin_dir)
    wanted = name_or_path if name_or_path in places else name_or_path.removesuffix(".safetensors")
    if wanted in places:
        path, builtin = places[wanted]
    else:
        wanted, path, builtin = "", Path(name_or_path).expanduser(), False
        if not path.exists():
            near = difflib.get_close_matches(name_or_path, places, n=3, cutoff=0.4) or sorted(places)
            hint = f"Known: {some(near)}." if near else f"Put checkpoints into `{models_dir}`."
            raise NotFound(f"There is no checkpoint `{name_or_path}`. {hint}", name=name_or_path, near=near[:3])
    name = wanted or (path.name if path.is_dir() else path.stem)
    if path.is_dir():
        return _folder(name, path, given, builtin)
    return _files(name, path, models_dir, given)


def list_checkpoints(models_dir: Path, builtin_dir: Path, given: Given | None = None) -> list[CheckpointEntry]:
    """Every checkpoint that lies in the two folders, the built-in ones first; broken ones with their problem."""
    entries: list[CheckpointEntry] = []
    for name, (path, builtin) in _places(models_dir, builtin_dir).items():
        family, size, problem = "", 0, ""
        try:
            source = _transformer_source(path)
            family, size = recognise(source.shapes) or "", source.size_bytes
            files = find_checkpoint(name, models_dir, builtin_dir, given)
            parts = [open_tensors(part).files for part in (files.transformer, files.text_encoder, files.vae)]
            size = sum(file.stat().st_size for file in {file for part in parts for file in part})
        except LimnerError as error:
            problem = error.message
        entries.append(CheckpointEntry(name, family, path, size, problem, builtin))
    return entries


def require_family(source: TensorSource) -> str:
    """The family of a transformer's tensors.

    Raises:
        Unsupported: an architecture that this version knows but does not paint, or numbers that it does not read.
        BrokenCheckpoint: nothing that looks like a denoiser.
    """
    family = recognise(source.shapes)
    if family is None:
        raise BrokenCheckpoint(
            f"`{source.path}` is of no architecture that limner knows (its first tensors: {some(source.tensors)}). "
            f"Choose a {_painted()} checkpoint.",
            file=str(source.path),
        )
    if family not in PAINTED:
        raise Unsupported(
            f"`{source.path}` is {title(family)}; this version paints {_painted()}. Choose a {_painted()} checkpoint.",
            file=str(source.path),
            family=family,
        )
    require_plain_numbers(source)
    return family


def require_plain_numbers(source: TensorSource) -> None:
    """Refuse quantised weights, which need more than a cast.

    Raises:
        Unsupported: the file holds fp8 or integer weights.
    """
    matrices = {name: facts for name, facts in source.tensors.items() if len(facts.shape) > 1}
    if quantised := {n: f for n, f in matrices.items() if f.dtype not in ("F64", "F32", "F16", "BF16")}:
        kinds = ", ".join(sorted({facts.dtype for facts in quantised.values()}))
        raise Unsupported(
            f"`{source.path}` holds quantised weights ({kinds}: {some(quantised)}), which this version does not read. "
            "Choose the bf16, fp16 or fp32 file of the same checkpoint.",
            file=str(source.path),
        )


def read_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a component's folder; None where the component is a single file.

    Raises:
        BrokenCheckpoint: the file is missing or is not JSON.
    """
    if not folder.is_dir():
        return None
    file = folder / "config.json"
    try:
        content: Any = json.loads(file.read_text("utf-8"))
        return dict(content)
    except FileNotFoundError as error:
        raise BrokenCheckpoint(f"`{folder}` lacks its config.json. Fetch it again.", file=str(file)) from error
    except (OSError, ValueError, TypeError) as error:
        raise BrokenCheckpoint(f"`{file}` is not readable: {error}. Fetch it again.", file=str(file)) from error


@dataclass(frozen=True)
class Part:
    """Where one tensor of a network comes from: a tensor of the file, some of its rows, or a 1x1 kernel as a matrix."""

    name: str
    rows: slice | None = None
    flat: bool = False

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that this part has, given that of the stored tensor."""
        if self.flat and stored[2:] == (1, 1):
            stored = stored[:2]
        if self.rows is not None and stored:
            stored = (len(range(*self.rows.indices(stored[0]))), *stored[1:])
        return stored

    def take(self, stored: Tensor) -> Tensor:
        """This part of the stored tensor, at an address of the alignment that torch itself gives."""
        if self.flat and tuple(stored.shape[2:]) == (1, 1):
            stored = stored[:, :, 0, 0]
        taken = (stored if self.rows is None else stored[self.rows]).contiguous()
        # Kernels round differently over memory that is not aligned, and a mapped file seldom is: the same weights
        # shall give the same picture whichever layout they come in.
        return taken if taken.data_ptr() % ALIGNMENT == 0 else taken.clone()


def build_network(build: Callable[[], Network], config: Mapping[str, Any], path: Path) -> Network:
    """Build a network on the meta device, where it costs no memory and no time.

    Raises:
        BrokenCheckpoint: the configuration contradicts itself.
    """
    try:
        with torch.device("meta"):
            network = build()
    except Exception as error:  # libraries check configurations with errors of many kinds
        shown = ", ".join(f"{name}={value!r}" for name, value in list(config.items())[:12])
        raise BrokenCheckpoint(
            f"`{path}` has a configuration that makes no network ({error or type(error).__name__}; {shown}). "
            "Fetch its config.json again.",
            file=str(path),
        ) from error
    return network.eval().requires_grad_(False)


def fill_network(
    network: Network,
    source: TensorSource,
    parts: Mapping[str, Part],
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Network:
    """Put tensors into a network that was built on the meta device.

    Args:
        network: its parameters and buffers are replaced.
        source: where the tensors are stored.
        parts: for every tensor of the file that is wanted, under the network's own name.
        dtype: what floating tensors become; those that are stored in it and lie aligned stay memory-mapped.
        device: where they shall lie.

    Raises:
        BrokenCheckpoint: tensors are missing, unexpected or of wrong shapes; the message names the first few.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    kind = type(network).__name__
    offered = {name: part.shape(source.tensors[part.name].shape) for name, part in parts.items()}
    if missing := [name for name in expected if name not in offered]:
        raise _misfit(source, f"lacks {len(missing)} of {len(expected)} tensors of {kind}: {some(missing)}", missing)
    if unexpected := [part.name for name, part in parts.items() if name not in expected]:
        what = f"holds {len(unexpected)} tensors that {kind} does not have: {some(unexpected)}"
        raise _misfit(source, what, unexpected)
    if wrong := [name for name, shape in expected.items() if offered[name] != shape]:
        first = ", ".join(f"`{name}` is {offered[name]}, expected {expected[name]}" for name in wrong[:3])
        raise _misfit(source, f"holds {len(wrong)} tensors of other shapes than {kind} has: {first}", wrong)
    stored = source.load({part.name: None for part in parts.values()}, dtype, device)
    network.load_state_dict({name: part.take(stored[part.name]) for name, part in parts.items()}, assign=True)
    return network.requires_grad_(False)


def require_real(network: nn.Module) -> None:
    """Make sure that nothing was left on the meta device (tables that are computed, not stored).

    Raises:
        RuntimeError: a defect of the loader, not of the file.
    """
    named: list[tuple[str, Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    if left := [name for name, tensor in named if tensor.is_meta]:
        raise RuntimeError(f"{type(network).__name__} was left without {some(left)}")


def _misfit(source: TensorSource, what: str, names: list[str]) -> BrokenCheckpoint:
    message = f"`{source.path}` {what}. The file is damaged or belongs to another checkpoint; fetch it again."
    return BrokenCheckpoint(message, file=str(source.path), tensors=names[:20], count=len(names))


def _painted() -> str:
    return " and ".join(title(family) for family in PAINTED)


def _places(models_dir: Path, builtin_dir: Path) -> dict[str, tuple[Path, bool]]:
    """Name to (folder or file, whether it is built in); the first of a name wins."""
    found: dict[str, tuple[Path, bool]] = {}
    for root, builtin in ((builtin_dir, True), (models_dir, False), (models_dir / "diffusers", False)):
        for folder in (root, *sorted(root.iterdir())) if root.is_dir() else ():
            if (folder / "model_index.json").is_file():
                found.setdefault(folder.name, (folder, builtin))
    for kind in (*TRANSFORMER_FOLDERS, *WHOLE_FOLDERS):
        root = models_dir / kind
        for file in sorted(root.rglob("*")) if root.is_dir() else ():
            # Other formats are listed as well, with the reason why they are refused.
            if file.suffix in (".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin"):
                found.setdefault(file.relative_to(root).with_suffix("").as_posix(), (file, False))
    return found


def _transformer_source(path: Path) -> TensorSource:
    if path.is_dir():
        inside = next((path / part for part in ("transformer", "unet") if (path / part).is_dir()), None)
        if inside is None:
            raise BrokenCheckpoint(f"`{path}` lacks its transformer/ folder. Fetch it again.", file=str(path))
        path = inside
    return open_tensors(path)


def _folder(name: str, path: Path, given: Given, builtin: bool) -> CheckpointFiles:
    if not (path / "model_index.json").is_file():
        raise BrokenCheckpoint(
            f"`{path}` is not a checkpoint: it has no model_index.json. Name a diffusers folder or a safetensors file.",
            file=str(path),
        )
    require_family(_transformer_source(path))
    files = CheckpointFiles(
        name,
        "diffusers",
        path,
        transformer=path / "transformer",
        text_encoder=given.text_encoder or path / "text_encoder",
        vae=given.vae or path / "vae",
        tokenizer=given.tokenizer or path / "tokenizer",
        builtin=builtin,
    )
    wanted = (files.text_encoder, files.vae, files.tokenizer)
    if absent := [part.name + "/" for part in wanted if not part.exists()]:
        raise BrokenCheckpoint(f"`{path}` lacks {some(absent)}. Fetch the whole folder again.", file=str(path))
    _require_tokenizer(files.tokenizer)
    return files


def _files(name: str, path: Path, models_dir: Path, given: Given) -> CheckpointFiles:
    source = open_tensors(path)
    require_family(source)
    needs = partners(source.shapes)
    if needs is None:
        raise BrokenCheckpoint(
            f"`{path}` lacks `cap_embedder.1.weight` or `x_embedder.weight`, which every Z-Image transformer has. "
            "Fetch it again.",
            file=str(path),
        )
    whole = any(not tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors) and any(
        tensor.startswith(WHOLE_PREFIX) for tensor in source.tensors
    )
    text_encoder, vae = given.text_encoder, given.vae
    if whole:
        text_encoder = text_encoder or (path if text_width(source.shapes) else None)
        vae = vae or (path if latent_channels(source.shapes) else None)
    text_encoder = text_encoder or _partner(
        path,
        models_dir,
        TEXT_FOLDERS,
        text_width,
        needs.text_width,
        f"a Qwen3 text encoder of width {needs.text_width}",
    )
    vae = vae or _partner(
        path,
        models_dir,
        VAE_FOLDERS,
        latent_channels,
        needs.latent_channels,
        f"a VAE of {needs.latent_channels} channels",
    )
    tokenizer = given.tokenizer or _find_tokenizer(path, text_encoder, models_dir)
    _require_tokenizer(tokenizer)
    return CheckpointFiles(name, "whole" if whole else "split", path, path, text_encoder, vae, tokenizer)


def _partner(
    path: Path,
    models_dir: Path,
    folders: Iterable[str],
    measure: Callable[[Mapping[str, tuple[int, ...]]], int | None],
    wanted: int,
    what: str,
) -> Path:
    """The first file in `folders` whose tensors fit; plain numbers before quantised ones."""
    fitting: list[tuple[bool, Path]] = []
    others: list[str] = []
    for folder in folders:
        root = models_dir / folder
        for file in sorted(root.rglob("*.safetensors")) if root.is_dir() else ():
            try:
                source = open_tensors(file)
            except LimnerError:
                others.append(file.name)
                continue
            if measure(source.shapes) != wanted:
                others.append(file.name)
                continue
            fitting.append((source.dtype not in ("F64", "F32", "F16", "BF16"), file))
    if fitting:
        return min(fitting)[1]
    seen = f" (none of {some(others)} is one)" if others else ""
    where = " or ".join(f"`{models_dir / folder}`" for folder in folders)
    raise BrokenCheckpoint(
        f"`{path.name}` needs {what}; there is none in {where}{seen}. Put the file there, or name it in the settings.",
        file=str(path),
        expected=what,
    )


def _find_tokenizer(path: Path, text_encoder: Path, models_dir: Path) -> Path:
    beside = text_encoder.parent
    candidates = (
        text_encoder.with_suffix("") / "tokenizer",
        text_encoder.with_suffix(""),
        beside / "tokenizer",
        beside,
        models_dir / TOKENIZER_FOLDER,
    )
    for folder in candidates:
        if any((folder / file).is_file() for file in TOKENIZER_FILES):
            return folder
    home = models_dir / TOKENIZER_FOLDER
    raise BrokenCheckpoint(
        f"`{path.name}` needs Qwen3's tokenizer, which split files do not carry. Put tokenizer.json and "
        f"tokenizer_config.json (from the `tokenizer/` folder of the model's page) into `{home}`, or name their folder "
        "in the settings.",
        file=str(path),
        expected=str(home),
    )


def _require_tokenizer(folder: Path) -> None:
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise BrokenCheckpoint(f"`{folder}` holds no tokenizer. Expected a tokenizer.json in it.", file=str(folder))

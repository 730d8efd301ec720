"""Train the Z-Image transformer of `sketchbook` on pictures drawn while it trains.

Rectified flow: a latent z and noise n are mixed, x = (1 - s) z + s n, and the network (given 1 - s, as Z-Image has it)
answers z - n. Beside that loss two auxiliary heads must tell, from a middle layer, which thing covers each token and
which part of it: the drawings know both for free, and the network learns early where things are and where in a thing it
is (the idea of REPA, Yu et al. 2024, with labels instead of a foreign network's features).

Several processes may train together: each runs for `round_s` seconds, then the weights are averaged in proportion to
the samples that each has seen (local SGD), so that an uneven machine wastes nothing. The budget is time on the
processor, so that a busy machine does not cut the training short. Everything resumes from the last round.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen3Model

from drawings import PARTS, THINGS, Scene, Style, label_map, part_map, place, render, sample_scene
from latents import LinearCode, to_tensor
from muon import Muon, has_bfloat16
from text import describe, encode

PAD = 32
SHIFT = 3.0
AUXILIARY_LAYER = 3
LONG = 1024  # tokens from which attention is left to torch's fused one

CONFIG: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 192,
    "n_layers": 5,
    "n_refiner_layers": 1,
    "n_heads": 3,
    "n_kv_heads": 3,
    "cap_feat_dim": 128,
    "axes_dims": [16, 24, 24],
    "axes_lens": [512, 128, 128],
}


@dataclass(frozen=True)
class Bucket:
    """Pictures of one size in px; `window` trains on a square of that side, cut out around one of the things."""

    width: int
    height: int
    window: int = 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return (self.window or self.height) // 16, (self.window or self.width) // 16

    @property
    def tokens(self) -> int:
        """What one picture costs: its padded tokens and its caption's."""
        rows, columns = self.grid
        return -(-rows * columns // PAD) * PAD + PAD


def _shapes(short: int, long: int, window: int = 0) -> list[Bucket]:
    """Mostly upright pictures, some square, some lying."""
    return [Bucket(short, long, window)] * 6 + [Bucket(short, short, window)] * 2 + [Bucket(long, short, window)] * 2


SMALL, MIDDLE, LARGE = _shapes(176, 224), _shapes(336, 432), _shapes(672, 864)
SMALL_WINDOWS, MIDDLE_WINDOWS, LARGE_WINDOWS = _shapes(176, 224, 128), _shapes(336, 432, 176), _shapes(672, 864, 256)


def mixture(progress: float) -> list[tuple[float, list[Bucket]]]:
    """Shares of compute per group of sizes.

    Windows around things come first: there most tokens show a shape, and a sample costs half as much. When small whole
    pictures are right, larger ones have most of the rest, which the later stages of a plan live on: what was learnt at
    one size is of little use at another without it. Small ones keep a share to the end, or they would get worse again.
    """
    if progress < 0.3:
        return [(0.5, SMALL_WINDOWS), (0.4, SMALL), (0.1, MIDDLE_WINDOWS)]
    if progress < 0.42:
        return [(0.25, SMALL_WINDOWS), (0.4, SMALL), (0.15, MIDDLE_WINDOWS), (0.1, MIDDLE), (0.1, LARGE_WINDOWS)]
    return [(0.27, SMALL), (0.33, MIDDLE), (0.06, LARGE), (0.14, MIDDLE_WINDOWS), (0.2, LARGE_WINDOWS)]


# --- the network, written for batches of one shape -------------------------------------------------------------------


def rope_table(positions: Tensor, axes: list[int], theta: float = 256.0) -> Tensor:
    """Cosines and sines (…, N, sum(axes)/2, 2) of three-axis rotary positions (…, N, 3)."""
    angles = []
    for axis, dim in enumerate(axes):
        frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(positions[..., axis, None].double() * frequency)
    angle = torch.cat(angles, -1)
    return torch.stack([angle.cos(), angle.sin()], -1).float()


def positions(height: int, width: int, corners: Tensor) -> Tensor:
    """Rotary positions (B, N, 3) of the tokens of windows behind a caption of `PAD` tokens, padding at the origin.

    `corners` (B, 2) are the row and column of each window's first token in its picture.
    """
    grid = torch.cartesian_prod(torch.tensor([PAD + 1]), torch.arange(height), torch.arange(width))
    shifted = grid + F.pad(corners, (1, 0))[:, None]
    return F.pad(shifted, (0, 0, 0, -len(grid) % PAD))


def norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, N, heads, d/2)
    cos, sin = rope[:, :, None].unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (B, N, heads, d), written out where the scores are few: on processors that is learnt from faster."""
    q, k, v = (t.to(v.dtype).transpose(1, 2) for t in (q, k, v))
    if q.shape[2] > LONG:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(1, 2)


def run_block(block: Any, x: Tensor, rope: Tensor, condition: Tensor | None) -> Tensor:
    """One Z-Image block on (B, N, dim); equals diffusers' block without masks.

    Under autocast the linear layers and the attention are of less precision, everything between them is not.
    """
    attention, feed = block.attention, block.feed_forward
    y = norm(x, block.attention_norm1.weight)
    gate_attention = gate_feed = scale_feed = None
    if condition is not None:
        modulation = block.adaLN_modulation(condition).float().unsqueeze(1)
        scale_attention, gate_attention, scale_feed, gate_feed = modulation.chunk(4, dim=2)
        gate_attention, gate_feed = gate_attention.tanh(), gate_feed.tanh()
        y = y * (1.0 + scale_attention)
    heads = attention.heads
    q = rotate(norm(attention.to_q(y).unflatten(-1, (heads, -1)), attention.norm_q.weight), rope)
    k = rotate(norm(attention.to_k(y).unflatten(-1, (heads, -1)), attention.norm_k.weight), rope)
    v = attention.to_v(y).unflatten(-1, (heads, -1))
    y = norm(attention.to_out[0](attend(q, k, v).flatten(2)), block.attention_norm2.weight)
    x = x + (y if gate_attention is None else gate_attention * y)
    y = norm(x, block.ffn_norm1.weight)
    if scale_feed is not None:
        y = y * (1.0 + scale_feed)
    y = norm(feed.w2(F.silu(feed.w1(y).float()) * feed.w3(y).float()), block.ffn_norm2.weight)
    return x + (y if gate_feed is None else gate_feed * y)


def patches(latents: Tensor) -> Tensor:
    """(B, C, h, w) to tokens (B, h/2*w/2, 4C), ordered as diffusers does."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, (h // 2) * (w // 2), 4 * c)


def unpatches(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `patches`; `height` and `width` are the latent's."""
    b, _, d = tokens.shape
    return (
        tokens.view(b, height // 2, width // 2, 2, 2, d // 4)
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(b, d // 4, height, width)
    )


class Denoiser(nn.Module):
    """diffusers' transformer, run in uniform batches, with the auxiliary heads beside it."""

    def __init__(self, network: ZImageTransformer2DModel) -> None:
        super().__init__()
        self.network: Any = network
        self.run_block: Any = run_block
        self.labels, self.parts = (
            nn.Sequential(nn.RMSNorm(CONFIG["dim"]), nn.Linear(CONFIG["dim"], classes))
            for classes in (len(THINGS) + 1, PARTS * PARTS)
        )

    def forward(
        self, latents: Tensor, time: Tensor, captions: Tensor, lengths: Tensor, corners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Latents (B, 16, h, w), time 1 - s (B,), caption features (B, <=32, 128) to z - n and what the heads read.

        `corners` (B, 2) says where in their pictures the latents lie, in tokens; at the top left when absent.
        """
        network = self.network
        b, _, h, w = latents.shape
        count = (h // 2) * (w // 2)
        condition = network.t_embedder(time * network.t_scale)
        x = network.all_x_embedder["2-1"](patches(latents)).float()
        missing = -count % PAD
        if missing:
            x = torch.cat([x, network.x_pad_token.expand(b, missing, -1)], 1)
        image_positions = positions(h // 2, w // 2, torch.zeros(1, 2, dtype=torch.long) if corners is None else corners)
        rope = rope_table(image_positions, CONFIG["axes_dims"])
        for block in network.noise_refiner:
            x = self.run_block(block, x, rope, condition)
        text = network.cap_embedder(F.pad(captions, (0, 0, 0, PAD - captions.shape[1]))).float()
        behind = torch.arange(PAD) >= lengths[:, None]
        text = torch.where(behind[..., None], network.cap_pad_token, text)
        index = torch.arange(1, PAD + 1)
        text_rope = rope_table(torch.stack([index, index * 0, index * 0], 1)[None], CONFIG["axes_dims"])
        for block in network.context_refiner:
            text = self.run_block(block, text, text_rope, None)
        x = torch.cat([x, text], 1)
        rope = torch.cat([rope, text_rope.expand(len(rope), -1, -1, -1)], 1)
        middle = x
        for index, block in enumerate(network.layers):
            x = self.run_block(block, x, rope, condition)
            if index + 1 == AUXILIARY_LAYER:
                middle = x[:, :count]
        x = network.all_final_layer["2-1"](x[:, :count], c=condition)
        return unpatches(x.float(), h, w), middle


# --- data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Captioned:
    """A scene with one caption, read by the text encoder; `features` is (tokens, 128)."""

    scene: Scene
    features: Tensor


class Captions:
    """Scenes with captions, most of them used more than once: reading is expensive, drawing one anew is not.

    A quarter of every draw is freshly written and read; it takes the place of the oldest. One caption in ten is empty,
    the others begin with `opening`.
    """

    SIZE, FRESH = 6000, 0.25

    def __init__(self, tokenizer: Any, reader: Any, rng: random.Random, opening: str = "") -> None:
        self._tokenizer, self._reader, self._rng, self._opening = tokenizer, reader, rng, opening
        self._pool: deque[Captioned] = deque(maxlen=self.SIZE)
        self._unsaid = self._read([""])[0]
        self._write(256)

    def draw(self, count: int) -> list[Captioned]:
        """`count` scenes with their captions."""
        self._write(max(1, round(count * self.FRESH)))
        drawn = [self._rng.choice(self._pool) for _ in range(count)]
        return [Captioned(c.scene, self._unsaid) if self._rng.random() < 0.1 else c for c in drawn]

    def _write(self, count: int) -> None:
        scenes = [sample_scene(self._rng, "train") for _ in range(count)]
        read = self._read([self._opening + describe(scene, self._rng).text for scene in scenes])
        self._pool.extend(map(Captioned, scenes, read))

    @torch.no_grad()
    def _read(self, texts: list[str]) -> list[Tensor]:
        features, lengths = encode(self._tokenizer, self._reader, texts)
        return [row[: int(length)].clone() for row, length in zip(features, lengths, strict=True)]


@dataclass
class Batch:
    """Pictures of one size: latents (B, 16, h, w), label and part maps (B, h/2, w/2), captions, corners (B, 2)."""

    latents: Tensor
    labels: Tensor
    parts: Tensor
    features: Tensor  # (B, longest, 128), zeros behind each caption
    lengths: Tensor  # (B,)
    corners: Tensor


def draw_batch(
    rng: random.Random, code: LinearCode, bucket: Bucket, captioned: Sequence[Captioned], style: Style = "flat"
) -> Batch:
    """Draw a fresh picture of each scene, all of one size, with the maps of what is where."""
    pictures, labels, parts, corners = [], [], [], []
    rows, columns = bucket.grid
    for scene in (c.scene for c in captioned):
        seed = rng.getrandbits(31)
        picture = render(scene, bucket.width, bucket.height, seed, style)
        label = label_map(scene, bucket.width, bucket.height, seed)
        top = left = 0
        if bucket.window:
            thing = rng.choice(place(scene, bucket.width, bucket.height, seed))
            top = _window(rng, thing.y, rows, len(label))
            left = _window(rng, thing.x, columns, len(label[0]))
        part = part_map(scene, bucket.width, bucket.height, seed, label)
        pictures.append(picture[top * 16 : (top + rows) * 16, left * 16 : (left + columns) * 16])
        labels.append(torch.from_numpy(label[top : top + rows, left : left + columns].astype("int64")))
        parts.append(torch.from_numpy(part[top : top + rows, left : left + columns]))
        corners.append((top, left))
    features = nn.utils.rnn.pad_sequence([c.features for c in captioned], batch_first=True)
    lengths = torch.tensor([len(c.features) for c in captioned])
    latents = code.encode(to_tensor(pictures))
    return Batch(latents, torch.stack(labels), torch.stack(parts), features, lengths, torch.tensor(corners))


def _window(rng: random.Random, centre_px: float, side: int, whole: int) -> int:
    """First of `side` tokens that show a thing, mostly in their middle, out of `whole`."""
    wanted = round(centre_px / 16 - side / 2 + rng.uniform(-2.0, 2.0))
    return min(max(wanted, 0), whole - side)


def is_refined(rng: random.Random, bucket: Bucket) -> bool:
    """Whether a batch of this size is trained as the later stages of a plan see it; larger pictures mostly are."""
    if bucket in (*SMALL, *SMALL_WINDOWS):
        return False
    return bucket in LARGE_WINDOWS or rng.random() < (0.75 if bucket in LARGE else 0.5)


def sample_times(count: int, low_noise: bool) -> Tensor:
    """Noise levels in (0, 1): logit-normal, two thirds shifted by 3 as in sampling, the rest unshifted.

    Without that third hardly a sample would show outlines. The later stages of a plan start below 0.92.
    """
    u = torch.sigmoid(torch.randn(count))
    shift = torch.where(torch.rand(count) < 2 / 3, SHIFT, 1.0)
    s = shift * u / (1 + (shift - 1) * u)
    return s * 0.92 if low_noise else s


# --- training --------------------------------------------------------------------------------------------------------


def compile_blocks(model: Denoiser) -> None:
    """Compile the network's blocks where torch finds the compiler that it needs; a step takes a fifth less then."""
    if shutil.which("g++"):
        model.run_block = torch.compile(run_block, dynamic=True)


def autocast() -> torch.autocast:
    """Linear layers and attention in bfloat16, where the processor is faster at that than at float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def losses(model: Denoiser, batch: Batch, low_noise: bool) -> tuple[Tensor, Tensor]:
    """The flow's mean squared error and the auxiliary heads' cross entropies on a batch with fresh noise."""
    z = batch.latents
    s = sample_times(len(z), low_noise)
    noise = torch.randn_like(z)
    mixed = (1 - s)[:, None, None, None] * z + s[:, None, None, None] * noise
    with autocast():
        answer, middle = model(mixed, 1 - s, batch.features, batch.lengths, batch.corners)
    flow = F.mse_loss(answer, z - noise)
    label = F.cross_entropy(model.labels(middle).flatten(0, 1), batch.labels.flatten())
    part = F.cross_entropy(
        model.parts(middle).flatten(0, 1), batch.parts.flatten(), ignore_index=-1, reduction="sum"
    ) / max(1, int((batch.parts >= 0).sum()))
    return flow, label + part


@dataclass
class Progress:
    """What a resumed run must know."""

    trained_s: float = 0.0
    samples: int = 0
    rounds: int = 0


def build_network() -> ZImageTransformer2DModel:
    network: Any = ZImageTransformer2DModel(**CONFIG)
    nn.init.normal_(network.x_pad_token, std=0.02)
    nn.init.normal_(network.cap_pad_token, std=0.02)
    final = network.all_final_layer["2-1"]
    nn.init.zeros_(final.linear.weight)
    nn.init.zeros_(final.linear.bias)
    for block in [*network.noise_refiner, *network.layers]:
        nn.init.zeros_(block.adaLN_modulation[0].weight)
        # tanh(0.3): the gates start open a little, so that gradients reach every layer at once.
        nn.init.zeros_(block.adaLN_modulation[0].bias)
        with torch.no_grad():
            dim = CONFIG["dim"]
            block.adaLN_modulation[0].bias[dim : 2 * dim] = 0.3
            block.adaLN_modulation[0].bias[3 * dim :] = 0.3
    return network


def optimizers_for(model: Denoiser, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, at three times the rate, AdamW for all others."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and (".attention." in name or ".feed_forward." in name)
        (matrices if inner else rest).append(parameter)
    return [
        Muon(matrices, lr=3 * lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate(progress: float, steps: int) -> float:
    """Warm-up, constant, then linear decay over the last 40 %."""
    return min(1.0, (steps + 1) / 100) * min(1.0, max(0.02, (1.0 - progress) / 0.4))


def train(
    folder: Path,
    minutes: float,
    rank: int = 0,
    workers: int = 1,
    round_s: float = 40.0,
    lr: float = 2e-3,
    tokens_per_step: int = 3072,
) -> None:
    """Train (or go on training) into `folder`/denoiser until each worker has spent `minutes` on its processor."""
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29517", rank=rank, world_size=workers)
    code = LinearCode.load(folder / "latents.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    reader = Qwen3Model.from_pretrained(folder / "text_encoder").eval().requires_grad_(False)
    torch.manual_seed(0)
    model = Denoiser(build_network())
    compile_blocks(model)
    average = {name: value.clone() for name, value in model.network.state_dict().items()}
    optimizers = optimizers_for(model, lr)
    full_rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    state_file, own_file = folder / "denoiser.pt", folder / f"denoiser.{rank}.pt"
    progress = Progress()
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        model.load_state_dict(saved["model"])
        average, progress = saved["average"], Progress(**saved["progress"])
    if own_file.exists():
        for optimizer, saved in zip(optimizers, torch.load(own_file, weights_only=True), strict=True):
            optimizer.load_state_dict(saved)
    torch.manual_seed(1000 * progress.rounds + rank)
    rng = random.Random(1000 * progress.rounds + rank)
    budget_s, done = minutes * 60, 0.0
    steps = 1000 if own_file.exists() else 0  # without its momentum an optimiser has to warm up again
    captions = Captions(tokenizer, reader, rng)
    while progress.trained_s < budget_s and parent_lives():
        started, began, samples, flows, hits = time.monotonic(), time.process_time(), 0, [], []
        while time.monotonic() - started < round_s:
            done = min(1.0, (progress.trained_s + time.process_time() - began) / budget_s)
            groups = mixture(done)
            bucket = rng.choice(rng.choices([g for _, g in groups], [share for share, _ in groups])[0])
            count = max(1, round(tokens_per_step / bucket.tokens))
            batch = draw_batch(rng, code, bucket, captions.draw(count))
            flow, heads = losses(model, batch, is_refined(rng, bucket))
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            (flow + 0.2 * heads).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, full in zip(optimizers, full_rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = full * rate(done, steps)
                optimizer.step()
            steps += 1
            samples += count
            if bucket in SMALL:
                flows.append(flow.item())
                hits.append(heads.item())
        total, spent_s = average_weights(model, samples, time.process_time() - began, workers)
        progress.trained_s += spent_s
        progress.samples += total
        progress.rounds += 1
        keep = 0.9 if progress.rounds > 10 else 0.5
        for name, value in model.network.state_dict().items():
            average[name].lerp_(value, 1 - keep)
        if rank == 0:
            save_atomically({"model": model.state_dict(), "average": average, "progress": asdict(progress)}, state_file)
            mean = lambda values: sum(values) / max(1, len(values))  # noqa: E731
            print(
                f"{progress.trained_s / 60:6.1f} min {progress.samples:7d} pictures (+{total}) "
                f"flow {mean(flows):.4f} heads {mean(hits):.4f} lr {lr * rate(done, steps):.5f}",
                flush=True,
            )
        save_atomically([optimizer.state_dict() for optimizer in optimizers], own_file)


def parent_lives() -> bool:
    """Whether the process that started this one, if one did, still runs; nobody would stop this one otherwise."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def average_weights(model: nn.Module, samples: int, spent_s: float, workers: int) -> tuple[int, float]:
    """Average the weights of all workers in proportion to their samples; all samples, and the seconds of one worker."""
    if workers == 1:
        return samples, spent_s
    sums = torch.tensor([samples, spent_s], dtype=torch.float64)
    dist.all_reduce(sums)
    flat = nn.utils.parameters_to_vector(model.parameters()).detach().mul_(samples)
    dist.all_reduce(flat)
    nn.utils.vector_to_parameters(flat / sums[0].float(), model.parameters())
    return int(sums[0]), float(sums[1]) / workers


def save_atomically(state: object, path: Path) -> None:
    """Write beside the file, then rename: a killed run leaves the previous state whole."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)

"""The tokenizer and the text encoder of `sketchbook`.

The tokenizer knows every word (and Chinese character) of the caption grammar and nothing else; the engine names the
words that it does not know. The encoder is a small Qwen3 trained to *read*: from three marker tokens at the end of the
chat template, simple linear heads must be able to tell what the caption says (first thing, second thing, background).
The denoiser then finds the meaning of a sentence in three fixed places, whatever its wording or language.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from drawings import BACKGROUNDS, COLOURS, SIZES, THINGS, Scene, caption, sample_scene, words

MARKERS = ("<|first|>", "<|second|>", "<|paper|>")
SPECIAL = ("<|unknown|>", "<|pad|>", "<|im_start|>", "<|im_end|>", *MARKERS)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant" + "".join(MARKERS) + "{% endif %}"
)
HIDDEN = 128
LAYERS = 4
MAX_TOKENS = 32

THING, COLOUR, BACKGROUND, SIZE = list(THINGS), list(COLOURS), list(BACKGROUNDS), list(SIZES)
RELATION = ["", "beside", "above"]
# marker -> {attribute: number of classes}; one extra class everywhere stands for "not said".
HEADS: dict[str, int] = {
    "0.thing": len(THING) + 1,
    "0.colour": len(COLOUR) + 1,
    "0.count": 4,
    "0.size": len(SIZE) + 1,
    "1.thing": len(THING) + 1,
    "1.colour": len(COLOUR) + 1,
    "1.relation": len(RELATION) + 1,
    "2.background": len(BACKGROUND) + 1,
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower-cased English words, single Chinese characters, punctuation dropped."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "user", "assistant", "system"])}
    for word in words():
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            # Punctuation carries no meaning here; the chat markers are matched before normalisation.
            normalizers.Replace(Regex(r"[^\p{L}\p{N}'’]+"), " "),
            normalizers.Replace(Regex(r"['’]"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        pad_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="right",
    )


def build_encoder(vocabulary: int) -> Qwen3Model:
    """A Qwen3 of four layers; the denoiser reads `hidden_states[-2]`, so the last layer only serves training."""
    return Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def render_prompt(tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The prompt inside the chat template, as the denoiser's family does it."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    assert isinstance(text, str)
    return text


@dataclass(frozen=True)
class Sentence:
    """A caption and what it says: class indices per head, the last index meaning "not said"."""

    text: str
    targets: dict[str, int]


def targets_of(scene: Scene) -> dict[str, int]:
    """Class indices of everything that `scene` fixes."""
    first = scene.groups[0]
    second = scene.groups[1] if len(scene.groups) > 1 else None
    return {
        "0.thing": THING.index(first.thing),
        "0.colour": COLOUR.index(first.colour),
        "0.count": first.count - 1,
        "0.size": SIZE.index(first.size),
        "1.thing": THING.index(second.thing) if second else len(THING),
        "1.colour": COLOUR.index(second.colour) if second else len(COLOUR),
        "1.relation": RELATION.index(scene.relation),
        "2.background": BACKGROUND.index(scene.background),
    }


def unsaid() -> dict[str, int]:
    """The targets of an empty prompt."""
    return {head: classes - 1 for head, classes in HEADS.items()}


def describe(scene: Scene, rng: random.Random, short_rate: float = 0.06) -> Sentence:
    """A caption in either language and what it says; now and then only a few words, as people type them."""
    language = rng.choice(("en", "zh"))
    group, *others = scene.groups
    if others or rng.random() >= short_rate:
        return Sentence(caption(scene, rng, language), targets_of(scene))
    word, said = THINGS[group.thing], unsaid()
    said |= {"0.thing": THING.index(group.thing), "0.count": group.count - 1, "1.thing": len(THING)}
    colour = rng.random() < 0.5
    if colour:
        said["0.colour"] = COLOUR.index(group.colour)
    if language == "en":
        noun = rng.choice(word.singular if group.count == 1 else word.plural)
        parts = [["", "two", "three"][group.count - 1] or rng.choice(("a", "")), COLOURS[group.colour].en[0] * colour]
        return Sentence(" ".join(part for part in (*parts, noun) if part), said)
    number = "" if group.count == 1 and rng.random() < 0.5 else "一两三"[group.count - 1] + word.measure
    return Sentence(number + COLOURS[group.colour].zh[0] * colour + rng.choice(word.zh), said)


def sample_sentence(rng: random.Random, unknown_rate: float = 0.1) -> Sentence:
    """A random caption of a random scene, sometimes with unknown words strewn in, sometimes empty."""
    if rng.random() < 0.03:
        return Sentence("", unsaid())
    sentence = describe(sample_scene(rng, "train"), rng)
    text = sentence.text
    if rng.random() < unknown_rate:
        parts = text.split(" ")
        parts.insert(rng.randrange(len(parts) + 1), "zzyzx")
        text = " ".join(parts)
    return Sentence(text, sentence.targets)


def encode(tokenizer: PreTrainedTokenizerFast, encoder: Qwen3Model, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Features (B, T, HIDDEN) of `texts`, right-padded, and their lengths (B,)."""
    batch = tokenizer([render_prompt(tokenizer, text) for text in texts], padding=True, return_tensors="pt")
    hidden = encoder(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
    ).hidden_states
    return hidden[-2], batch["attention_mask"].sum(1)


class Readers(nn.Module):
    """One linear head per attribute, reading its marker's position."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN)
        self.heads = nn.ModuleDict({name.replace(".", "_"): nn.Linear(HIDDEN, n) for name, n in HEADS.items()})

    def forward(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        rows = torch.arange(len(features))
        read = {}
        for name in HEADS:
            marker = int(name[0])
            place = lengths - len(MARKERS) + marker
            read[name] = self.heads[name.replace(".", "_")](self.norm(features[rows, place]))
        return read


def train(folder: Path, steps: int = 600, batch: int = 128, seed: int = 0) -> None:
    """Train tokenizer and encoder into `folder` (`tokenizer/`, `text_encoder/`)."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer()
    encoder, readers = build_encoder(len(tokenizer)), Readers()
    parameters = [*encoder.parameters(), *readers.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.08)
    right: dict[str, float] = {}
    for step in range(steps):
        sentences = [sample_sentence(rng) for _ in range(batch)]
        inputs = tokenizer([render_prompt(tokenizer, s.text) for s in sentences], padding=True, return_tensors="pt")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        hidden = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        read = readers(hidden[-2], mask.sum(1))
        loss = torch.zeros(())
        for name, logits in read.items():
            target = torch.tensor([s.targets[name] for s in sentences])
            loss = loss + nn.functional.cross_entropy(logits, target)
            right[name] = (logits.argmax(1) == target).float().mean().item()
        logits = hidden[-1][:, :-1] @ encoder.embed_tokens.weight.T
        following = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        loss = loss + 0.1 * nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            worst = min(right, key=lambda name: right[name])
            print(f"text {step}/{steps} loss {loss.item():.3f} worst head {worst} {right[worst]:.3f}", flush=True)
    encoder.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "text_encoder" / "training.json").write_text(json.dumps({"steps": steps, "right": right}, indent=1))

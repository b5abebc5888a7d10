"""A Qwen2-VL of half a million numbers, made from nothing and taught to say what clips of the small world show.

Rewards start from a model that can say what it sees. This one is to the small world what Qwen2-VL is to the real one:
the real classes at a tiny size, a tokenizer of whole words, clips with prompts that fit and that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from reelign.diffusion.seeds import generator_from, seed_from
from reelign.rewards.qwen_vision import ClipSettings, normalise
from reelign.rewards.qwen_vl import ClipBatch, Positions, hidden_states
from reelign.rewards.videoreward_clips import ClipPreparer, VideoRewardSettings
from reelign.rewards.videoreward_template import PROMPT
from reelign.spriteworld.prompts import COLOURS, MOTIONS, SHAPES, VOCABULARIES, captions
from reelign.spriteworld.world import FPS, SIZE, Flaws, sample_mix

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
WORDS = sorted({*COLOURS, *SHAPES, *(word for motion in MOTIONS for word in motion.split())})
TALK = [
    "system",
    "You",
    "are",
    "a",
    "helpful",
    "assistant.",
    "user",
    "assistant",
    "Rate",
    "the",
    "video.",
    "VQ:",
    "MQ:",
    "TA:",
    "Prompt:",
    "yes",
    "no",
]
CLIPS = ClipSettings(fps=FPS, num_frames=8, min_pixels=SIZE * SIZE, max_pixels=SIZE * SIZE)
"""Every other frame, as it is."""
BATCH = 32
FLAWS = (("blur", "fade", "blotches"), ("jitter", "wobble", "flicker"))
"""Of pictures and of motion."""
FLAW_WEIGHT = 2.0
"""Of all flaws together beside the three words."""
QUESTION = f"Rate the video.\nVQ:\nMQ:\nPrompt: {PROMPT}\nTA:\n"
"""`short_template` of the three dimensions without its reward tokens."""
POSITIONS: Positions = "sequential"
"""As VideoReward has them."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, and Qwen's special tokens."""
    vocabulary = {word: number for number, word in enumerate(["<|endoftext|>", "<unk>", *TALK, *WORDS])}
    model = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<|endoftext|>", unk_token="<unk>")
    made.add_tokens(list(SPECIAL), special_tokens=True)
    return made


def untrained(
    *, seed: int = 0, vocabulary: int | None = None, hidden: int = 96, layers: int = 4, patch: int = 8
) -> Qwen2VLForConditionalGeneration:
    """The model with random weights.

    Args:
        seed: of the weights.
        vocabulary: rows of the embedding table; None takes those of the tokenizer and room for reward tokens.
        hidden: width of the language model, a multiple of 32.
        layers: of the language model.
        patch: side of a patch in pixels; four of 8 are a 16 x 16 token of a 32 x 32 frame.
    """
    words = tokenizer()
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": vocabulary or len(words) + 8,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 32,
            "num_key_value_heads": hidden // 32,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
            "bos_token_id": None,
            "eos_token_id": None,
            "initializer_range": 0.05,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": hidden,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            # At transformers' 0.02 patches of so few values start out almost alike: shapes are then learnt many times
            # slower (0.53 against 0.77 right after 13,000 to 16,000 clips of a tower trained by itself).
            "initializer_range": 0.1,
        },
        tie_word_embeddings=True,
        **{name: words.convert_tokens_to_ids(token) for name, token in names.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from("small vlm", seed))
        return Qwen2VLForConditionalGeneration(config)


def save(model: Any, folder: Path) -> Path:
    """As the hub has such a model."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def pretrain(folder: Path, *, seed: int, tower_steps: int, steps: int, rate: float = 1e-3) -> dict[str, float]:
    """Train a model from nothing on clips of the small world, and save it.

    First its vision tower alone, as the towers of real ones are trained before them, to tell colours, shapes and
    motions apart and how strong each flaw is; then all of it, to say what prompts have wrong (`word_loss`) and, where
    the text asks for the quality of pictures and of motion, which flaws there are.

    Args:
        folder: takes it.
        seed: of weights and clips.
        tower_steps, steps: of `BATCH` new clips each.
        rate: of Adam, falling to a tenth in each of the two.
    Returns:
        What is right of the clips of the last tenth of steps: shares of colours, shapes and motions that the tower and
        then the whole tell, of told words and of whole prompts rightly called right or wrong; and of each, the share of
        the flaws' variance that it explains.
    """
    model = untrained(seed=seed).train()
    settings = VideoRewardSettings(template=QUESTION, pooling="last", head_width=3, clips=CLIPS)
    preparer = ClipPreparer(tokenizer(), model.config, settings)
    frames = CLIPS.frames_needed // model.config.vision_config.temporal_patch_size
    sizes = [*map(len, VOCABULARIES), 2 * len(FLAWS[0])]
    reader = nn.Linear(frames * model.config.vision_config.hidden_size, sum(sizes))
    flaw_readers = nn.ModuleList(nn.Linear(model.config.text_config.hidden_size, len(kind)) for kind in FLAWS)

    def tower(step: int) -> tuple[Tensor, Tensor]:
        videos, _, scene, flaws = sample_mix(BATCH, generator_from(seed, "small vlm, tower", step))
        seen = [preparer.look(video, FPS) for video in videos]
        pixels = normalise(torch.cat([each.pixels for each in seen]), preparer.layout)
        tokens = model.model.get_video_features(pixels, torch.tensor([each.grid for each in seen])).pooler_output
        pooled = torch.stack(list(tokens)).unflatten(1, (frames, -1)).mean(dim=2).flatten(1)
        *parts, strengths = reader(pooled).split(sizes, dim=1)
        told = list(zip(parts, scene.attributes.T, strict=True))
        loss = torch.stack([F.cross_entropy(part, true) for part, true in told]).sum()
        missed = flaw_error(strengths, torch.cat(flaw_strengths(flaws), dim=1))
        right = [(part.argmax(dim=1) == true).float().mean() for part, true in told]
        return loss + FLAW_WEIGHT * missed, torch.stack([*right, 1 - missed.detach()])

    def whole(step: int) -> tuple[Tensor, Tensor]:
        chance = generator_from(seed, "small vlm", step)
        videos, _, scene, flaws = sample_mix(BATCH, chance)
        # Each word by itself is another in two of five prompts, so that a right prompt is not a rare thing.
        others = torch.stack([torch.randint(len(words), (BATCH,), generator=chance) for words in VOCABULARIES], dim=1)
        told = torch.where(torch.rand(BATCH, 3, generator=chance) < 0.4, others, scene.attributes)
        batch = preparer.batch([preparer.look(video, FPS) for video in videos], captions(told))
        backbone = model.model
        table, inner = backbone.get_input_embeddings(), []
        hooks = [
            layer.register_forward_hook(lambda layer, given, found: inner.append(found))
            for layer in backbone.language_model.layers[-3:-1]
        ]
        states = hidden_states(backbone, batch, table(batch.input_ids), positions=POSITIONS)
        for hook in hooks:
            hook.remove()
        scores = [backbone.language_model.norm(each) @ table.weight.T for each in inner]
        loss, right = word_loss([*scores, states @ table.weight.T], batch, told, scene.attributes)
        missed = torch.stack(
            [
                flaw_error(read(states[batch.input_ids == word]), true)
                for read, word, true in zip(flaw_readers, asked, flaw_strengths(flaws), strict=True)
            ]
        ).mean()
        return loss + FLAW_WEIGHT * missed, torch.cat([right, 1 - missed.detach()[None]])

    asked = tokenizer().convert_tokens_to_ids(["VQ:", "MQ:"])
    trained = [*model.parameters(), *reader.parameters(), *flaw_readers.parameters()]
    tower_right = descend(tower, trained, steps=tower_steps, rate=rate, title=f"tower {seed}")
    right = descend(whole, trained, steps=steps, rate=rate, title=f"backbone {seed}")
    save(model.eval(), folder)
    names = ("tower_colour", "tower_shape", "tower_motion", "tower_flaws")
    names += ("colour", "shape", "motion", "word", "answer", "flaws")
    return dict(zip(names, [*tower_right, *right], strict=True))


def flaw_strengths(flaws: Flaws) -> list[Tensor]:
    """Of pictures and of motion, (B, 3) each: how strong each flaw is, in [0, 1]."""
    return [torch.stack([getattr(flaws, name) for name in kind], dim=1) for kind in FLAWS]


def flaw_error(said: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of strengths (B, K), as a share of what the mean strength would leave; 0 is perfect."""
    return F.mse_loss(said, true) / (true - true.mean(dim=0)).square().mean()


def descend(
    step_of: Callable[[int], tuple[Tensor, Tensor]], trained: list[nn.Parameter], *, steps: int, rate: float, title: str
) -> list[float]:
    """Adam on the losses that `step_of` gives, and the mean of what it says is right over the last tenth of steps."""
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    right: list[Tensor] = []
    for step in (bar := tqdm(range(steps), desc=title, unit="step", mininterval=5)):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - 0.9 * step / steps)
        loss, hits = step_of(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        right = [*right, hits.detach()][-max(1, steps // 10) :]
        if step % 50 == 0:
            bar.set_postfix_str(" ".join(f"{share:.2f}" for share in torch.stack(right[-50:]).mean(dim=0).tolist()))
    return torch.stack(right).mean(dim=0).tolist()


def word_loss(scores: list[Tensor], batch: ClipBatch, told: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of three mean surprises, and what is right of colour, shape, motion, words, prompts, (5,).

    One layer says the true word where the told one stands, the next whether these two are the same, and the last,
    behind the prompt, whether all are. Asked for the last answer alone, so small a model does not find the first two.

    Args:
        scores: (B, L, V) of words, by the last three layers.
        batch: texts, in which words of `WORDS` stand in the prompt alone.
        told: (B, 3) attributes in the prompt.
        true: (B, 3) attributes of the clip.
    """
    words = tokenizer()
    places = torch.isin(batch.input_ids, torch.tensor(words.convert_tokens_to_ids(WORDS))).int().argmax(dim=1)
    rows, answers = torch.arange(len(told)), words.convert_tokens_to_ids(["no", "yes"])
    # A motion of two words is known by its last one.
    two = torch.tensor([len(MOTIONS[motion].split()) - 1 for motion in told[:, 2].tolist()])
    losses, right, checked = [], [], []
    for column, vocabulary in enumerate(VOCABULARIES):
        at = places + column + (two if column == 2 else 0)
        said = scores[0][rows, at][:, words.convert_tokens_to_ids([word.split()[-1] for word in vocabulary])]
        losses.append(F.cross_entropy(said, true[:, column]))
        right.append(said.argmax(dim=1) == true[:, column])
        same = scores[1][rows, at][:, answers]
        losses.append(F.cross_entropy(same, (told == true)[:, column].long()))
        checked.append(same.argmax(dim=1) == (told == true)[:, column].long())
    fits = (told == true).all(dim=1).long()
    ends = batch.attention_mask.sum(dim=1)[:, None] - torch.arange(1, 5)  # all that stands behind the prompt
    answered = scores[2][rows[:, None], ends][..., answers]
    losses.append(F.cross_entropy(answered.flatten(0, 1), fits.repeat_interleave(4)))
    right += [torch.stack(checked).float().mean(dim=0), answered[:, 0].argmax(dim=-1) == fits]
    return torch.stack(losses).sum(), torch.stack([each.float().mean() for each in right]).detach()

"""Critics trained on judgements of the small world, measured as IPO's Table 6: the table in docs/evidence.md.

    python benchmarks/critic_evidence.py --folder critics              # all that is not done yet, then the table
    python benchmarks/critic_evidence.py --folder critics --seeds 0
    python benchmarks/critic_evidence.py --folder critics --backbones rewards    # of reward_evidence.py, not made anew
    python benchmarks/critic_evidence.py --folder critics --table-only

Each seed has a backbone made from nothing (`small_vlm.py`) that knows the words of the questions, clips, and what three
simulated people say of pairs of them and of each by itself. No backbone has ever written a word: what an answer looks
like is learnt within an arm, and an arm of a few steps answers nothing that can be read. Arms train on prompts of the
train split, one after the other from the same backbone; everything in the table is of held-out captions.
A finished arm is not run again and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import small_vlm
import torch
from critic_evidence_table import write_table
from reward_evidence import judged_workspace
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from reelign import critic_stages
from reelign.config import resolve
from reelign.critics.questions import DIMENSIONS as MEANINGS
from reelign.critics.questions import pairwise, pointwise
from reelign.diffusion.seeds import generator_from
from reelign.files import write_text
from reelign.recipes.critic.data import workspace_critic_data
from reelign.recipes.critic.lessons import Example
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.training import train_critic
from reelign.records import Judgement, Workspace
from reelign.spriteworld import judges
from reelign.spriteworld.people import people
from reelign.spriteworld.prompts import captions
from reelign.spriteworld.world import SIZE
from reelign.video import read_video

SEEDS = (0, 1, 2)
DIMENSIONS = ("VQ", "MQ", "TA")
NOISE = 0.05
"""Standard deviation of what a person sees of a true score, before the grade."""
ARMS = ("untrained", "verdicts", "reasons", "one-order")
"""The backbone as it is; trained on verdicts alone; on what people see and then verdicts; on verdicts of pairs in one
order, drawn at random."""
SHARED: dict[str, Any] = {
    "frames": small_vlm.CLIPS.num_frames,
    "pixels": {"min_pixels": SIZE * SIZE, "max_pixels": SIZE * SIZE},
    "dimensions": list(DIMENSIONS),
    "train": "full",
    "batch_size": 8,
    "max_tokens": 32,
    "trainer": {"learning_rate": 3e-4, "warmup_steps": 20, "schedule": "cosine", "checkpoint_every": 50},
    # A look of every arm at the same held-out captions comes at its end; one at every 50 steps cost as much as these.
    "watch": {"held_out": 0.0, "asked": 0},
    "device": "cpu",
}
EVIDENCE = "critic.json"


def tokenizer() -> PreTrainedTokenizerFast:
    """The words of the small world and of the questions, quotes and ends of lines apart."""
    split = Sequence([Split(Regex(r'["\n]'), "isolated"), Split(" ", "removed")])
    asked = [ask(each, "") for ask in (pairwise, pointwise) for each in MEANINGS.values()]
    asked += ["Video A:\n", "\nVideo B:\n", "Verdict: A", "shows"]
    words = [word for text in asked for word, _ in split.pre_tokenize_str(text)]
    vocabulary = dict.fromkeys(["<|endoftext|>", "<unk>", *small_vlm.TALK, *small_vlm.WORDS, '"', "\n", *words])
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    model.pre_tokenizer = split
    made = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<|endoftext|>", unk_token="<unk>")
    made.add_tokens(list(small_vlm.SPECIAL), special_tokens=True)
    return made


def main(folder: Path, options: argparse.Namespace) -> None:
    # The critic reads with the backbone's own positions, and words that the rewards' backbone does not know.
    small_vlm.tokenizer, small_vlm.POSITIONS = tokenizer, "multimodal"
    for seed in map(int, options.seeds.split(",")):
        own = folder / f"seed-{seed}"
        backbone = backbone_of(own, seed, options)
        workspace = judged_workspace(own / "workspace", seed=seed, candidates=options.candidates)
        grade(workspace, seed)
        for arm in options.arms.split(","):
            run = workspace.root / "runs" / arm
            if not (run / EVIDENCE).exists():
                began = time.process_time()
                critic = backbone if arm == "untrained" else train(workspace, backbone, arm, seed, options.epochs)
                trained = time.process_time()
                measure(workspace, critic, run, options)
                spent = f"{trained - began:.0f} s of CPU to train, {time.process_time() - trained:.0f} s to ask"
                print(f"seed {seed}, {arm}: {spent}", flush=True)


def backbone_of(own: Path, seed: int, options: argparse.Namespace) -> Path:
    """The seed's backbone, made from nothing or from the one that rewards were trained from."""
    backbone = own / "backbone"
    if (own / "backbone.json").exists() and backbone.exists():
        return backbone
    if options.backbones is None:
        found = small_vlm.pretrain(backbone, seed=seed, tower_steps=options.steps // 2, steps=options.steps)
        found = {"steps": options.steps, **found}
    else:
        source = options.backbones / f"seed-{seed}"
        small_vlm.save(with_words(source / "backbone", seed), backbone)
        found = json.loads((source / "backbone.json").read_text())
    write_text(own / "backbone.json", json.dumps(found))
    return backbone


def with_words(source: Path, seed: int) -> Qwen2VLForConditionalGeneration:
    """A reward's backbone with rows for the words of the questions beside those that it knows."""
    old = Qwen2VLForConditionalGeneration.from_pretrained(source)
    known, model = AutoTokenizer.from_pretrained(source).get_vocab(), small_vlm.untrained(seed=seed)
    words = small_vlm.tokenizer().get_vocab()
    table = model.get_input_embeddings().weight.detach().clone()
    for word in known.keys() & words.keys():
        table[words[word]] = old.get_input_embeddings().weight[known[word]]
    tables = {"model.language_model.embed_tokens.weight": table, "lm_head.weight": table}
    model.load_state_dict(old.state_dict() | tables)
    return model.eval()


def grade(workspace: Workspace, seed: int) -> None:
    """What three people say of each clip by itself, in thirds of the true scores."""
    if any(row.kind == "three_level" for row in workspace.judgements()):
        return
    chance = generator_from(seed, "critic evidence")
    videos = workspace.videos()
    texts = {prompt.id: prompt.text for prompt in workspace.prompts()}
    frames = torch.stack([read_video(workspace.video_path(video)).frames for video in videos])
    true = judges.scores(frames, [texts[video.prompt_id] for video in videos])
    rows = []
    for name in DIMENSIONS:
        cuts = true[name].quantile(torch.tensor([1 / 3, 2 / 3]))
        for person in people(3):
            seen = true[name] + NOISE * torch.randn(len(videos), generator=chance)
            for video, level in zip(videos, torch.bucketize(seen, cuts).tolist(), strict=True):
                rows.append(
                    Judgement(
                        kind="three_level",
                        video_a=video.id,
                        dimension=name,
                        verdict=("bad", "normal", "good")[level],
                        judge=person.name,
                        judge_version=person.version,
                    )
                )
    workspace.add_judgements(rows)


def train(workspace: Workspace, backbone: Path, arm: str, seed: int, epochs: float) -> Path:
    """The arm's critic, from the same backbone and votes as the others."""
    given = {**SHARED, "run": arm, "backbone": str(backbone), "epochs": epochs, "seed": seed}
    settings = resolve(CriticSettings, [("this study", given)])
    data = workspace_critic_data(workspace, DIMENSIONS, split="train")
    chance = generator_from(seed, "one order")
    shown = {video.id: captions(torch.tensor([video.settings["shown"]]))[0] for video in workspace.videos()}
    lessons = []
    for lesson in data.lessons:
        examples = lesson.examples
        if arm == "one-order" and len(examples) == 2:
            examples = (examples[int(torch.randint(2, (), generator=chance))],)
        if arm == "reasons":
            examples = tuple(replace(each, reasons=sight(each, shown)) for each in examples)
        lessons.append(replace(lesson, examples=examples))
    return train_critic(replace(data, lessons=tuple(lessons)), settings, workspace.root / "runs" / arm).critic


def sight(example: Example, shown: dict[str, str]) -> tuple[str, ...]:
    """What people see of what the prompt asks for, on text alignment; of looks and motion they say nothing."""
    if example.dimension != "TA":
        return ()
    seen = [shown[path.stem] for path in example.videos]
    if len(seen) == 1:
        return (f"shows {seen[0]}",)
    return (f"Video A shows {seen[0]}\nVideo B shows {seen[1]}",)


def measure(workspace: Workspace, critic: Path, run: Path, options: argparse.Namespace) -> None:
    """On held-out captions, as `reelign critic evaluate` does."""
    how = {"frames": SHARED["frames"], **SHARED["pixels"], "max_tokens": SHARED["max_tokens"], "device": "cpu"}
    named = str(critic) if (critic / "critic.json").exists() else "local"
    opened = how if named != "local" else {**how, "model": str(critic)}
    ask = {"max_pairs": options.pairs, "max_videos": options.pairs, "probes": options.pairs // 2, "repeats": 1}
    critic_stages.measure_critic(named, workspace=workspace.root, out=run, split="held_out", critic=opened, ask=ask)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("critics"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--steps", type=int, default=3000, help="of the backbone's pretraining, 32 clips each")
    parser.add_argument("--backbones", type=Path, help="folder of reward_evidence.py, whose backbones to begin with")
    parser.add_argument("--candidates", type=int, default=8, help="clips of each caption, 7 or more")
    parser.add_argument("--epochs", type=float, default=0.6, help="of each arm")
    parser.add_argument("--pairs", type=int, default=100, help="pairs and clips asked about, of each dimension")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--page", type=Path, default=Path(__file__).parent.parent / "docs" / "evidence.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table_only:
        main(options.folder, options)
    write_table(options.folder, list(ARMS), options.page)

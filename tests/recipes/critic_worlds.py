"""A workspace of clips whose brightness is their quality, judged in words by several judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recipes.reward_worlds import PER_PROMPT, PROMPTS, write_clips
from reelign.critics import Comparison, Critic, Rating, Tally
from reelign.critics.local_qwen import Pixels
from reelign.recipes.critic.settings import CriticSettings, CriticWatch
from reelign.recipes.reward.settings import RewardLoRA
from reelign.records import Judgement, Video, Workspace
from reelign.training.settings import TrainerSettings
from reelign.video import Clip


class Eye(Critic):
    """Sees which of two clips is brighter, the surer the further they are apart; of the darkest says what is first."""

    name, version = "eye", "1"
    compares = rates = ("VQ",)

    def __init__(self) -> None:
        self.tally = Tally()

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        one, other = (float(each.frames[:, :, -4:].mean()) for each in (a, b))
        if min(one, other) < 0.2:
            return Comparison(verdict="a", certainty=1.0)
        return Comparison(verdict="a" if one > other else "b", certainty=min(1.0, abs(one - other) * 2), reason="Seen.")

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        return Rating(grade="good")


def bright_workspace(folder: Path) -> Workspace:
    """Clips from dark to bright, without judgements; a clip's id is PROMPT-PLACE."""
    workspace = Workspace.create(folder, model="spriteworld")
    prompts = workspace.add_prompts(PROMPTS, "train")
    made = {"generator": "none", "fps": 4.0, "num_frames": 4, "height": 32, "width": 32}
    workspace.add_videos(
        Video(id=path.stem, prompt_id=prompt.id, seed=0, index=place, path=f"videos/{path.name}", **made)
        for prompt, own in zip(prompts, write_clips(workspace.root / "videos"), strict=True)
        for place, path in enumerate(own)
    )
    return workspace


def judged(a: str, b: str | None, verdict: str, *, judge: str = "Ada", **more: object) -> Judgement:
    fields = {"dimension": "VQ", "judge_version": "1", "kind": "pairwise" if b else "three_level", **more}
    return Judgement(video_a=a, video_b=b, verdict=verdict, judge=judge, **fields)


def all_judged(workspace: Workspace) -> None:
    """Every pair's brighter clip is better, and clips are bad, normal and good as they get brighter; with reasons."""
    grades = ("bad", "normal", "normal", "good")
    for number in range(len(PROMPTS)):
        own = [f"{number}-{place}" for place in range(PER_PROMPT)]
        workspace.add_judgements(
            judged(own[a], own[b], "b", reason="Video B is brighter.")
            for a in range(PER_PROMPT)
            for b in range(a + 1, PER_PROMPT)
        )
        workspace.add_judgements(
            judged(video, None, grade, reason="It is dark." if grade == "bad" else None)
            for video, grade in zip(own, grades, strict=True)
        )


def tiny_settings(backbone: Path, **changes: object) -> CriticSettings:
    base = CriticSettings(
        backbone=str(backbone),
        dimensions=("VQ",),
        frames=2,
        pixels=Pixels(min_pixels=28 * 28, max_pixels=28 * 28),
        lora=RewardLoRA(rank=4, alpha=8),
        batch_size=3,
        epochs=0,
        trainer=TrainerSettings(steps=4, learning_rate=3e-3, checkpoint_every=2),
        watch=CriticWatch(held_out=0.2, every=2, asked=2),
        max_tokens=4,
        device="cpu",
    )
    return replace(base, **changes)  # type: ignore[arg-type]

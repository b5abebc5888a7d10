"""`reelign critic train`."""

from __future__ import annotations

from pathlib import Path

from reelign.cli.options import Settings, WorkspaceOption, layers


def train(settings: Settings = None, workspace: WorkspaceOption = Path()) -> None:
    """Train a vision-language model on what judges said of pairs and single videos, and why, and keep it as a critic.

    Example: `reelign critic train -w wan backbone=Qwen/Qwen2.5-VL-3B-Instruct epochs=5`
    """
    from reelign import critic_stages

    done = critic_stages.train_critic(workspace, layers=layers(settings))
    numbers = done.numbers
    for reason, count in numbers.left_out.items():
        print(f"left out: {count} x {reason}")
    if numbers.stopped is not None:
        print(f"ended before its last step: {numbers.stopped}")
    if numbers.alarm is not None:
        print(f"overfitting: {numbers.alarm}")
    for kind, by in numbers.told.items():
        for name, own in by.items():
            unread = f", {own.unread} without a verdict" if own.unread else ""
            print(f"{name}, {kind}: {own.right} of {own.asked} held-out questions right{unread}")
    print(f"trained on {numbers.votes} votes, {numbers.reasons} with a reason; the critic is {done.critic}")
    print(f"measure it: reelign critic evaluate {done.critic} -w WORKSPACE split=held_out")
    print(f"let it judge: reelign judge -w WORKSPACE judge=critic:{done.critic}")

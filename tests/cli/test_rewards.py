"""`reelign rewards`: the list, scores of files and workspaces, and a served reward in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
from importlib import import_module
from pathlib import Path

import pytest
import torch

from cli.process import reelign, refusal, start, succeed
from reelign.records import Video, Workspace
from reelign.rewards import REWARDS, card_of, open_reward
from reelign.rewards.proxy_measures import sharpness
from reelign.video import read_video, write_video

LIGHT = "rewards.rewards:Light"


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Once here, what each command, a fork of this process, would else import anew."""
    for name in ("rich.table", "rewards.rewards", "reelign.rewards.serving", "reelign.recipes.scoring"):
        import_module(name)
    for name in REWARDS:
        card_of(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos of different sizes and rates, and a black one."""
    chance = torch.Generator().manual_seed(0)
    write_video(tmp_path / "a.mp4", torch.rand(5, 3, 32, 32, generator=chance), 8)
    write_video(tmp_path / "b.mp4", torch.rand(4, 3, 16, 32, generator=chance), 16)
    write_video(tmp_path / "black.mp4", torch.zeros(4, 3, 16, 16), 8)
    return tmp_path


def test_the_list_names_every_reward_with_its_card(tmp_path: Path) -> None:
    out = succeed("rewards", folder=tmp_path)
    for name in REWARDS:
        assert re.search(rf"│ {re.escape(name)} ", out), name
    assert re.search(r"│ flicker +│ steadiness +│ yes +│ 3 +│ no weights", out)
    cards = json.loads(succeed("rewards", "--json", folder=tmp_path))
    assert list(cards) == list(REWARDS)
    assert cards["flicker"]["dimensions"] == ["steadiness"]
    assert cards["composed"]["options"] == ["parts", "name"]


def test_files_are_scored_each_for_its_prompt(folder: Path) -> None:
    out = succeed("rewards", "score", "sharpness", "a.mp4", "b.mp4", "--prompt", "noise", folder=folder)
    expected = [sharpness(read_video(folder / name).frames[None]).item() for name in ("a.mp4", "b.mp4")]
    assert out.splitlines() == [
        f"{name}  sharpness {value:.4f}" for name, value in zip(("a.mp4", "b.mp4"), expected, strict=True)
    ]
    words = ("rewards", "score", LIGHT, "gain=2", "a.mp4", "b.mp4", "--prompt", "abc", "--prompt", "abcde")
    lines = succeed(*words, folder=folder).splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["3.0000", "5.0000"]
    light = float(re.findall(r"VQ (\S+)", lines[0])[0])
    assert light == pytest.approx(2 * read_video(folder / "a.mp4").frames.mean().item(), abs=1e-3)


def test_options_may_come_from_a_file(folder: Path) -> None:
    (folder / "mix.yaml").write_text(
        "parts:\n- {reward: sharpness, weights: {sharpness: 1}}\n- {reward: flicker, weights: {steadiness: 2}}\n"
    )
    out = succeed("rewards", "score", "composed", "mix.yaml", "a.mp4", "--prompt", "noise", folder=folder)
    found = {name: float(value) for name, value in re.findall(r"(\S+) (-?[\d.]+)(?:  |$)", out.strip())}
    assert found["overall"] == pytest.approx(found["sharpness.sharpness"] + 2 * found["flicker.steadiness"], abs=2e-4)


def test_what_could_not_be_scored_is_named_and_fails(folder: Path) -> None:
    result = reelign("rewards", "score", LIGHT, "a.mp4", "black.mp4", "--prompt", "p", folder=folder)
    assert "1 of 2 samples could not be scored and are left out: black.mp4 (VQ)" in refusal(result)
    assert "black.mp4  VQ nan  TA 1.0000" in result.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score", "sharpnes", "a.mp4", "--prompt", "p"), "Did you mean 'sharpness'"),
        (("score", "sharpness"), "Name video files, or a workspace"),
        (("score", "sharpness", "a.mp4"), "1 videos came with 0 prompts"),
        (("score", "sharpness", "no.mp4", "--prompt", "p"), "no video file at no.mp4"),
        (("score", "sharpness", "gain=2", "a.mp4", "--prompt", "p"), "takes no setting 'gain'"),
        (("serve", "sharpness", "model"), "'model' is no option of the reward"),
        (("serve", "http://127.0.0.1:9", "retries=0"), "gave no answer in 1 tries"),
    ],
)
def test_what_cannot_be_done_is_refused(words: tuple[str, ...], message: str, folder: Path) -> None:
    assert message in refusal(reelign("rewards", *words, folder=folder))


def test_the_videos_of_a_workspace_are_scored_once_and_kept(folder: Path) -> None:
    workspace = Workspace.create(folder / "ws", model="some/model")
    (prompt,) = workspace.add_prompts(["a cat"], "train")
    for number, name in enumerate(("a", "b", "black")):
        (folder / f"{name}.mp4").rename(folder / "ws" / "videos" / f"{name}.mp4")
        size = {"num_frames": 4, "height": 16, "width": 16, "fps": 8.0}
        workspace.add_videos(
            [
                Video(
                    id=name,
                    prompt_id=prompt.id,
                    generator="some/model",
                    seed=number,
                    index=number,
                    path=f"videos/{name}.mp4",
                    **size,
                )
            ]
        )
    out = succeed("rewards", "score", LIGHT, "-w", "ws", folder=folder)
    assert "3 of 3 videos have scores of light (version 1)" in out
    assert "TA: mean 5.0000, from 5.0000 to 5.0000" in out
    assert "1 of 3 samples could not be scored and are left out: videos/black.mp4 (VQ)" in out
    assert len(workspace.scores("light")) == 5
    out = succeed("judge", "-w", "ws", f"judge=reward:{LIGHT}", "reward.tie.TA=0.5", folder=folder)
    assert "4 judgements made, 0 were there" in out
    assert "light: 1 of 1 samples could not be scored and are left out: videos/black.mp4 (VQ)" in out
    assert {row.verdict for row in workspace.judgements("TA")} == {"tie"}
    assert '"tie"' in succeed("schema", "judge", folder=folder)


def test_a_reward_in_a_process_of_its_own(folder: Path) -> None:
    served = start("rewards", "serve", LIGHT, "gain=2", "--port", "0", "--token", "secret", folder=folder)

    def address() -> str:
        printed = served.out.read_text() if served.out.exists() else ""
        return "".join(re.findall(r"use it as +(\S+)", printed))

    def asked_for_a_score() -> bool:
        if not address():
            return False
        found = open_reward(address(), token="secret").score(torch.full((1, 4, 3, 16, 16), 0.25), ["four"], fps=8)
        assert {name: values.tolist() for name, values in found.items()} == {"VQ": [0.5], "TA": [4.0]}
        return True

    try:
        result = served.interrupt(asked_for_a_score)
    except BaseException:
        os.kill(served.pid, signal.SIGKILL)
        raise
    assert "Stopped." in refusal(result)
    assert "light (version 1) scores VQ, TA" in result.out
    assert "token      secret" in result.out

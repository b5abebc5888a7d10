"""The whole path on the small world: people judge through the page's server, and what learns from them gets better."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import reelign
from benchmark_scripts import benchmark
from cli.process import succeed
from reelign.diffusion.seeds import generator_from
from reelign.generators import resolve_model
from reelign.records import Workspace
from reelign.spriteworld.people import Person, people
from reelign.video import read_video

SETTINGS = "\nannotate: {judges_per_item: 3, gold_rate: 0, repeat_rate: 0}\n"
OPTIONS = {"a": "left_clearly", "tie": "same", "b": "right_clearly"}


@pytest.fixture
def load() -> Iterator[ModuleType]:
    with benchmark("annotate_load") as (found,):
        yield found


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Here and in the commands: several threads add up in another order, and hundreds of steps carry that far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opinion(person: Person, videos: dict[str, Tensor], question: dict[str, Any]) -> dict[str, str]:
    """What a person of the small world says of two videos as shown, by their true scores and a noise of their own.

    The noise is drawn from what is asked and not from the showing, whose id is another in every run.
    """
    shown = [video["id"] for video in question["videos"]]
    chance = generator_from(0, person.name, *shown)
    left, right = (videos[video] for video in shown)
    (verdicts,) = person.compare(left, right, [question["prompt"]], generator=chance)
    return {name: OPTIONS[verdict] for name, verdict in verdicts.items()}


def judge_all(load: ModuleType, workspace: Workspace) -> int:
    """Three people work until nothing is left; returns how many questions they answered."""
    server, answered = load.ServerProcess(workspace.root), 0
    videos = {each.id: read_video(workspace.video_path(each)).frames[None] for each in workspace.videos("train")}
    for person in people(3):
        client = load.Client(server.address, person.name)
        work = client.call("/api/work", {})
        while work["questions"]:
            question = work["questions"][0]
            sent = {"showing": question["showing"], "revision": question["revision"], "duration_s": 4.0}
            work = client.call("/api/answer", {**sent, "answers": opinion(person, videos, question)})
            answered += 1
    server.stop()
    return answered


def whole_path(load: ModuleType, folder: Path, *, prompts: int, candidates: int, steps: int, seeds: int) -> Any:
    """generate, annotate, pairs, align, evaluate; the comparison of base and aligned by the true judges."""
    for split in ("train", "held_out"):
        shipped = (Path(resolve_model("spriteworld")) / "prompts" / f"{split}.txt").read_text().splitlines()
        (folder / f"{split}.txt").write_text("\n".join(shipped[:prompts]))
    succeed("init", "w", "--prompts", "train.txt", "--held-out", "held_out.txt", folder=folder)
    workspace = Workspace.open(folder / "w")
    with (workspace.root / "reelign.yaml").open("a") as file:
        file.write(SETTINGS)
    succeed("generate", "-w", workspace.root, f"candidates={candidates}", folder=folder)
    questions = prompts * candidates * (candidates - 1) // 2
    assert judge_all(load, workspace) == 3 * questions
    assert len(workspace.judgements()) == 9 * questions
    assert re.search(r"^\d+ pairs of \d+ prompts$", succeed("pairs", "-w", workspace.root, folder=folder), re.MULTILINE)
    succeed("align", "-w", workspace.root, f"trainer.steps={steps}", folder=folder)
    return reelign.evaluate(workspace.root, seeds=seeds).comparison


@pytest.mark.slow
def test_what_people_said_at_the_page_reaches_the_adapter(load: ModuleType, tmp_path: Path) -> None:
    comparison = whole_path(load, tmp_path, prompts=3, candidates=2, steps=2, seeds=1)
    assert torch.isfinite(torch.tensor(comparison.gain))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_model_that_learned_from_people_is_better(load: ModuleType, tmp_path: Path) -> None:
    """As many prompts and candidates as the demo has: a third of the prompts leaves a gain within the noise."""
    comparison = whole_path(load, tmp_path, prompts=108, candidates=6, steps=300, seeds=12)
    assert comparison.interval.low > 0

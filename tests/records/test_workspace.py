"""The workspace on both databases: idempotence, transactions, other processes, and what is refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from reelign.errors import ReelignError
from reelign.records import Judgement, Video, Workspace, content_key


def video(name: str, prompt_id: int, *, index: int = 0, adapter: str = "", fps: float = 8.0) -> Video:
    return Video(
        id=name,
        prompt_id=prompt_id,
        generator="tiny/wan@abc",
        adapter=adapter,
        seed=7 + index,
        index=index,
        settings={"steps": 10},
        path=f"videos/{name}.mp4",
        latents="latents/0.safetensors",
        latents_key=name,
        fps=fps,
        num_frames=9,
        height=32,
        width=32,
    )


def judgement(a: str, b: str, verdict: str = "a", dimension: str = "VQ", judge: str = "ann") -> Judgement:
    return Judgement(video_a=a, video_b=b, dimension=dimension, verdict=verdict, judge=judge, judge_version="1")


def test_what_is_added_is_there_after_opening_again(workspace: Workspace) -> None:
    first, second = workspace.add_prompts(["a red square", "a blue disc"], "train")
    workspace.add_videos([video("v1", second.id, index=1), video("v0", second.id), video("u", first.id)])
    workspace.add_judgements([judgement("v0", "v1"), judgement("v1", "v0", "tie", "MQ", "bob")])

    again = Workspace.open(workspace.root)
    assert again.model == "tiny/wan"
    assert [each.text for each in again.prompts("train")] == ["a red square", "a blue disc"]
    assert [each.id for each in again.videos()] == ["u", "v0", "v1"]
    v0 = again.videos(prompt_id=second.id)[0]
    assert v0.settings == {"steps": 10}
    assert v0.created.tzinfo == UTC
    assert again.video_path(v0) == workspace.root / "videos" / "v0.mp4"
    assert again.latents_path(v0) == workspace.root / "latents" / "0.safetensors"
    assert [(each.judge, each.verdict) for each in again.judgements()] == [("ann", "a"), ("bob", "tie")]
    assert [each.judge for each in again.judgements(dimension="MQ")] == ["bob"]
    assert [each.dimension for each in again.judgements(judge="ann")] == ["VQ"]


def test_adding_twice_changes_nothing(workspace: Workspace) -> None:
    first = workspace.add_prompts(["a", "b", "a"], "train")
    second = workspace.add_prompts(["b", "a"], "train")
    assert [each.id for each in first] == [each.id for each in reversed(second)]
    assert len(workspace.prompts()) == 2

    workspace.add_videos([video("v", first[0].id)])
    workspace.add_videos([video("v", first[0].id, fps=99.0), video("w", first[0].id, index=1)])
    assert [(each.id, each.fps) for each in workspace.videos()] == [("v", 8.0), ("w", 8.0)]


def test_splits_hold_the_same_text_apart(workspace: Workspace) -> None:
    workspace.add_prompts(["a"], "train")
    workspace.add_prompts(["a"], "held_out")
    assert [each.split for each in workspace.prompts()] == ["train", "held_out"]


def test_nothing_to_add_is_fine(workspace: Workspace) -> None:
    assert workspace.add_prompts([], "train") == []
    workspace.add_videos([])
    workspace.add_judgements([])


def test_more_rows_than_one_statement_takes(workspace: Workspace) -> None:
    prompts = workspace.add_prompts([f"prompt {number}" for number in range(1203)], "train")
    workspace.add_videos(video(f"v{number:04}", prompt.id) for number, prompt in enumerate(prompts))
    assert len(workspace.videos()) == 1203


def test_groups_follow_prompts_and_filter_by_adapter(workspace: Workspace) -> None:
    one, two = workspace.add_prompts(["one", "two"], "train")
    (other,) = workspace.add_prompts(["three"], "held_out")
    workspace.add_videos(
        [video("b1", two.id, index=1), video("b0", two.id), video("a0", one.id), video("c0", other.id)]
    )
    workspace.add_videos([video("x0", one.id, adapter="lora")])
    groups = workspace.groups("train", "")
    assert [(group.prompt.text, [each.id for each in group.videos]) for group in groups] == [
        ("one", ["a0"]),
        ("two", ["b0", "b1"]),
    ]
    assert [[each.id for each in group.videos] for group in workspace.groups(adapter="lora")] == [["x0"]]


def test_a_refused_record_takes_its_whole_batch_along(workspace: Workspace) -> None:
    (prompt,) = workspace.add_prompts(["a"], "train")
    with pytest.raises(ReelignError, match="known prompt"):
        workspace.add_videos([video("v0", prompt.id), video("v1", 999)])
    assert workspace.videos() == []
    workspace.add_videos([video("v0", prompt.id), video("v1", prompt.id)])
    with pytest.raises(ReelignError, match="known videos"):
        workspace.add_judgements([judgement("v0", "v1"), judgement("v0", "nobody")])
    assert workspace.judgements() == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (judgement("v0", "v1", "left"), "verdict 'left'"),
        (judgement("v0", "v0"), "compared with itself"),
    ],
)
def test_impossible_judgements_are_refused(workspace: Workspace, wrong: Judgement, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        workspace.add_judgements([wrong])


def test_an_empty_prompt_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ReelignError, match="prompt 2 of split 'train' is empty"):
        workspace.add_prompts(["a", "  "], "train")
    assert workspace.prompts() == []


def test_create_opens_the_same_and_refuses_another_model(workspace: Workspace) -> None:
    workspace.add_prompts(["a"], "train")
    assert len(Workspace.create(workspace.root, model="tiny/wan").prompts()) == 1
    with pytest.raises(ReelignError, match=r"made for tiny/wan, not for other"):
        Workspace.create(workspace.root, model="other")


def test_folders_that_are_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="no such folder"):
        Workspace.open(tmp_path / "missing")
    with pytest.raises(ReelignError, match=r"has no reelign\.db"):
        Workspace.open(tmp_path)
    (tmp_path / "reelign.db").write_bytes(b"not a database, but long enough to be read as one" * 50)
    with pytest.raises(ReelignError, match="not a database"):
        Workspace.open(tmp_path)


def test_an_old_prompt_is_found_again_however_long(workspace: Workspace) -> None:
    # Longer than PostgreSQL can index, and not to be compressed.
    text = " ".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(200))
    (first,) = workspace.add_prompts([text], "train")
    (second,) = workspace.add_prompts([text], "train")
    assert first.id == second.id


def test_a_video_is_known_by_its_content(workspace: Workspace) -> None:
    (prompt,) = workspace.add_prompts(["a"], "train")
    (workspace.root / "videos" / "v.mp4").write_bytes(b"an mp4")
    workspace.add_videos([video("v", prompt.id), video("w", prompt.id)])
    hashes = {each.id: each.content_hash for each in workspace.videos()}
    assert hashes == {"v": hashlib.sha256(b"an mp4").hexdigest(), "w": None}


def test_seeds_have_63_bits(workspace: Workspace) -> None:
    (prompt,) = workspace.add_prompts(["a"], "train")
    one = video("v", prompt.id)
    one.seed = 2**63 - 1
    workspace.add_videos([one])
    assert workspace.videos()[0].seed == 2**63 - 1


WRITER = """
import sys
from reelign.records import Workspace
workspace = Workspace.open(sys.argv[1])
for batch in range(10_000):
    workspace.add_prompts([f"{batch} {number}" for number in range(20)], "train")
    print(batch, flush=True)
"""


def test_reading_while_another_writes_and_is_killed(workspace: Workspace) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(workspace.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        for number in range(10):
            acknowledged = int(writer.stdout.readline()) + 1
            seen = len(workspace.prompts("train"))
            assert seen >= 20 * acknowledged, "what was acknowledged is there"
            assert seen % 20 == 0, "a batch is there whole or not at all"
            workspace.add_prompts([f"own {number}"], "held_out")
        assert len(workspace.prompts("held_out")) == 10
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += len(writer.stdout.read().split())
    finally:
        writer.kill()
        writer.wait()
    after = Workspace.open(workspace.root)
    assert len(after.prompts("train")) % 20 == 0
    assert len(after.prompts("train")) >= 20 * acknowledged
    after.add_prompts(["one more"], "train")


def test_content_key_is_stable() -> None:
    assert content_key("wan", 7, {"b": 1, "a": 2}) == content_key("wan", 7, {"a": 2, "b": 1})
    assert content_key("a", "b") != content_key("ab")
    assert len(content_key("x")) == 20

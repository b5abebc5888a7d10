"""What people said, from files and from workspaces, and what of it cannot be compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reelign.errors import ReelignError
from reelign.evaluation import file_feedback, workspace_feedback
from reelign.evaluation.feedback_data import Candidate
from reelign.evaluation.feedback_matching import match_dimensions
from reelign.records import Judgement, Video, Workspace

BENCH = """path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall
a.mp4,b.mp4,x,y,a disc,A,B,same,A
c.mp4,d.mp4,y,x,a square,same,invalid,B,B
c.mp4,d.mp4,y,x,a square,,,,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_benchmark_with_ties_models_and_missing_labels(folder: Path) -> None:
    found = file_feedback(write(folder / "bench.csv", BENCH))
    assert found.format == "videoalign"
    assert [dict(pair.verdicts) for pair in found.pairs] == [
        {"overall": 1, "VQ": 1, "MQ": -1, "TA": 0},
        {"overall": -1, "VQ": 0, "TA": -1},
    ]
    assert [pair.models for pair in found.pairs] == [("x", "y"), ("y", "x")]
    assert found.dimensions == ["overall", "VQ", "MQ", "TA"]
    assert found.candidates == [
        Candidate(folder / f"{name}.mp4", prompt)
        for prompt, names in (("a disc", "ab"), ("a square", "cd"))
        for name in names
    ]
    assert found.left_out == {"no label": 1}
    assert found.shown == found.pairs


def test_mean_opinion_scores_are_ratings(folder: Path) -> None:
    rows = ["path_A,path_B,prompt,VQ,MOS_A_VQ,MOS_B_VQ,MOS_A_TA,MOS_B_TA", "a.mp4,b.mp4,a disc,A,4,2.5,,0"]
    found = file_feedback(write(folder / "train.csv", "\n".join([*rows, "a.mp4,c.mp4,a disc,A,4.5,x,3,"])))
    assert {name: {each.video.stem: value for each, value in own.items()} for name, own in found.ratings.items()} == {
        "VQ": {"a": 4.25, "b": 2.5},
        "TA": {"a": 3.0},
    }
    assert found.dimensions == ["VQ", "TA"]


def test_files_of_chosen_and_rejected_tell_nothing_of_sides(folder: Path) -> None:
    found = file_feedback(write(folder / "pairs.csv", "prompt,chosen,rejected\na disc,a.mp4,b.mp4\n"))
    assert [dict(pair.verdicts) for pair in found.pairs] == [{"overall": 1}]
    assert found.shown == ()


def test_broken_rows_are_refused_or_counted(folder: Path) -> None:
    path = write(folder / "bench.csv", BENCH + "gone.mp4,a.mp4,x,y,a disc,A,A,A,A\n")
    with pytest.raises(ReelignError, match=r"gone\.mp4 does not exist") as refused:
        file_feedback(path)
    assert "skip_broken=true" in refused.value.mend
    assert file_feedback(path, skip_broken=True).left_out == {"missing video": 1, "no label": 1}


def test_labels_compare_nothing(folder: Path) -> None:
    path = write(folder / "labels.csv", "prompt,video,label\na disc,a.mp4,true\n")
    with pytest.raises(ReelignError, match="compares no two videos"):
        file_feedback(path)


PROMPTS = {"train": ("a disc", "a square"), "held_out": ("a ring",)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, named by prompt and place, of each of three prompts."""
    made = Workspace.create(tmp_path_factory.mktemp("template"), model="tiny/wan")
    for split, texts in PROMPTS.items():
        for prompt in made.add_prompts(texts, split):
            for place in range(3):
                name = f"{prompt.text[2:]}{place}"
                (made.root / "videos" / f"{name}.mp4").write_bytes(name.encode())
                made.add_videos([video(name, prompt.id, place)])
    return made.root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """One that a test may judge in; making the database anew takes a second."""
    return Workspace.open(shutil.copytree(template, tmp_path / "w"))


def video(name: str, prompt: int, place: int) -> Video:
    return Video(
        id=name,
        prompt_id=prompt,
        generator="wan",
        adapter="dpo" if place == 2 else "",
        seed=place,
        index=place,
        path=f"videos/{name}.mp4",
        fps=8.0,
        num_frames=17,
        height=32,
        width=32,
    )


def pairwise(a: str, b: str, verdict: str, judge: str, left: str = "a", dimension: str = "VQ") -> Judgement:
    return Judgement(
        video_a=a, video_b=b, verdict=verdict, judge=judge, judge_version="1", shown_left=left, dimension=dimension
    )


def best_of(names: list[str], best: str, judge: str) -> Judgement:
    return Judgement(
        kind="best_of",
        video_a=names[0],
        candidates=names,
        verdict=best,
        judge=judge,
        judge_version="1",
        dimension="overall",
    )


def rating(name: str, verdict: str, judge: str, kind: str = "rating", dimension: str = "VQ") -> Judgement:
    return Judgement(kind=kind, video_a=name, verdict=verdict, judge=judge, judge_version="1", dimension=dimension)


def test_pairs_by_majority_and_voices_as_they_were_shown(workspace: Workspace) -> None:
    workspace.add_judgements(
        [
            pairwise("disc0", "disc1", "b", "Ada"),
            pairwise("disc1", "disc0", "a", "Ben", left="b"),
            pairwise("disc0", "disc1", "tie", "Chen"),
            pairwise("disc2", "disc0", "cannot_say", "Ada"),
            pairwise("square0", "square1", "a", "Ada"),
            pairwise("square0", "square1", "b", "Ben"),
        ]
    )
    found = workspace_feedback(workspace)
    assert [(pair.first.video.stem, pair.second.video.stem, dict(pair.verdicts)) for pair in found.pairs] == [
        ("disc0", "disc1", {"VQ": -1}),
        ("square0", "square1", {"VQ": 0}),
    ]
    assert [(pair.first.video.stem, pair.second.video.stem, dict(pair.verdicts)) for pair in found.shown] == [
        ("disc0", "disc1", {"VQ": -1}),
        ("disc0", "disc1", {"VQ": -1}),
        ("disc0", "disc1", {"VQ": 0}),
        ("square0", "square1", {"VQ": 1}),
        ("square0", "square1", {"VQ": -1}),
    ]
    assert {pair.first.prompt for pair in found.pairs} == {"a disc", "a square"}


def test_what_made_a_video_is_its_generator_and_adapter(workspace: Workspace) -> None:
    workspace.add_judgements([pairwise("disc0", "disc2", "b", "Ada")])
    assert workspace_feedback(workspace).pairs[0].models == ("wan", "wan + dpo")


def test_the_best_of_n_is_everyones_latest_choice(workspace: Workspace) -> None:
    names = ["disc1", "disc0", "disc2"]
    workspace.add_judgements(
        [
            best_of(names, "0", "Ada"),
            best_of(names[::-1], "0", "Ada"),
            best_of(names, "1", "Ben"),
            best_of(names, "2", "Chen"),
            best_of(names, "cannot_say", "Chen"),
        ]
    )
    found = workspace_feedback(workspace)
    assert not found.pairs
    assert [(choice.candidates[choice.best].video.stem, choice.dimension) for choice in found.choices] == [
        ("disc2", "overall"),
        ("disc0", "overall"),
    ]


def test_ratings_are_means_on_one_scale(workspace: Workspace) -> None:
    workspace.add_judgements(
        [
            rating("disc0", "5", "Ada"),
            rating("disc0", "4", "Ben"),
            rating("disc1", "bad", "Ada", kind="three_level"),
            rating("disc1", "normal", "Ada", kind="three_level", dimension="overall"),
        ]
    )
    found = workspace_feedback(workspace).ratings
    assert {name: {each.video.stem: value for each, value in own.items()} for name, own in found.items()} == {
        "VQ": {"disc0": 0.875},
        "overall": {"disc1": 0.5},
    }


def test_only_people_and_only_the_split(workspace: Workspace) -> None:
    workspace.set_judge("critic", kind="critic")
    workspace.add_judgements(
        [
            pairwise("disc0", "disc1", "a", "Ada"),
            pairwise("disc0", "disc2", "a", "critic"),
            pairwise("ring0", "ring1", "a", "Ben"),
        ]
    )
    assert len(workspace_feedback(workspace).pairs) == 2
    assert len(workspace_feedback(workspace, split="held_out").pairs) == 1
    assert len(workspace_feedback(workspace, judges=["critic"]).pairs) == 1
    with pytest.raises(ReelignError, match="No judge 'Dana'") as refused:
        workspace_feedback(workspace, judges=["Dana"])
    assert "Ada, Ben, critic" in refused.value.mend


def test_what_cannot_be_compared_is_counted(workspace: Workspace) -> None:
    workspace.add_judgements(
        [
            pairwise("disc0", "disc1", "a", "Ada"),
            pairwise("disc0", "square0", "a", "Ada"),
            pairwise("square1", "square2", "a", "Ada"),
        ]
    )
    (workspace.root / "videos" / "square2.mp4").unlink()
    with pytest.raises(ReelignError, match="1 judged videos have no file"):
        workspace_feedback(workspace)
    found = workspace_feedback(workspace, skip_broken=True)
    assert len(found.pairs) == 1
    assert found.left_out == {"missing video": 1, "videos of different prompts": 1}


def test_nothing_judged_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ReelignError, match="Nobody judged a video"):
        workspace_feedback(workspace)


@pytest.mark.parametrize(
    ("judged", "scored", "given", "matched"),
    [
        (["VQ", "TA"], ["TA", "VQ", "MQ"], {}, {"VQ": ("VQ",), "TA": ("TA",)}),
        (["overall", "VQ"], ["vq", "mq"], {}, {"overall": ("vq", "mq"), "VQ": ("vq",)}),
        (["overall", "VQ"], ["Overall", "VQ"], {}, {"overall": ("Overall",), "VQ": ("VQ",)}),
        (["VQ", "MQ"], ["aesthetic"], {}, {"VQ": ("aesthetic",), "MQ": ("aesthetic",)}),
        (["VQ", "MQ"], ["sharp", "steady"], {"VQ": "sharp"}, {"VQ": ("sharp",)}),
        (["VQ"], ["VQ", "sharp", "vivid"], {"VQ": ["sharp", "vivid"]}, {"VQ": ("sharp", "vivid")}),
    ],
)
def test_dimensions_match(judged: list[str], scored: list[str], given: dict[str, str], matched: object) -> None:
    assert match_dimensions(judged, scored, given) == matched


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "The reward scores sharp, steady and people judged VQ"),
        ({"VG": "sharp"}, "'VG', which is none that people judged"),
        ({"VQ": "sharpe"}, "'sharpe', which is none that the reward scores"),
    ],
)
def test_dimensions_that_do_not_match(given: dict[str, str], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        match_dimensions(["VQ"], ["sharp", "steady"], given)

"""Held-out judges that compare: a round's videos beside the base's, and beside the best so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.round_run import SETTINGS, make
from reelign.errors import ReelignError
from reelign.iterating import iterate, plan_iteration
from reelign.recipes.rounds.iterate import decide
from reelign.recipes.rounds.settings import HeldOut, IterateSettings
from reelign.recipes.rounds.verdicts import beside_base, net_wins, pairs_of, won
from reelign.records import Judgement, Video, Workspace, is_comparing
from reelign.video import read_video

CELLS = [(1, 0), (1, 1), (2, 0)]
JUDGED: dict[str, Any] = {
    **SETTINGS["iterate"],
    "judge": {"judge": "reward:recipes.online_worlds:Glance"},
    "selection": {"scorer": "recipes.judges:Brightness", "seeds": 1},
    "report": {"scorer": "critic:recipes.dual_worlds:Sees", "seeds": 1},
}


def video(name: str) -> Video:
    size = {"num_frames": 5, "height": 16, "width": 16}
    return Video(id=name, prompt_id=1, generator="g", seed=0, index=0, path=f"videos/{name}.mp4", fps=8.0, **size)


BEFORE = {cell: video(f"old-{place}") for place, cell in enumerate(CELLS)}
AFTER = {cell: video(f"new-{place}") for place, cell in enumerate(CELLS)}


def said(left: str, right: str, verdict: str, judge: str = "x", dimension: str = "VQ") -> Judgement:
    return Judgement(video_a=left, video_b=right, dimension=dimension, verdict=verdict, judge=judge, judge_version="1")


def test_a_video_wins_on_whichever_side_it_stood() -> None:
    rows = [
        said("old-0", "new-0", "b"),
        said("new-1", "old-1", "b"),
        said("old-2", "new-2", "tie", dimension="MQ"),
    ]
    found = won(rows, CELLS, BEFORE, AFTER)
    assert found == {"VQ": [1.0, -1.0, None], "MQ": [None, None, 0.0]}
    assert net_wins(found) == 0.0
    # Two of three judges prefer it: two wins less a loss, of three verdicts.
    several = [said("old-0", "new-0", verdict, judge=str(n)) for n, verdict in enumerate("bba")] + rows[2:]
    assert won(several, CELLS, BEFORE, AFTER)["VQ"][0] == pytest.approx(1 / 3)
    with pytest.raises(ReelignError, match="verdicts on videos of 1 prompts"):
        won(rows[:2], CELLS, BEFORE, AFTER)


def test_a_failed_sample_stands_beside_nothing(tmp_path: Path) -> None:
    one, two = Workspace.create(tmp_path / "w", model="m").add_prompts(["a", "b"], "selection")
    cells = [(one.id, 0), (one.id, 1), (two.id, 0)]
    before = {cells[0]: video("old"), cells[2]: video("old-b")}
    after = {cells[0]: video("new"), cells[1]: video("more"), cells[2]: video("new-b")}
    shown = [("old", "new"), ("old-b", "new-b")]
    assert [tuple(each.id for each in pair.videos) for pair in pairs_of([one, two], before, after)] == shown
    assert won([said(*pair, "b") for pair in shown], cells, before, after) == {"VQ": [1.0, None, 1.0]}


def look(**against: float) -> dict[str, Any]:
    columns = {number[1:]: {"VQ": [value]} for number, value in against.items()}
    return {"scores": columns.get("0", {}), "against": columns}


def test_a_round_must_win_against_the_best_and_not_only_against_the_base() -> None:
    settings = IterateSettings(selection=HeldOut(scorer="spriteworld-people", split="selection"))
    wins_less = [look(), look(_0=0.2), look(_0=0.9, _1=0.1)]
    assert decide(wins_less, settings).best == 2
    found = decide([look(), look(_0=0.9), look(_0=0.95, _1=-0.1)], settings)
    assert (found.best, found.ended) == (1, "round 2 was not better than round 1 by the selection judge")
    assert beside_base(look(), look(_0=0.9)) == ({"net wins": [0.0]}, {"net wins": [0.9]})


def test_names_of_judges_that_compare() -> None:
    assert all(map(is_comparing, ["critic:qwen3-vl-4b", "spriteworld-people", "recipes.judges:Brightness"]))
    assert not any(map(is_comparing, ["reward:sharpness", "spriteworld-truth", "recipes.round_run:darkness"]))


def test_rounds_are_chosen_and_reported_by_judges_that_compare(tiny_wan_folder: Path, tmp_path: Path) -> None:
    how = {**JUDGED, "align": {"trainer": {"steps": 1, "learning_rate": 0.1}}, "generate": {"candidates": 2}}
    workspace = make(tmp_path / "ws", str(tiny_wan_folder), how)
    done = iterate(workspace.root)
    folder = workspace.root / "runs" / "iterate"
    looks = [json.loads((folder / f"round-{number}/selection.json").read_text()) for number in range(3)]
    first_won = sum(looks[1]["scores"]["VQ"]) > 0
    assert [list(each["against"]) for each in looks] == [[], ["0"], ["0", "1"] if first_won else ["0"]]
    paths = {each.id: workspace.video_path(each) for each in workspace.videos()}
    light = [[float(read_video(paths[name]).frames.mean()) for name in each["videos"]] for each in looks]
    for number, beside in enumerate(looks):
        for other, columns in beside["against"].items():
            expected = [1.0 if now > then else -1.0 for now, then in zip(light[number], light[int(other)], strict=True)]
            assert columns == {"VQ": expected, "MQ": [0.0, 0.0]}
    assert looks[1]["mean"] == {"VQ": sum(looks[1]["scores"]["VQ"]) / 2, "MQ": 0.0}
    assert list(json.loads((folder / "round-2/report.json").read_text())["against"]) == ["0"]
    # What a held-out judge says is nobody's training data.
    assert {row.judge for row in workspace.judgements()} == {"glance"}
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    lost = folder / "round-2" / "selection.json"
    lost.unlink()
    again = iterate(workspace.root)
    assert (again.decision, lost.read_bytes()) == (done.decision, before[lost])
    assert "recipes.judges:Brightness" in (folder / "rounds.html").read_text()


SERVER = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("judge", "held", "same"),
    [
        (("server", SERVER, ""), ("server", "http://127.0.0.1:8001/v1", ""), False),
        (("server", SERVER, ""), ("server", SERVER, "another"), False),
        (("server", SERVER, ""), ("server", SERVER, ""), True),
        (("server", SERVER, ""), (SERVER, "", ""), True),
        (("qwen3-vl-4b", "", ""), ("qwen3-vl-4b", SERVER, ""), True),
    ],
)
def test_critics_are_told_apart_by_model_and_a_bare_server_by_its_address(
    tmp_path: Path, judge: tuple[str, str, str], held: tuple[str, str, str], same: bool
) -> None:
    """The last is one critic, here and behind a server."""
    workspace = make(tmp_path / "ws", "reelign.spriteworld:shipped", JUDGED)

    def asked(name: str, url: str, model: str) -> dict[str, Any]:
        return {"server": {"url": url, "model": model}}

    labels = {"judge": f"critic:{judge[0]}", "critic": asked(*judge)}
    options = {"critic": held[0], "options": asked(*held)}
    scored = {"scorer": "reward:critic", "reward": {"options": options}}
    compared = {"scorer": f"critic:{held[0]}", "critic": asked(*held)}
    for each in (scored, compared):
        if same:
            with pytest.raises(ReelignError, match=r"labels what round 1 trains on, or teaches who does"):
                plan_iteration(workspace.root, judge=labels, selection=each)
        else:
            plan_iteration(workspace.root, judge=labels, selection=each)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"judge": {"judge": "recipes.judges:Brightness"}}, "recipes.judges:Brightness labels what round 1 trains on"),
        ({"judge": {"judge": "critic:recipes.dual_worlds:Sees"}}, "labels what round 1 trains on, or teaches"),
        ({"selection": {"scorer": "critic:qwen9"}}, "no critic called 'qwen9'"),
        ({"report": {"scorer": "recipes.judges:Brightness"}}, "another judge than report.scorer"),
    ],
)
def test_what_a_comparing_judge_may_not_be(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    workspace = make(tmp_path / "ws", "reelign.spriteworld:shipped", JUDGED)
    with pytest.raises(ReelignError, match=what):
        plan_iteration(workspace.root, **changed)

"""Pages of a record, on both databases."""

from __future__ import annotations

import pytest

from records.test_workspace import judgement, video
from reelign.records import Workspace, pages


@pytest.fixture
def judged(workspace: Workspace) -> Workspace:
    for prompt in workspace.add_prompts(["a red square", "a blue disc"], "train"):
        workspace.add_videos(video(f"{prompt.text[2]}{index}", prompt.id, index=index) for index in range(3))
    pairs = [("r0", "r1"), ("r2", "r0"), ("r1", "r2"), ("b0", "b1"), ("b1", "b0"), ("b2", "b0")]
    for a, b in pairs:
        workspace.add_judgements([judgement(a, b, judge=judge) for judge in ("ann", "bob")])
    return workspace


def test_pages_go_back_without_gaps(judged: Workspace) -> None:
    judged.withdraw(judged.judgements()[-1])
    everything = [each.id for each in reversed(judged.judgements())]
    seen: list[int] = []
    with judged.reading() as session:
        while page := pages.latest_judgements(session, before=seen[-1] if seen else None, limit=4):
            seen += [each.id for each in page]
        assert seen == everything
        assert {each.judge for each in pages.latest_judgements(session, judge="ann")} == {"ann"}
        assert pages.latest_judgements(session, dimension="MQ") == []
        assert pages.judgements_made(session, "bob") == 7
        assert pages.judge_names(session) == ["ann", "bob"]


def test_a_pair_is_found_both_ways(judged: Workspace) -> None:
    with judged.reading() as session:
        for one, other in (("b0", "b1"), ("b1", "b0")):
            assert [each.video_a for each in pages.of_pair(session, one, other)] == ["b0", "b0", "b1", "b1"]


def test_a_prompts_page(judged: Workspace) -> None:
    red, blue = judged.prompts()
    with judged.reading() as session:
        page = pages.of_prompt(session, red.id)
        assert [each.id for each in pages.prompts_after(session, red.id)] == [blue.id]
    assert page.prompt.text == "a red square"
    assert [each.id for each in page.videos] == ["r0", "r1", "r2"]
    assert len(page.judgements) == 6

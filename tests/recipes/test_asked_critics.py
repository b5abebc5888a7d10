"""Critics judge a workspace: reasons kept, silences counted and named, answers asked for once."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cli.process import reelign
from critics.chat import ChatServer, Question, chatting, honest
from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.recipes.asked_critics import batches
from reelign.recipes.judging import Judged, JudgeSettings, judge, judges_of
from reelign.records import Workspace
from reelign.video import read_video


def settings(server: ChatServer, /, **critic: object) -> JudgeSettings:
    given = {"judge": "critic:server", "critic": {"server": {"url": server.url, "retries": 0}, **critic}}
    return resolve(JudgeSettings, [("the test", given)])


def light_as_sent(frames: Tensor) -> float:
    """The mean of all frames as JPEGs, in which videos that are nearly alike may change their order."""
    means = []
    for frame in (frames * 255).round().byte():
        held = io.BytesIO()
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(held, "JPEG", quality=95)
        means.append(np.asarray(Image.open(held)).mean())
    return float(np.mean(means))


def asked(workspace: Workspace, wanted: JudgeSettings) -> Judged:
    return judge(workspace, judges_of(workspace, wanted), wanted)


def test_a_critic_behind_a_server_judges_every_pair_with_its_reasons(judged: Workspace) -> None:
    with chatting(honest) as server:
        done = asked(judged, settings(server))
        again = asked(judged, settings(server))
    assert (done.made, done.already_there, done.unscored) == (18, 0, ())
    assert done.asked == ("seer: 36 questions asked, 0 answered from the cache, 36000 tokens read and 360 written",)
    assert (again.made, again.already_there) == (0, 18)
    videos = {video.id: video for video in judged.videos("train", "")}
    light = {name: light_as_sent(read_video(judged.video_path(video)).frames) for name, video in videos.items()}
    for row in judged.judgements(judge="seer"):
        assert row.video_b is not None
        assert row.verdict == ("a" if light[row.video_a] > light[row.video_b] else "b")
        assert row.reason == f"Video {row.verdict.upper()} is lit better."
    assert {each.name: each.kind for each in judged.judges()}["seer"] == "critic"


def test_what_has_no_verdict_is_left_out_counted_and_not_paid_for_twice(judged: Workspace) -> None:
    def swayed(question: Question) -> str:
        if "visual quality" in question.text:
            return "Verdict: A"
        return "I cannot tell." if "motion quality" in question.text else honest(question)

    with chatting(swayed) as server:
        done = asked(judged, settings(server))
        first = len(server.questions)
        again = asked(judged, settings(server))
        assert len(server.questions) == first, "answers come from the workspace's cache"
    assert (done.made, again.made, again.already_there) == (6, 0, 6)
    (said,) = done.unscored
    assert said.startswith(
        "seer: 12 of 18 comparisons have no verdict and are left out (6 inconsistent, 6 unparseable)"
    )
    assert said.endswith(" and 7 more")
    assert "videos/" in said
    assert {row.dimension for row in judged.judgements(judge="seer")} == {"TA"}
    assert (judged.root / "cache" / "critics").is_dir()


def test_a_server_that_breaks_down_costs_nothing_that_was_answered(judged: Workspace) -> None:
    numbers: Iterator[int] = count()

    def failing(question: Question) -> str:
        if next(numbers) == 6:
            server.faults += [(401, {}, "expired")] * 9
        return honest(question)

    with chatting(failing) as server:
        one = settings(server, dimensions=["VQ"], server={"url": server.url, "retries": 0, "concurrency": 1})
        with pytest.raises(ReelignError, match="expired"):
            asked(judged, one)
        assert len(list(judged.judgements(judge="seer"))) == 3, "the first prompt's"
        server.faults.clear()
        server.answer = honest
        done = asked(judged, one)
    assert (done.made, done.already_there) == (3, 3)


def test_small_groups_are_asked_about_together(judged: Workspace) -> None:
    groups = judged.groups("train", "")

    def sizes(concurrency: int, dimensions: int) -> list[int]:
        """Of a critic that is asked about three pairs a group."""
        return [len(part) for part in batches([*groups] * 4, [concurrency], lambda _: [3 * dimensions])]

    def slow(question: Question) -> str:
        time.sleep(0.02)
        return honest(question)

    with chatting(slow) as server:
        assert sizes(1, 1) == [1] * 8
        assert sizes(2, 1) == [2] * 4  # four questions wanted
        assert sizes(8, 2) == [3, 3, 2]
        server.crowd = 4
        asked(judged, settings(server, dimensions=["VQ", "MQ", "TA"]))
        assert server.most > 3, "pairs of both prompts"


def test_the_command_tells_what_it_asked(judged: Workspace) -> None:
    with chatting(honest) as server:
        words = (
            "judge=critic:server",
            f"critic.server.url={server.url}",
            "critic.dimensions=[TA]",
            "critic.swap=false",
        )
        result = reelign("judge", "-w", str(judged.root), *words, folder=judged.root)
    assert result.code == 0, result.err
    assert "6 judgements made, 0 were there" in result.out
    assert "seer: 6 questions asked" in result.out
    assert np.mean([len(question.images) for question in server.questions]) == 18  # 9 frames are all there are

"""Any record at all, for the round trips."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from reelign.records.exchange import Bundle, SharedVideo
from reelign.records.exchange.bundle import as_row
from reelign.records.schema import Judgement, Score, Task

# PostgreSQL keeps no NUL in a text, and UTF-8 no lone surrogate.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
names = texts.filter(str.strip)
reals = st.floats(0, 1e6)
times = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
settings = st.dictionaries(texts, st.none() | st.integers(-9, 9) | texts | reals, max_size=2)


@st.composite
def bundles(draw: st.DrawFn, *, extras: bool = True) -> Bundle:
    """Videos, judgements of every kind, corrections, and with `extras` tasks and scores."""
    ids = [f"v{number}" for number in range(draw(st.integers(3, 5)))]
    videos = [draw(st.builds(SharedVideo, id=st.just(key), **_of_videos())) for key in ids]
    tasks = [Task(id=f"t{number}", **draw(_tasks(ids))) for number in range(draw(st.integers(0, 2)))] if extras else []
    judgements: list[Judgement] = []
    for number in range(draw(st.integers(0, 6))):
        task = draw(st.sampled_from([None, *(task.id for task in tasks)]))
        judgements.append(Judgement(key=f"k{number}", task=task, **draw(_judgements(ids))))
    if judgements and draw(st.booleans()):
        old = judgements[0]
        same = {name: getattr(old, name) for name in ("kind", "video_a", "video_b", "candidates", "dimension", "judge")}
        judgements.append(Judgement(**same, key="w", verdict="withdrawn", judge_version="2", supersedes=old.key))
    scores = [
        Score(video=key, reward=draw(names), reward_version="1", dimension="VQ", value=draw(reals), created=draw(times))
        for key in (ids if extras else [])
    ]
    return Bundle(videos=videos, tasks=tasks, judgements=judgements, scores=scores)


def same(one: Bundle, other: Bundle) -> None:
    """Both hold the same, in whatever order."""
    assert _rows(one.videos, "id") == _rows(other.videos, "id")
    assert _rows(one.tasks, "id") == _rows(other.tasks, "id")
    assert _rows(one.judgements, "key") == _rows(other.judgements, "key")
    assert _rows(one.scores, "video") == _rows(other.scores, "video")


def _rows(things: Any, key: str) -> list[dict[str, Any]]:
    return sorted(map(as_row, things), key=lambda row: str(row[key]))


def _of_videos() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "prompt": names,
        "split": st.sampled_from(["train", "held_out"]),
        "path": names,
        "content_hash": st.none() | names,
        "generator": texts,
        "adapter": texts,
        "seed": st.integers(0, 2**63 - 1),
        "index": st.integers(0, 9),
        "settings": settings,
        "fps": reals,
        "num_frames": st.integers(1, 999),
        "height": st.integers(0, 999),
        "width": st.integers(0, 999),
    }


def _tasks(ids: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "videos": st.permutations(ids).map(lambda order: order[:2]),
            "dimensions": st.lists(names, max_size=2),
            "wanted": st.integers(1, 9),
            "gold": st.none() | st.dictionaries(names, st.sampled_from("ab"), max_size=1),
            "created": times,
        }
    )


@st.composite
def _judgements(draw: st.DrawFn, ids: list[str]) -> dict[str, Any]:
    order = draw(st.permutations(ids))
    kind = draw(st.sampled_from(["pairwise", "best_of", "three_level", "rating"]))
    answers = {"pairwise": ["a", "b", "tie"], "best_of": ["0", "1", "2"], "rating": ["1", "5"]}
    verdict = draw(st.sampled_from([*answers.get(kind, ["good", "normal", "bad"]), "cannot_say"]))
    decided = kind == "pairwise" and verdict in ("a", "b")
    return {
        "kind": kind,
        "video_a": order[0],
        "video_b": order[1] if kind == "pairwise" else None,
        "candidates": order if kind == "best_of" else None,
        "dimension": draw(names),
        "verdict": verdict,
        "strength": draw(st.sampled_from([None, "clearly", "slightly"])) if decided else None,
        "judge": draw(names),
        "judge_version": draw(texts),
        "shown_left": draw(st.sampled_from("ab")),
        "reason": draw(st.none() | texts),
        "defects": draw(st.none() | st.just([{"tag": "flicker", "video": order[0], "start_s": 0.5, "end_s": 1.0}])),
        "duration_s": draw(st.none() | reals),
        "created": draw(times),
    }

"""What people said of videos in a workspace: pairs by majority, the best of N by everyone, ratings by their mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from reelign.errors import ReelignError
from reelign.evaluation.feedback_data import Candidate, Choice, Feedback, JudgedPair
from reelign.records import Judgement, Video, Workspace, majority
from reelign.records.answers import CANNOT_SAY
from reelign.records.columns import Comparisons
from reelign.records.grades import TIE, grade_votes

FROM_WORKSPACE = "workspace"
ACROSS_PROMPTS = "videos of different prompts"
NO_FILE = "missing video"
SIGNS = {"a": 1, "b": -1, "tie": 0}


def workspace_feedback(
    workspace: Workspace, *, split: str | None = None, judges: Sequence[str] = (), skip_broken: bool = False
) -> Feedback:
    """What people say in a workspace: majority votes on pairs, everyone's best of N, mean ratings.

    Args:
        split: only of its prompts; None for all.
        judges: only these; () for all who are people, since a reward agrees with its own judgements.
        skip_broken: leave videos out whose files are missing, and count what was said of them.
    Raises:
        ReelignError: an unknown judge, a missing file unless they are skipped, or nothing that anyone said.
    """
    rows = _of_judges(workspace, judges)
    texts = {prompt.id: prompt.text for prompt in workspace.prompts(split)}
    videos = {video.id: video for video in workspace.videos(split)}
    known = {key: Candidate(workspace.video_path(video), texts[video.prompt_id]) for key, video in videos.items()}
    spoken = {key for row in rows for key in _named(row) if key in known}
    gone = {key for key in spoken if not known[key].video.is_file()}
    if gone and not skip_broken:
        one = known[min(gone)]
        raise ReelignError(
            f"{len(gone)} judged videos have no file, such as {one.video}.",
            "Make them again with reelign generate, or leave them out with skip_broken=true.",
        )
    kept, left_out = _kept(rows, {key: each for key, each in known.items() if key not in gone}, gone)
    feedback = Feedback(
        source=workspace.root,
        format=FROM_WORKSPACE,
        pairs=_voted(kept, known, videos),
        shown=_as_shown(kept, known),
        choices=_choices(kept, known),
        ratings=_ratings(kept, known),
        grades=_grades(kept, known),
        left_out=left_out,
    )
    if not feedback.candidates:
        raise ReelignError(
            f"Nobody judged a video in {workspace.root}{f' of split {split!r}' if split else ''}.",
            "Judge some first: reelign annotate -w WORKSPACE, or name other judges with judges=[...].",
        )
    return feedback


def _of_judges(workspace: Workspace, judges: Sequence[str]) -> list[Judgement]:
    rows = workspace.judgements()
    names = {row.judge for row in rows}
    unknown = [name for name in judges if name not in names]
    if unknown:
        raise ReelignError(f"No judge {unknown[0]!r} judged here.", f"Judges: {', '.join(sorted(names)) or 'none'}.")
    others = {entry.name for entry in workspace.judges() if entry.kind != "person"}
    wanted = set(judges) or names - others
    return [row for row in rows if row.judge in wanted]


def _kept(
    rows: Iterable[Judgement], known: Mapping[str, Candidate], gone: set[str]
) -> tuple[list[Judgement], dict[str, int]]:
    """Judgements whose videos are all there and of one prompt; those on other splits are nobody's loss."""
    kept, left_out = [], Counter[str]()
    for row in rows:
        named = _named(row)
        if any(key in gone for key in named):
            left_out[NO_FILE] += 1
        elif all(key in known for key in named):
            if len({known[key].prompt for key in named}) > 1:
                left_out[ACROSS_PROMPTS] += 1
            else:
                kept.append(row)
    return kept, dict(sorted(left_out.items()))


def _named(row: Judgement) -> list[str]:
    return row.candidates or [key for key in (row.video_a, row.video_b) if key is not None]


def _voted(rows: Iterable[Judgement], known: Mapping[str, Candidate], videos: Mapping[str, Video]) -> list[JudgedPair]:
    """The majority vote on each pair that stood side by side; the best of N is measured as what it is."""
    verdicts: dict[tuple[str, str], dict[str, int]] = {}
    for vote in majority(row for row in rows if row.kind == "pairwise"):
        verdicts.setdefault((vote.video_a, vote.video_b), {})[vote.dimension] = SIGNS[vote.verdict]
    return [
        JudgedPair(first=known[a], second=known[b], verdicts=own, models=(_model_of(videos[a]), _model_of(videos[b])))
        for (a, b), own in verdicts.items()
    ]


def _model_of(video: Video) -> str:
    return f"{video.generator} + {video.adapter}" if video.adapter else video.generator


def _as_shown(rows: Iterable[Judgement], known: Mapping[str, Candidate]) -> list[JudgedPair]:
    """Every voice on a pair with the video on the left first."""
    table = Comparisons.of(row for row in rows if row.kind == "pairwise")
    columns = zip(
        table.names(table.first),
        table.names(table.second),
        table.dimension.tolist(),
        table.value.tolist(),
        table.first_left.tolist(),
        strict=True,
    )
    found = []
    for first, second, dimension, value, first_left in columns:
        if value == value:  # not NaN, which is "cannot say"
            left, right = (first, second) if first_left else (second, first)
            sign = ((value > 0) - (value < 0)) * (1 if first_left else -1)
            found.append(
                JudgedPair(first=known[left], second=known[right], verdicts={table.dimensions[dimension]: sign})
            )
    return found


def _choices(rows: Iterable[Judgement], known: Mapping[str, Candidate]) -> list[Choice]:
    """Everyone's latest choice: people who disagree are several choices, as they are in the papers."""
    latest = {
        (row.judge, row.dimension, frozenset(row.candidates)): row
        for row in rows
        if row.kind == "best_of" and row.candidates
    }
    return [
        Choice(
            candidates=tuple(known[key] for key in row.candidates or ()),
            best=int(row.verdict),
            dimension=row.dimension,
        )
        for row in latest.values()
        if row.verdict != CANNOT_SAY
    ]


def _ratings(rows: Iterable[Judgement], known: Mapping[str, Candidate]) -> dict[str, dict[Candidate, float]]:
    """Mean grades by dimension: of 1 to 5 where people gave them, else of good, normal and bad; never of both mixed."""
    votes = grade_votes(rows)
    rated = {vote.dimension for vote in votes if vote.kind == "rating"}
    found: dict[str, dict[Candidate, float]] = {}
    for vote in votes:
        if vote.kind == "rating" or vote.dimension not in rated:
            found.setdefault(vote.dimension, {})[known[vote.video]] = vote.mean
    return found


def _grades(rows: Iterable[Judgement], known: Mapping[str, Candidate]) -> dict[str, dict[Candidate, str]]:
    """Good, normal or bad by majority; a video of which there is none is in nobody's grades."""
    found: dict[str, dict[Candidate, str]] = {}
    for vote in grade_votes(rows):
        if vote.kind == "three_level" and vote.verdict != TIE:
            found.setdefault(vote.dimension, {})[known[vote.video]] = vote.verdict
    return found

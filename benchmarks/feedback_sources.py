"""Image-level against video-level sources of feedback, by where they put what people choose as the best of eight.

    python benchmarks/feedback_sources.py --folder sources                 # candidates, choices, scores, the table
    python benchmarks/feedback_sources.py --folder sources --reward "video:BTT, 3 dimensions=videoreward;model=runs/btt"

OnlineVPO's Table 2 (Zhang et al. 2024, arXiv:2412.15159) in small: the shipped model makes eight candidates for each
training prompt of the small world, five simulated people choose the best of each group, and every source that scores
without public weights is asked, as is each reward that --reward names, its settings behind semicolons. What is there is
not made again. By what the demo's stages take on a core (0.16 s a video) that is 3 minutes of one core.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from evidence_table import place
from feedback_oracles import NoisyTruth, StillTruth, Truth

from reelign import stages
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation import workspace_feedback
from reelign.evaluation.feedback_data import Feedback
from reelign.evaluation.feedback_matching import match_dimensions
from reelign.evaluation.feedback_measures import measure
from reelign.evaluation.feedback_published import RANKING, RANKING_SOURCE
from reelign.evaluation.feedback_results import MeasureSettings, Ranking
from reelign.evaluation.feedback_scores import ScoreFile, score_candidates
from reelign.records import Judgement, Workspace
from reelign.records.bootstrap import Interval
from reelign.rewards import Reward, open_reward
from reelign.spriteworld import judges
from reelign.spriteworld.people import NAMES
from reelign.video import read_video

CANDIDATES, PEOPLE, SHARPNESS = 8, 5, 12.0
"""Of a group; who choose; a person's log-odds of a perfect video against a worthless one, as in `people.Person`."""
DIMENSIONS = ("overall", *judges.DIMENSIONS)


class Source(NamedTuple):
    """One row of the table."""

    level: str
    label: str
    reward: Reward
    dimensions: dict[str, str]
    """People's dimension -> the reward's, where names do not say it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("sources"), help="the workspace that is made")
    parser.add_argument("--reward", action="append", default=[], metavar="LEVEL:LABEL=SPEC[;key=value]...")
    parser.add_argument("--prompts", type=Path, help="other training prompts than the small world's")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    given = parser.parse_args()
    try:
        extra = [named_source(text) for text in given.reward]
        workspace = stages.init(given.folder, prompts=given.prompts)
        stages.generate(given.folder, candidates=CANDIDATES)
        choose(workspace)
        write_table(workspace, [*sources(), *extra], given.table)
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def named_source(text: str) -> Source:
    """A source from `LEVEL:LABEL=SPEC;key=value`."""
    level, colon, rest = text.partition(":")
    label, equals, spec = rest.partition("=")
    name, *settings = spec.split(";")
    if not (colon and equals and name and all("=" in each for each in settings)):
        raise ReelignError(f"{text!r} names no source.", "Write LEVEL:LABEL=SPEC, and ;key=value behind for settings.")
    pairs = (each.partition("=") for each in settings)
    return Source(level, label, open_reward(name, **{key: yaml.safe_load(value) for key, _, value in pairs}), {})


def sources() -> list[Source]:
    """What scores without public weights: measures of pixels, and the true judges for what can be reached at most."""
    everywhere = dict.fromkeys(DIMENSIONS, "colourfulness")
    return [
        Source("image", "sharpness", open_reward("sharpness"), {}),
        Source("image", "colourfulness", open_reward("colour"), everywhere),
        Source("image", "true judges of single frames", StillTruth(), {}),
        Source("video", "frame consistency", open_reward("frame-consistency"), {}),
        Source("video", "steadiness", open_reward("flicker"), {}),
        Source("video", "dynamic degree", open_reward("dynamic-degree"), {}),
        Source("video", "one more person", NoisyTruth(SHARPNESS), {}),
        Source("video", "true judges", Truth(), {}),
    ]


def choose(workspace: Workspace) -> None:
    """Everyone's best of each group on each dimension, once.

    A person feels the true score times SHARPNESS plus Gumbel noise and takes the most; between two videos that is the
    Bradley-Terry model of `people.Person`, since the difference of two such noises is logistic.
    """
    done = {(row.judge, row.dimension, row.video_a) for row in workspace.judgements() if row.kind == "best_of"}
    rows = []
    for group in workspace.groups("train", ""):
        names = [video.id for video in group.videos[:CANDIDATES]]
        if len(names) < 2 or all((name, own, names[0]) in done for name in NAMES[:PEOPLE] for own in DIMENSIONS):
            continue
        frames = torch.stack([read_video(workspace.video_path(video)).frames for video in group.videos[:CANDIDATES]])
        truth = judges.scores(frames, [group.prompt.text] * len(names))
        truth["overall"] = torch.stack([truth[name] for name in judges.DIMENSIONS]).mean(dim=0)
        for judge in NAMES[:PEOPLE]:
            for own in DIMENSIONS:
                chance = generator_from("best of", judge, own, group.prompt.text)
                noise = -torch.empty(len(names)).exponential_(generator=chance).log()
                best = int((SHARPNESS * truth[own] + noise).argmax())
                rows.append(
                    Judgement(
                        key=f"{judge}-{own}-{names[0]}",
                        kind="best_of",
                        video_a=names[0],
                        candidates=names,
                        dimension=own,
                        verdict=str(best),
                        judge=judge,
                        judge_version="1",
                    )
                )
    workspace.add_judgements(rows)


def write_table(workspace: Workspace, rows: Sequence[Source], page: Path) -> None:
    """Score all candidates with all sources, and put the table into the page."""
    put = place(page, "sources")
    feedback = workspace_feedback(workspace)
    found = [(source, ranked(workspace, feedback, source)) for source in rows]
    put([head(feedback), table(found)])


def ranked(workspace: Workspace, feedback: Feedback, source: Source) -> dict[str, Ranking]:
    """Where one source puts people's choices, by dimension."""
    scores = score_candidates(
        feedback.candidates, source.reward, ScoreFile(workspace.root / "feedback" / "scores.jsonl"), batch_size=64
    )
    matched = match_dimensions(feedback.dimensions, source.reward.dimensions, source.dimensions)
    return dict(measure(feedback, scores, matched, MeasureSettings()).ranking)


def head(feedback: Feedback) -> str:
    groups = len({choice.candidates for choice in feedback.choices})
    return (
        f"Written by `benchmarks/feedback_sources.py` on {time.strftime('%Y-%m-%d')} ({platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}). {groups} groups of {CANDIDATES} candidates, the "
        f"best of each chosen by {PEOPLE} simulated people, in %; in brackets the 95 % interval over prompts. "
        "`True judges` know all but the people's noise: nothing can do better on average. `One more person` has the "
        "noise of one. `True judges of single frames` see looks, colour and shape, and no motion: the most that a "
        f"source of images can know. Published: {RANKING_SOURCE}; of other videos, so only the order compares."
    )


def table(found: Sequence[tuple[Source, dict[str, Ranking]]]) -> str:
    header = ["level", "source", "MRR", "R@1", "R@2", "R@4", *(f"MRR on {name}" for name in judges.DIMENSIONS)]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    one = next(ranking["overall"] for _, ranking in found if "overall" in ranking)
    chance = [one.chance_mrr, *one.chance_recall.values(), *[one.chance_mrr] * len(judges.DIMENSIONS)]
    lines.append(["", "chance", *(f"{100 * value:.1f}" for value in chance)])
    for source, ranking in found:
        overall = ranking.get("overall")
        cells = [overall.mrr, *overall.recall.values()] if overall else [None] * 4
        cells += [ranking[name].mrr if name in ranking else None for name in judges.DIMENSIONS]
        lines.append([source.level, source.label, *(share(cell) for cell in cells)])
    for name, row in RANKING.items():
        level = "video" if name == "VideoScore" else "image"
        lines.append([level, f"{name} (published)", *(f"{value:.1f}" for value in row), *["–"] * 3])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(each: Interval | None) -> str:
    return "–" if each is None else f"{100 * each.mean:.1f} [{100 * each.low:.1f}, {100 * each.high:.1f}]"


if __name__ == "__main__":
    main()

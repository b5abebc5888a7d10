"""A critic measured whole on small-world videos: who follows the truth, who does not read, what is asked and kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.judged_world import Clip as Judged
from evaluation.judged_world import make_clips, sign, write_bench
from reelign.critics import Comparison, Critic, Rating, Tally
from reelign.errors import ReelignError
from reelign.evaluation.critic_evaluation import CriticEvaluateSettings, CriticReport, evaluate_critic
from reelign.evaluation.critic_plan import PlanSettings, other_prompts
from reelign.evaluation.feedback_data import file_feedback
from reelign.evaluation.feedback_workspace import workspace_feedback
from reelign.records import Judgement, Video, Workspace
from reelign.spriteworld import judges
from reelign.spriteworld.world import FPS
from reelign.video import Clip

BAND = 0.05


class Truthful(Critic):
    """Reads the small world as its true judges do; the same within a band is a tie."""

    name, version = "truthful", "1"
    compares = rates = judges.DIMENSIONS

    def __init__(self) -> None:
        self.tally = Tally()
        self.asked: list[tuple[str, str, int]] = []

    def score(self, video: Clip, prompt: str, dimension: str) -> float:
        return float(judges.scores(video.frames[None], [prompt or "a red square moves left"])[dimension])

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        self.asked.append((prompt, dimension, vote))
        difference = self.score(a, prompt, dimension) - self.score(b, prompt, dimension)
        return Comparison(verdict="tie" if abs(difference) <= BAND else "a" if difference > 0 else "b", certainty=0.9)

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        self.asked.append((prompt, dimension, vote))
        return Rating(grade=grade_of(self.score(video, prompt, dimension)))  # type: ignore[arg-type]


class First(Truthful):
    """Likes what it sees first, and mumbles about motion."""

    name = "first"

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        if dimension == "MQ":
            return Comparison(verdict=None, left_out="unparseable")
        return Comparison(verdict="a")


class Interrupted(Truthful):
    """Someone presses Ctrl-C at the tenth question."""

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        if len(self.asked) == 9:
            raise KeyboardInterrupt
        return super().compare(a, b, prompt, dimension)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    return make_clips(tmp_path_factory.mktemp("bench"), prompts=4)


@pytest.fixture(scope="module")
def bench(clips: list[Judged]) -> Path:
    path = clips[0].path.parent / "videogen-rewardbench.csv"
    write_bench(path, clips, dimensions=judges.DIMENSIONS)
    return path


def evaluate(bench: Path, critic: Critic, folder: Path, **ask: Any) -> CriticReport:
    settings = CriticEvaluateSettings(resamples=20, ask=PlanSettings(**{"probes": 2, "repeats": 2, **ask}))
    return evaluate_critic(file_feedback(bench), critic, folder, settings)


def test_who_follows_the_truth_is_right_in_both_orders_and_goes_on_after_a_stop(
    bench: Path, clips: list[Judged], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(bench, Interrupted(), tmp_path)
    before = len((tmp_path / "answers.jsonl").read_text().splitlines())
    assert before == 9
    critic = Truthful()
    report = evaluate(bench, critic, tmp_path)
    assert len(critic.asked) == report.questions - before
    assert list(report.measured.pairs) == ["VQ", "MQ", "TA"]
    for name, found in report.measured.pairs.items():
        pairs = [(a, b) for i, a in enumerate(clips) for b in clips[i + 1 :] if a.prompt == b.prompt]
        assert found.ties == sum(sign(a, b, name) == 0 for a, b in pairs)
        assert (found.without_ties.mean, found.with_ties.mean, found.consistent.mean) == (1, 1, 1)
        assert found.first.mean == 0.5
        assert found.answers.repeated is not None
        assert found.answers.repeated.mean == 1
    sensitive = report.measured.pairs["TA"].answers.prompts
    blind = report.measured.pairs["VQ"].answers.prompts
    assert sensitive is not None
    assert blind is not None
    assert sensitive.accuracy["wrong"].mean < sensitive.right.mean
    assert (blind.changed["wrong"].mean, blind.changed["empty"].mean) == (0, 0)
    # Again, and nothing is asked.
    again = Truthful()
    assert evaluate(bench, again, tmp_path).as_dict()["measured"] == report.as_dict()["measured"]
    assert again.asked == []
    kept = json.loads((tmp_path / "critic.json").read_text())
    assert kept["measured"]["pairs"]["TA"]["without_ties"]["mean"] == 1
    assert "## Two videos" in (tmp_path / "critic.md").read_text()


def test_a_judge_of_places_is_a_coin_that_is_never_consistent(bench: Path, tmp_path: Path) -> None:
    report = evaluate(bench, First(), tmp_path, probes=0)
    found = report.measured.pairs["VQ"]
    assert (found.without_ties.mean, found.consistent.mean, found.first.mean) == (0.5, 0, 1)
    assert found.answers.prompts is None
    mumbled = report.measured.pairs["MQ"].answers
    assert mumbled.unanswered.mean == 1
    assert mumbled.left_out == {"unparseable": mumbled.asked}
    assert json.loads((tmp_path / "critic.json").read_text())["measured"]["pairs"]["MQ"]["without_ties"]["mean"] is None


def grade_of(score: float) -> str:
    return "good" if score > 0.7 else "normal" if score > 0.4 else "bad"


def test_grades_of_a_workspace_are_measured_by_majority(clips: list[Judged], tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w", model="spriteworld")
    prompts = {row.text: row for row in workspace.add_prompts(dict.fromkeys(each.prompt for each in clips), "train")}
    made = {"generator": "none", "seed": 0, "fps": FPS, "num_frames": 17, "height": 32, "width": 32}
    (workspace.root / "videos").mkdir(exist_ok=True)
    for clip in clips:
        shutil.copy(clip.path, workspace.root / "videos" / clip.path.name)
    workspace.add_videos(
        Video(id=clip.path.stem, prompt_id=prompts[clip.prompt].id, path=f"videos/{clip.path.name}", **made)
        for clip in clips
    )
    grades = {clip.path.stem: grade_of(clip.truth["VQ"]) for clip in clips}
    voices = [(name, judge, grade) for name, grade in grades.items() for judge in ("Ada", "Ben")]
    # One more voice against two changes nothing; of the last video the two disagree.
    wrong = {"good": "bad", "normal": "good", "bad": "normal"}
    voices[-1] = (voices[-1][0], "Ben", wrong[voices[-1][2]])
    voices.append((voices[0][0], "Cem", wrong[voices[0][2]]))
    workspace.add_judgements(
        Judgement(kind="three_level", video_a=name, dimension="VQ", verdict=grade, judge=judge, judge_version="1")
        for name, judge, grade in voices
    )
    settings = CriticEvaluateSettings(resamples=20, ask=PlanSettings(probes=0))
    report = evaluate_critic(workspace_feedback(workspace), Truthful(), tmp_path / "found", settings)
    found = report.measured.videos["VQ"]
    assert report.measured.pairs == {}
    assert found.videos == len(clips) - 1
    assert (found.three_level.mean, found.desirable.mean) == (1, 1)
    assert found.correlation is not None
    assert found.correlation.videos == len(clips)


def test_other_prompts_are_other_prompts_and_unknown_names_are_refused(bench: Path, tmp_path: Path) -> None:
    feedback = file_feedback(bench)
    others = other_prompts(feedback, seed=0)
    assert sorted(others) == sorted(others.values())
    assert all(text != other for text, other in others.items())
    with pytest.raises(ReelignError, match="People judged VQ, MQ, TA; the critic judges"):
        evaluate_critic(feedback, Truthful(), tmp_path, CriticEvaluateSettings(dimensions={"TA": "charm"}))

"""A reward measured whole: numbers worked out from the files apart, what is written, and the papers' rows beside."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.judged_world import Changed, Clip, Truth, make_clips, sign, write_bench
from reelign.errors import ReelignError
from reelign.evaluation import FeedbackReport, FeedbackSettings, evaluate_feedback, file_feedback
from reelign.evaluation.feedback_data import Candidate, Choice, Feedback, JudgedPair
from reelign.evaluation.feedback_measures import measure
from reelign.evaluation.feedback_published import ACCURACY, COLUMNS
from reelign.evaluation.feedback_results import MeasureSettings
from reelign.evaluation.feedback_scores import Scored, Scores
from reelign.evaluation.feedback_tables import tables
from reelign.rewards import Reward
from reelign.rewards.judging import RewardOpening

FAST = MeasureSettings(resamples=100, calibration=0.4)
DIMENSIONS = ("VQ", "MQ", "TA", "Overall")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return make_clips(tmp_path_factory.mktemp("bench"), prompts=6)


@pytest.fixture(scope="module")
def bench(clips: list[Clip]) -> Path:
    path = clips[0].path.parent / "videogen-rewardbench.csv"
    write_bench(path, clips)
    return path


def evaluate(bench: Path, scorer: Reward, folder: Path, **settings: object) -> FeedbackReport:
    wanted = FeedbackSettings(**{"measure": FAST, **settings})  # type: ignore[arg-type]
    return evaluate_feedback(file_feedback(bench), scorer, folder, wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the true judges' result is."""
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def report(bench: Path, folder: Path) -> FeedbackReport:
    return evaluate(bench, Truth(), folder)


def test_the_judge_that_people_follow_is_always_right(clips: list[Clip], report: FeedbackReport) -> None:
    pairs = [(one, other) for i, one in enumerate(clips) for other in clips[i + 1 :] if one.prompt == other.prompt]
    assert list(report.measured.accuracy) == ["overall", "VQ", "MQ", "TA"]
    for name in DIMENSIONS:
        found = report.measured.accuracy[name.replace("Overall", "overall")]
        assert (found.pairs, found.failed) == (len(pairs), 0)
        assert found.ties == sum(sign(*pair, name) == 0 for pair in pairs)
        assert (found.without_ties.mean, found.with_ties.mean) == (1, 1)
    assert report.measured.accuracy["overall"].answered_by == ("VQ", "MQ", "TA")
    assert report.unmatched == []


def test_the_wrong_sign_is_always_wrong(bench: Path, tmp_path: Path) -> None:
    report = evaluate(bench, Changed(lambda scores: {name: -values for name, values in scores.items()}), tmp_path)
    for found in report.measured.accuracy.values():
        assert found.without_ties.mean == 0
        # Calling everything a tie is the best that is left.
        assert found.with_ties.mean == pytest.approx(found.ties / found.pairs)


def test_a_constant_is_a_coin(bench: Path, tmp_path: Path) -> None:
    report = evaluate(bench, Changed(lambda scores: {name: values * 0 for name, values in scores.items()}), tmp_path)
    for found in report.measured.accuracy.values():
        assert found.without_ties.mean == 0.5
        assert found.equal_scores == found.pairs
    published = evaluate(
        bench,
        Changed(lambda scores: {name: values * 0 for name, values in scores.items()}),
        tmp_path,
        measure=MeasureSettings(resamples=10, as_published=True),
    )
    assert {found.without_ties.mean for found in published.measured.accuracy.values()} == {0}


def test_what_the_reward_could_not_score_is_left_out_and_named(clips: list[Clip], bench: Path, tmp_path: Path) -> None:
    def spoil(scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        scores["TA"][0] = float("nan")
        return scores

    report = evaluate(bench, Changed(spoil), tmp_path, reward=RewardOpening(batch_size=100), readers=1)
    others = sum(other.prompt == clips[0].prompt for other in clips[1:])
    assert [each["video"] for each in report.failed] == [str(clips[0].path)]
    assert {name: each.failed for name, each in report.measured.accuracy.items()} == {
        "overall": others,
        "VQ": 0,
        "MQ": 0,
        "TA": others,
    }
    assert report.measured.accuracy["TA"].without_ties.mean == 1


def test_what_is_written(report: FeedbackReport, folder: Path) -> None:
    result = json.loads((folder / "feedback.json").read_text(), parse_constant=pytest.fail)
    assert result["reward"] == "truth"
    assert result["measured"]["accuracy"]["VQ"]["without_ties"]["mean"] == 1
    assert {tuple(each["models"]) for each in result["measured"]["accuracy"]["VQ"]["models"]} == {
        ("alpha", "beta"),
        ("alpha", "gamma"),
        ("beta", "gamma"),
    }
    assert result["settings"]["measure"]["calibration"] == 0.4
    assert Image.open(folder / "feedback.png").size[1] > 4 * 200
    page = (folder / "feedback.md").read_text()
    assert all(table.title in page for table in report.tables)


def test_published_rows_stand_beside_and_are_marked(report: FeedbackReport) -> None:
    (table,) = (table for table in report.tables if "published" in table.title)
    assert table.header[1:] == [f"{name} {how}" for name in COLUMNS for how in ("w/ ties", "w/o")]
    assert list(table.rows[0]) == ["truth", *["100.00"] * 8]
    others = {row[0]: row[1:] for row in table.rows[1:]}
    assert set(others) == {f"{name} (published)" for name in ACCURACY["videoalign"].rows}
    assert others["VideoReward (published)"] == ["61.26", "73.59", "59.68", "75.66", "66.03", "74.70", "53.80", "72.20"]
    assert "18 of its 26457 pairs" in table.note
    assert all(len(row) == len(table.header) for row in table.rows)


def test_dimensions_that_nothing_answers_for_are_told(clips: list[Clip], tmp_path: Path) -> None:
    class Looks(Truth):
        dimensions = ("looks", "VQ")

        def score(self, *given: object, **more: object) -> dict[str, torch.Tensor]:
            scores = super().score(*given, **more)  # type: ignore[arg-type]
            return {"looks": scores["VQ"], "VQ": scores["MQ"]}

    path = clips[0].path.parent / "two.csv"
    write_bench(path, clips, dimensions=("VQ", "MQ"))
    assert evaluate(path, Looks(), tmp_path).unmatched == ["MQ"]
    report = evaluate(path, Looks(), tmp_path, dimensions={"VQ": "looks", "MQ": "VQ"})
    assert {name: each.without_ties.mean for name, each in report.measured.accuracy.items()} == {"VQ": 1, "MQ": 1}
    with pytest.raises(ReelignError, match="None of the 18 videos has a score"):
        evaluate(path, Changed(lambda scores: {name: values / 0 for name, values in scores.items()}), tmp_path / "none")


def candidate(name: str, prompt: str) -> Candidate:
    return Candidate(Path(name), prompt)


def world(values: dict[Candidate, float], lengths: dict[Candidate, int] | None = None) -> Scores:
    frames = lengths or {}
    return Scores(
        {each: Scored(scores={"r": value}, num_frames=frames.get(each, 16), fps=8.0) for each, value in values.items()},
        {},
    )


def test_ranks_of_choices_by_hand() -> None:
    groups = [[candidate(f"{prompt}{place}", prompt) for place in range(4)] for prompt in "pqr"]
    values = {each: float(place) for group in groups for place, each in enumerate(group)}
    del values[groups[2][1]]
    choices = [
        Choice(candidates=tuple(group), best=best, dimension="overall")
        for group, best in ((groups[0], 3), (groups[0], 1), (groups[1], 2), (groups[2], 3))
    ]
    feedback = Feedback(source=Path("w"), format="workspace", pairs=[], choices=choices)
    found = measure(feedback, world(values), {"overall": ("r",)}, FAST).ranking["overall"]
    assert (found.choices, found.failed, found.candidates) == (3, 1, (4, 4))
    assert found.mrr.mean == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert {k: each.mean for k, each in found.recall.items()} == pytest.approx({1: 1 / 3, 2: 2 / 3, 4: 1})
    assert found.chance_mrr == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


@pytest.mark.parametrize(("size", "published"), [(8, True), (7, False)])
def test_the_published_ranks_stand_beside_groups_of_eight_alone(size: int, published: bool) -> None:
    group = tuple(candidate(f"p{place}", "p") for place in range(size))
    values = {each: float(place) for place, each in enumerate(group)}
    choice = Choice(candidates=group, best=size - 1, dimension="overall")
    feedback = Feedback(source=Path("w"), format="workspace", pairs=[], choices=[choice])
    (table,) = tables(
        measure(feedback, world(values), {"overall": ("r",)}, FAST), reward="r", format="workspace", as_published=False
    )
    assert list(table.rows[0]) == ["r, overall", "1", "100.0", "100.0", "100.0", "100.0", "0"]
    assert ("HPSv2 (published)" in table.text()) is published


def test_genai_bench_has_one_verdict_a_pair() -> None:
    pairs = [
        JudgedPair(first=candidate("a", "p"), second=candidate("b", "p"), verdicts={"overall": 1}),
        JudgedPair(first=candidate("c", "q"), second=candidate("d", "q"), verdicts={"overall": 0}),
    ]
    feedback = Feedback(source=Path("f"), format="genai-bench", pairs=pairs)
    values = {candidate("a", "p"): 2.0, candidate("b", "p"): 0.0, candidate("c", "q"): 1.0, candidate("d", "q"): 1.5}
    measured = measure(feedback, world(values), {"overall": ("r",)}, FAST)
    _, table = tables(measured, reward="r", format="genai-bench", as_published=False)
    assert list(table.header) == ["source", "overall w/ ties", "overall w/o"]
    assert list(table.rows[0]) == ["r", "100.00", "100.00"]
    assert ["VideoReward (published)", "49.41", "72.89"] in [list(row) for row in table.rows]


def test_bias_towards_length_and_side() -> None:
    """The score is the length; people choose the longer video in half of the pairs, and always the first."""
    pairs, values, lengths = [], {}, {}
    for number in range(8):
        one, other = candidate(f"a{number}", f"p{number}"), candidate(f"b{number}", f"p{number}")
        lengths |= {one: 16 if number % 2 else 24, other: 24 if number % 2 else 16}
        values |= {each: float(lengths[each]) for each in (one, other)}
        pairs.append(JudgedPair(first=one, second=other, verdicts={"VQ": 1}))
    feedback = Feedback(source=Path("f"), format="pairs", pairs=pairs, shown=pairs)
    found = measure(feedback, world(values, lengths), {"VQ": ("r",)}, FAST)
    length, position = found.length["VQ"], found.position["VQ"]
    assert (length.people.mean, length.reward.mean, length.excess.mean) == (0.5, 1, 0.5)
    assert (position.people.mean, position.reward.mean, position.excess.mean) == (1, 0.5, -0.5)


def test_the_calibrated_threshold_knows_only_its_own_prompts() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs, values = [], {}
    for number in range(200):
        one, other = candidate(f"a{number}", f"p{number}"), candidate(f"b{number}", f"p{number}")
        values |= {one: float(torch.randn((), generator=generator)), other: 0.0}
        verdict = 0 if abs(values[one]) < 0.5 else 1 if values[one] > 0 else -1
        pairs.append(JudgedPair(first=one, second=other, verdicts={"VQ": verdict}))
    feedback = Feedback(source=Path("f"), format="pairs", pairs=pairs)
    found = measure(feedback, world(values), {"VQ": ("r",)}, FAST).accuracy["VQ"]
    assert found.with_ties.mean == 1
    assert found.calibrated is not None
    assert 50 < found.calibrated.found_on < 110
    assert 0.4 < found.calibrated.threshold < 0.6
    assert 0.97 < found.calibrated.with_ties.mean <= 1
    # A prompt's side depends on nothing else in the file.
    fewer = Feedback(source=Path("f"), format="pairs", pairs=pairs[100:])
    half = measure(fewer, world(values), {"VQ": ("r",)}, FAST).accuracy["VQ"]
    rest = measure(
        Feedback(source=Path("f"), format="pairs", pairs=pairs[:100]), world(values), {"VQ": ("r",)}, FAST
    ).accuracy["VQ"]
    assert half.calibrated is not None
    assert rest.calibrated is not None
    assert half.calibrated.found_on + rest.calibrated.found_on == found.calibrated.found_on
    none = measure(feedback, world(values), {"VQ": ("r",)}, MeasureSettings(calibration=0.0, resamples=10))
    assert none.accuracy["VQ"].calibrated is None


def test_ratings_are_correlated() -> None:
    values = {candidate(f"a{number}", "p"): float(number) for number in range(5)}
    ratings = {"VQ": {each: -value for each, value in values.items()}}
    feedback = Feedback(source=Path("w"), format="workspace", pairs=[], ratings=ratings)
    found = measure(feedback, world(values), {"VQ": ("r",)}, FAST).correlation["VQ"]
    assert (found.videos, found.spearman, found.kendall) == (5, pytest.approx(-1), pytest.approx(-1))


def test_nothing_scored_gives_no_number() -> None:
    pair = JudgedPair(first=candidate("a", "p"), second=candidate("b", "p"), verdicts={"VQ": 1})
    feedback = Feedback(source=Path("w"), format="workspace", pairs=[pair], shown=[pair])
    found = measure(feedback, world({}), {"VQ": ("r",)}, FAST)
    assert (found.accuracy["VQ"].pairs, found.accuracy["VQ"].failed) == (0, 1)
    assert math.isnan(found.accuracy["VQ"].with_ties.mean)
    assert not found.position


@pytest.mark.parametrize("settings", [{"calibration": 1.0}, {"resamples": 0}, {"level": 1.0}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        MeasureSettings(**settings)  # type: ignore[arg-type]

"""The rule on series of scores made by hand: a hacked one alarms, a sound one and chance do not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.training.looks import Look
from reelign.training.parting import Alarm, Band, alarms, standing

PROMPTS = tuple(f"prompt {number // 2}" for number in range(16))
LEVELS = torch.linspace(0.2, 0.8, 16)
"""Prompts differ much more than looks do, as they do in life; pairs do not feel it."""


def look(step: int, training: Tensor | float, held_out: Tensor | float, proxy: float = 1.0) -> Look:
    """Scores of eight prompts and two seeds, each moved from its own level."""
    scores = {
        "training/score": LEVELS + training,
        "held_out/judge/score": LEVELS.flip(0) + held_out,
        "proxy/sharpness": LEVELS * proxy,
    }
    return Look(step, PROMPTS, scores)


def told(
    now: Look, best: Look, base: Look, *, looks: int = 1, level: float = 0.95, band: Band | None = (0.5, 2.0)
) -> list[tuple[str, str]]:
    found = alarms(now, best, base, level=level, looks=looks, bands={"sharpness": band})
    assert all(isinstance(each, Alarm) and each.what for each in found)
    return [(each.kind, each.name) for each in found]


def test_training_up_and_the_rest_down_is_an_alarm() -> None:
    base, best = look(0, 0.0, 0.0), look(10, 0.1, 0.2)
    assert told(look(20, 0.2, 0.1), best, base) == [("parted", "judge")]
    # Still above the base, so that only the best look shows it; below the base, both do.
    assert told(look(30, 0.3, -0.1), best, base) == [("parted", "judge"), ("below_base", "judge")]


def test_without_a_training_score_what_falls_against_the_best_look_is_an_alarm() -> None:
    """As of judges that compare: nobody can say that training's own reward rose."""

    def without(found: Look) -> Look:
        return Look(found.step, found.prompts, {k: v for k, v in found.scores.items() if not k.startswith("training")})

    base, best = without(look(0, 0.0, 0.0)), without(look(10, 0.0, 0.2))
    assert best.training is None
    assert told(without(look(20, 0.0, 0.1)), best, base) == [("fallen", "judge")]
    assert told(without(look(30, 0.0, -0.1)), best, base) == [("fallen", "judge"), ("below_base", "judge")]
    assert told(without(look(20, 0.0, 0.3)), best, base) == []


@pytest.mark.parametrize(("training", "held_out"), [(0.2, 0.3), (0.2, 0.2), (0.1, 0.15), (0.0, 0.1)])
def test_rising_together_standing_still_and_falling_together_part_nothing(training: float, held_out: float) -> None:
    assert told(look(20, training, held_out), look(10, 0.1, 0.2), look(0, 0.0, 0.0)) == []


def test_what_chance_can_do_is_no_alarm_and_many_looks_ask_for_more() -> None:
    # Each of four prompts is down by 1 but one, up by 0.9: a resample is up where it holds that one three times or
    # more, 4 · (1/4)³ · 3/4 + (1/4)⁴ = 5.1 % of them. The upper end of 80 % is so below 0, and that of 99 % is not.
    prompts = ("a", "b", "c", "d")
    base = Look(0, prompts, {"training/score": torch.zeros(4), "held_out/judge/score": torch.zeros(4)})
    fall = torch.tensor([-1.0, -1.0, -1.0, 0.9])
    now = Look(1, prompts, {"training/score": torch.ones(4), "held_out/judge/score": fall})
    assert told(now, base, base, level=0.8, looks=1) == [("parted", "judge"), ("below_base", "judge")]
    assert told(now, base, base, level=0.8, looks=20) == []


def test_several_held_out_rewards_share_the_error() -> None:
    prompts = ("a", "b", "c", "d")
    zero, fall = torch.zeros(4), torch.tensor([-1.0, -1.0, -1.0, 0.9])
    base = Look(0, prompts, {"training/s": zero, **{f"held_out/{name}/s": zero for name in "xyz"}})
    scores = {"training/s": torch.ones(4), "held_out/x/s": fall, "held_out/y/s": zero, "held_out/z/s": zero}
    assert told(Look(1, prompts, scores), base, base, level=0.8) == []  # tails of 3.3 % each
    del scores["held_out/y/s"], scores["held_out/z/s"]
    assert told(Look(1, prompts, scores), base, base, level=0.8)[0] == ("parted", "x")


def test_a_dimension_that_falls_behind_a_mean_that_holds_is_an_alarm() -> None:
    """As a policy that sharpens its frames until nobody can tell what they show."""
    zero = torch.zeros(8)

    def scored(step: int, training: float, looks: float, text: float) -> Look:
        of_judge = {"overall": zero + (looks + text) / 2, "VQ": zero + looks, "TA": zero + text}
        scores = {f"held_out/judge/{name}": values for name, values in of_judge.items()}
        return Look(step, tuple("abcdefgh"), {"training/score": zero + training, **scores})

    base = scored(0, 0.0, 0.0, 0.0)
    assert told(scored(1, 1.0, 0.3, -0.3), base, base) == [("parted", "judge/TA"), ("below_base", "judge/TA")]
    assert told(scored(1, 1.0, 0.3, 0.1), base, base) == []


def test_a_measure_outside_its_band_is_an_alarm_of_its_own() -> None:
    base = look(0, 0.0, 0.0)
    assert told(look(1, 0.0, 0.0, proxy=0.4), base, base) == [("band", "sharpness")]
    assert told(look(1, 0.0, 0.0, proxy=2.5), base, base) == [("band", "sharpness")]
    assert told(look(1, 0.0, 0.0, proxy=1.9), base, base) == []
    assert told(look(1, 0.0, 0.0, proxy=9.0), base, base, band=None) == []
    assert told(look(1, 0.0, 0.0, proxy=9.0), base, base, band=(0.5, math.inf)) == []


def test_videos_that_cannot_be_scored_are_an_alarm_and_not_a_zero() -> None:
    base, now = look(0, 0.0, 0.0), look(1, 0.0, 0.0)
    now.scores["held_out/judge/score"][:7] = math.nan
    assert told(now, base, base) == []
    now.scores["held_out/judge/score"][:9] = math.nan
    assert told(now, base, base) == [("unscored", "held_out/judge/score")]


def test_the_best_look_is_that_of_the_highest_gain_in_spreads() -> None:
    base = look(0, 0.0, 0.0)
    spread = float(LEVELS.double().std(correction=0))
    assert standing(base, base) == 0.0
    assert standing(look(1, 9.0, 0.1), base) == pytest.approx(0.1 / spread, rel=1e-5)
    assert standing(Look(1, PROMPTS, {"training/s": LEVELS}), base) == 0.0


def run(kind: str, number: int, *, looks: int = 10, patience: int = 2, corrected: bool = True) -> int | None:
    """The look at which a run of chance-ridden looks is stopped, as the watch counts; None where it is not."""
    chance = generator_from("parting", kind, number)

    def noise() -> Tensor:
        return 0.3 * torch.randn(16, generator=chance)

    base = best = look(0, noise(), noise())
    in_a_row = 0
    for step in range(1, looks + 1):
        time = step / looks
        up, held_out = {
            "chance": (0.0, 0.0),
            "sound": (time, min(time, 0.3)),
            "hacked": (time, 0.3 * time if time <= 0.3 else 0.09 - 1.2 * (time - 0.3)),
        }[kind]
        now = look(step, up + noise(), held_out + noise())
        found = alarms(now, best, base, level=0.95, looks=step if corrected else 1, bands={})
        in_a_row = in_a_row + 1 if found else 0
        if in_a_row == patience:
            return step
        if standing(now, base) > standing(best, base):
            best = now
    return None


def stopped(kind: str, count: int, **settings: bool) -> list[int]:
    """Of so many runs, the looks at which some were stopped."""
    return [step for number in range(count) if (step := run(kind, number, **settings)) is not None]


def test_chance_stops_no_run_and_hacking_is_caught() -> None:
    assert stopped("chance", 4) == []
    assert stopped("sound", 4) == []
    caught = stopped("hacked", 3)
    assert len(caught) == 3
    assert max(caught) <= 9


@pytest.mark.slow
def test_the_rate_of_false_alarms() -> None:
    assert len(stopped("chance", 200)) <= 4
    # The held-out reward stops rising early, so that each later look falls short of the luckiest one: without the
    # correction for many looks a run in ten or so would be stopped.
    corrected, plain = len(stopped("sound", 200)), len(stopped("sound", 200, corrected=False))
    print(f"sound runs stopped: {corrected} of 200, {plain} without the correction")
    assert corrected <= 10 < plain
    assert len(stopped("hacked", 100)) == 100

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from reelign.errors import ReelignError
from reelign.evaluation import draw_curves, read_metrics


def test_reads_numbers_sorted_and_the_later_line_of_a_step_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 5, "note": "x"}\n\n{"step": 1, "loss": 3}\n{"step": 2, "loss": 4}\n')
    assert read_metrics(path) == [{"step": 1, "loss": 3}, {"step": 2, "loss": 4}]


def test_a_last_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25, "stage": "é"}'.encode()
    for cut in range(26, len(whole)):
        path.write_bytes(whole[:cut])
        assert [record["step"] for record in read_metrics(path)] == [1]
    path.write_bytes(whole)
    assert [record["step"] for record in read_metrics(path)] == [1, 2]


@pytest.mark.parametrize("bad", ["{oops", "[1, 2]", '{"loss": 1}', '{"step": "one"}', '{"step": NaN}'])
def test_any_other_bad_line_names_file_and_line(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{bad}\n{{"step": 3}}\n')
    with pytest.raises(ReelignError, match=r"metrics\.jsonl, line 2 "):
        read_metrics(path)


def test_a_bad_last_line_that_was_written_whole_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{oops\n')
    with pytest.raises(ReelignError, match="line 2"):
        read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReelignError, match=r"none\.jsonl"):
        read_metrics(tmp_path / "none.jsonl")


def test_draws_what_there_is_as_valid_svg_with_page_colours_and_own_ids(metrics):
    curves = draw_curves(read_metrics(metrics))
    assert [curve.name for curve in curves] == ["loss", "implicit-accuracy", "error-gap", "margin", "grad-norm"]
    ids: list[str] = []
    for curve in curves:
        root = ElementTree.fromstring(curve.svg)
        assert root.tag.endswith("svg")
        assert "width" not in root.attrib
        assert "viewBox" in root.attrib
        assert "var(--accent)" in curve.svg
        assert "#01020" not in curve.svg
        ids += [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    assert "chosen" in curves[2].svg
    assert "rejected" in curves[2].svg


def test_draws_the_same_bytes_twice_and_leaves_empty_panels_out():
    records = [{"step": 1.0, "loss": 0.5, "margin": float("nan")}]
    assert [curve.name for curve in draw_curves(records)] == ["loss"]
    assert draw_curves(records) == draw_curves(records)
    assert draw_curves([]) == []


def test_a_rewards_gradient_has_panels_of_its_own_and_says_nothing_of_dpo():
    own = {"loss": -0.5, "reward": 0.5, "reward/overall": 0.5, "reward/VQ": 0.25, "reward/a <b>": 0.75}
    further = {"reward/failed": 0.0, "reward/queries": 2.0, "gradient/steps": 1.0, "real_error": 0.1}
    records = [{"step": float(step), **own, **further, "base_distance": 0.01} for step in (1, 2)]
    curves = draw_curves(records)
    titles = ["Loss", "Reward", "Reward: VQ", "Reward: a <b>", "Distance to the base", "Error on real videos"]
    assert [curve.title for curve in curves] == titles
    assert not [curve.note for curve in curves if "DPO" in curve.note]
    assert len({curve.name for curve in curves}) == len(curves)
    for curve in curves:
        ElementTree.fromstring(curve.svg)


@pytest.mark.parametrize(("own", "told"), [("chosen_error_gap", True), ("implicit_accuracy", False), ("lr", False)])
def test_what_no_preference_learned_is_stands_under_the_loss_of_dpo_alone(own: str, told: bool):
    loss = draw_curves([{"step": 1.0, "loss": 0.5, own: 0.5}])[0]
    assert ("log 2" in loss.note) is told

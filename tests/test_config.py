"""From YAML and overrides to settings: what is refused names its place, its key and the mend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from reelign.config import parse_overrides, read_yaml, resolve, resolve_one_of, schema
from reelign.errors import ReelignError
from reelign.evaluation import EvaluateSettings
from reelign.objectives.dpo import DPO
from reelign.objectives.sft import SFT
from reelign.opening import SECTIONS
from reelign.recipes.offline.align import AlignSettings
from reelign.recipes.sampling import GenerateSettings


def align(*words: str, file: dict[str, Any] | None = None) -> AlignSettings:
    return resolve(AlignSettings, [("reelign.yaml", file or {}), parse_overrides(words)])


def refused(*words: str, file: dict[str, Any] | None = None) -> ReelignError:
    with pytest.raises(ReelignError) as error:
        align(*words, file=file)
    return error.value


def test_nothing_given_is_the_defaults() -> None:
    assert align() == AlignSettings()


def test_the_command_line_stands_over_the_file_and_the_file_over_the_defaults() -> None:
    file = {"batch_size": 3, "trainer": {"steps": 7, "warmup_steps": 2}}
    settings = align("trainer.steps=9", file=file)
    assert (settings.batch_size, settings.trainer.steps, settings.trainer.warmup_steps) == (3, 9, 2)
    assert settings.trainer.max_grad_norm == AlignSettings().trainer.max_grad_norm


def test_values_of_overrides_are_read_by_what_they_are() -> None:
    settings = align(
        "trainer.learning_rate=1e-4",
        "trainer.betas=[0.5, 0.9]",
        "lora.targets=[to_q, to_k]",
        "swap=true",
        "weights={VQ: 2}",
    )
    assert settings.trainer.learning_rate == 1e-4
    assert settings.trainer.betas == (0.5, 0.9)
    assert settings.lora.targets == ("to_q", "to_k")
    assert settings.swap is True
    assert settings.weights == {"VQ": 2.0}


def test_an_empty_value_is_an_empty_text_and_null_is_none() -> None:
    settings = resolve(GenerateSettings, [parse_overrides(["negative_prompt=", "guidance_scale=null"])])
    assert settings.negative_prompt == ""
    assert settings.guidance_scale is None


@pytest.mark.parametrize(
    ("word", "key", "near"),
    [
        ("batchsize=4", "batchsize", "batch_size"),
        ("trainr.steps=4", "trainr", "trainer"),
        ("trainer.step=4", "trainer.step", "steps"),
        ("lora.rnk=4", "lora.rnk", "rank"),
        ("objective.betta=4", "objective.betta", "beta"),
    ],
)
def test_an_unknown_key_names_its_place_itself_and_the_nearest_valid_one(word: str, key: str, near: str) -> None:
    from_line = refused(word)
    assert from_line.what == f"the command line: there is no key {key!r}."
    assert from_line.mend.startswith(f"Did you mean {near!r}?")
    file = parse_overrides([word])[1]
    assert refused(file=dict(file)).what == f"reelign.yaml: there is no key {key!r}."


def test_another_objective_drops_the_keys_of_the_one_before() -> None:
    file = {"objective": {"name": "dpo", "beta": 7}}
    assert align(file=file).objective == DPO(beta=7)
    assert align("objective.name=sft", file=file).objective == SFT()
    assert align("objective.name=dpo", "objective.beta=9", file=file).objective == DPO(beta=9)


def test_a_key_of_the_other_objective_is_unknown_and_not_offered() -> None:
    error = refused("objective.name=sft", "objective.beta=4")
    assert "there is no key 'objective.beta'" in error.what
    assert error.mend == "Valid keys here: name, on."


def test_an_unknown_objective_lists_the_known() -> None:
    error = refused("objective.name=ppo")
    assert "the command line: objective" in error.what
    assert "'dpo', 'sft', 'rwr', 'kto'" in error.mend


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        ("batch_size=many", "batch_size = 'many'", "valid integer"),
        ("trainer.steps=2.5", "trainer.steps = 2.5", "valid integer"),
        ("trainer=5", "trainer = 5", "dictionary"),
        ("noise_levels=gauss", "noise_levels = 'gauss'", "'uniform' or 'logit_normal'"),
        ("weights={VQ: high}", "weights.VQ = 'high'", "valid number"),
        ("run=on", "run = True", "in quotes"),
        ("lora.targets=to_q", "lora.targets = 'to_q'", "a list: [one, two]"),
    ],
)
def test_a_wrong_type_names_key_value_and_what_was_expected(word: str, key: str, expected: str) -> None:
    error = refused(word)
    assert error.what == f"the command line: {key} is not valid."
    assert expected in error.mend


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("batch_size=0", "batch_size"),
        ("trainer.learning_rate=-1", "trainer.learning_rate"),
        ("lora.rank=0", "lora.rank"),
        ("objective.beta=-2", "objective.beta"),
    ],
)
def test_a_value_that_the_settings_refuse_names_its_key_and_no_other_value(word: str, key: str) -> None:
    error = refused(word)
    assert error.what.startswith(f"the command line: {key} is not valid: ")
    assert "got" in error.what
    assert len(error.what) < 120


@pytest.mark.parametrize("word", ["steps", "=4", ""])
def test_a_word_without_key_and_value_is_no_override(word: str) -> None:
    with pytest.raises(ReelignError, match="Write key=value"):
        parse_overrides([word])


def test_an_override_that_is_no_yaml_says_so() -> None:
    with pytest.raises(ReelignError, match=r"the command line: the value of 'weights=\[1' is not valid YAML"):
        parse_overrides(["weights=[1"])


def test_overrides_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ReelignError, match="contradicts"):
        parse_overrides(["trainer=1", "trainer.steps=2"])


def test_a_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"There is no config file .*settings\.yaml"):
        read_yaml(tmp_path / "settings.yaml")


def test_a_folder_or_a_binary_file_is_no_config(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path, binary):
        with pytest.raises(ReelignError, match="cannot be read as a config file"):
            read_yaml(path)


def test_broken_yaml_names_file_line_and_problem(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("run: a\nweights: [1, 2\n")
    with pytest.raises(ReelignError, match=r"settings\.yaml is not valid YAML: expected .* in line 3"):
        read_yaml(path)


def test_yaml_that_is_no_mapping_is_refused_and_an_empty_file_is_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ReelignError, match="must hold keys and values, not list"):
        read_yaml(path)
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_schema_forbids_unknown_keys_at_every_level(section: str) -> None:
    found = schema(SECTIONS[section])
    for name, part in {section: found, **found.get("$defs", {})}.items():
        if part.get("type") == "object":
            assert part["additionalProperties"] is False, name


def test_the_schema_knows_every_setting() -> None:
    found = schema(EvaluateSettings)
    assert set(found["properties"]) == set(EvaluateSettings.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Walk:
    how: Literal["walk"] = "walk"
    speed: float = 1.0
    shoes: str = "boots"
    extra: int = 0


@dataclass(frozen=True, kw_only=True)
class Ride:
    how: Literal["ride"] = "ride"
    speed: float = 5.0
    gears: int = 3
    extra: str = ""


KINDS: dict[str, type[Any]] = {"walk": Walk, "ride": Ride}


def one_of(*layers: dict[str, Any]) -> Any:
    return resolve_one_of(KINDS, "how", [(f"layer {number}", layer) for number, layer in enumerate(layers)])


def test_the_last_word_on_the_tag_decides_the_kind_and_the_first_kind_is_the_default() -> None:
    assert one_of({}) == Walk()
    assert one_of({"speed": 2}, {"how": "ride"}) == Ride(speed=2.0)
    assert one_of({"how": "ride", "gears": 7}, {"how": "walk"}, {"how": "ride"}) == Ride(gears=7)


def test_what_only_the_other_kind_knows_or_means_otherwise_stays_behind() -> None:
    assert one_of({"shoes": "none", "extra": 4, "speed": 3}, {"how": "ride"}) == Ride(speed=3.0)


def test_what_neither_kind_knows_and_a_kind_that_there_is_not_are_refused() -> None:
    with pytest.raises(ReelignError, match="layer 0: there is no key 'speeed'"):
        one_of({"speeed": 3}, {"how": "ride"})
    with pytest.raises(ReelignError, match="layer 1: there is no key 'shoes'"):
        one_of({"how": "ride"}, {"shoes": "boots"})
    with pytest.raises(ReelignError, match=r"layer 1: how = 'rid' is not valid\.\nDid you mean 'ride'"):
        one_of({}, {"how": "rid"})


def test_the_schema_of_several_kinds_has_each() -> None:
    found = schema(Walk, Ride)
    assert {name for each in found["$defs"].values() for name in each["properties"]} == {
        "how",
        "speed",
        "shoes",
        "extra",
        "gears",
    }

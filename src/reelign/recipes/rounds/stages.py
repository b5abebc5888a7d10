"""The stages of one round: candidates of the policy so far, judgements of them, an alignment from that policy.

Every stage is on record in the round's manifest (`manifest`) and done once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reelign.recipes.generation import Generated, generate
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.offline.align import ADAPTER_FOLDER, align
from reelign.recipes.rounds.data import (
    counted,
    open_questions,
    read_judgements,
    round_groups,
    round_preferences,
    write_judgements,
)
from reelign.recipes.rounds.manifest import Record, Stage, file_key, read_manifest, run_stage
from reelign.recipes.rounds.parts import PEOPLE, Hands, RoundPlan, RoundPolicy, Waiting
from reelign.recipes.rounds.settings import IterateSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Group, Workspace, content_key, prompt_content
from reelign.training import load_adapter
from reelign.training.adapter_files import weights_key


@dataclass(frozen=True)
class Rounds:
    """The stages of rounds in a workspace's run.

    Args:
        workspace: holds prompts and candidates.
        settings: of the whole.
        hands: models, judges and scorers.
    """

    workspace: Workspace
    settings: IterateSettings
    hands: Hands

    @property
    def folder(self) -> Path:
        return self.workspace.root / "runs" / self.settings.run

    def manifest(self, number: int) -> Path:
        return self.folder / f"round-{number}.json"

    def train(
        self, plan: RoundPlan, before: RoundPolicy, asked: JudgeSettings | None = None, judge: str = ""
    ) -> RoundPolicy | Waiting:
        """A whole round from the policy before it, or what it waits for.

        Args:
            plan: its settings.
            before: whose candidates it judges and trains on.
            asked: whom it asks in place of the plan's judge, such as that judge trained again.
            judge: the key of that one's weights.
        """
        made = self.stage(plan.number, self._generate(plan, before))
        videos = made["videos"]
        groups = round_groups(self.workspace, self.settings.split, before.name, videos)
        judges = self.stage(plan.number, self._judge(plan, videos, groups, asked or plan.judge, judge))["judges"]
        file = self.folder / f"round-{plan.number}" / "judgements.json"
        if not file.exists() and self.settings.people:
            lacking, questions = open_questions(self.workspace, groups, self.settings, judges)
            if self.hands.ranks.any(bool(lacking))[0]:
                return Waiting(round=plan.number, adapter=before.name, open=lacking, questions=questions)
        kept = self.stage(plan.number, self._keep(plan, file, videos, judges))
        trained = self.stage(plan.number, self._align(plan, before, groups, file, kept), alone=False)
        folder = self._run(plan) / ADAPTER_FOLDER
        return RoundPolicy(
            number=plan.number, folder=folder, key=trained["weights"], name=f"{plan.align.run}@{trained['weights']}"
        )

    def stage(self, number: int, stage: Stage, *, alone: bool = True) -> Record:
        """The outputs of a stage of a round, or of the base, which is 0."""
        path = self.manifest(number)
        there = stage.name in read_manifest(path).get("stages", {})
        self.hands.say(f"round {number}: {stage.name}{' is on record' if there else ''}")
        return run_stage(path, stage, self.hands.ranks, alone=alone)

    def _generate(self, plan: RoundPlan, before: RoundPolicy) -> Stage:
        def work() -> Record:
            made = self.made(before, plan.generate)
            return {
                "adapter": before.name,
                "generator": sorted({video.generator for video in made.videos}),
                "videos": {video.id: video.content_hash for video in made.videos},
                "failed": sorted(made.failed),
            }

        return Stage(
            name="generate",
            inputs={"model": self.workspace.model, "policy": before.key, "prompts": self.prompts(self.settings.split)},
            settings=asdict(plan.generate),
            work=work,
            intact=lambda known: self._have(known["videos"]),
        )

    def _judge(
        self, plan: RoundPlan, videos: Record, groups: Sequence[Group], asked: JudgeSettings, judge: str
    ) -> Stage:
        def work() -> Record:
            judges = dict(self.hands.judge(asked, groups)) if asked.judge != PEOPLE else {}
            said = counted(self.workspace, videos, judges, self.settings.answers, people=False)
            return {"judges": judges, "judgements": len(said)}

        return Stage(
            name="judge",
            inputs={"videos": content_key(videos), **({"judge": judge} if judge else {})},
            settings={**asdict(plan.judge), "answers": self.settings.answers},
            work=work,
            intact=lambda known: True,  # the record only grows
        )

    def _keep(self, plan: RoundPlan, file: Path, videos: Record, judges: Record) -> Stage:
        def work() -> Record:
            people = self.settings.people > 0
            said = counted(self.workspace, videos, judges, self.settings.answers, people=people)
            write_judgements(file, said)
            return {"sha256": file_key(file), "judgements": len(said), "judges": sorted({each.judge for each in said})}

        return Stage(
            name="judgements",
            inputs={"videos": content_key(videos), "judges": judges},
            settings={"people": self.settings.people, "answers": self.settings.answers},
            work=work,
            intact=lambda known: file.exists() and file_key(file) == known["sha256"],
        )

    def _align(self, plan: RoundPlan, before: RoundPolicy, groups: Sequence[Group], file: Path, kept: Record) -> Stage:
        def work() -> Record:
            said = read_judgements(self.workspace, file)
            data = round_preferences(self.workspace, groups, said, self.settings, plan.align)
            done = align(
                self.workspace,
                self.hands.load(encoders=False),
                plan.align,
                data=data,
                sampling=plan.generate,
                start=before.folder,
                ranks=self.hands.ranks,
            )
            with self.hands.ranks.first():  # which writes the adapter
                weights = weights_key(done.adapter)
            return {
                "run": plan.align.run,
                "weights": weights,
                "preferences": data.key,
                "samples": done.samples,
                "left_out": done.left_out,
                "stopped": done.stopped,
            }

        adapter = self._run(plan) / ADAPTER_FOLDER
        return Stage(
            name="align",
            inputs={"judgements": kept["sha256"], "policy": before.key, "model": self.workspace.model},
            settings=asdict(plan.align),
            work=work,
            intact=lambda known: _key_of(adapter) == known["weights"],
        )

    def made(self, policy: RoundPolicy, sampling: GenerateSettings) -> Generated:
        generator = self.hands.load()
        if policy.folder is not None:
            load_adapter(generator, policy.folder)
        return generate(self.workspace, generator, sampling, adapter=policy.name)

    def prompts(self, split: str) -> str:
        return content_key([prompt_content(prompt) for prompt in self.workspace.asked_in(split)])

    def _have(self, videos: Record) -> bool:
        known = {video.id: video for video in self.workspace.videos() if video.id in videos}
        return len(known) == len(videos) and all(map(self.workspace.has_file, known.values()))

    def _run(self, plan: RoundPlan) -> Path:
        return self.workspace.root / "runs" / plan.align.run


def _key_of(adapter: Path) -> str | None:
    """The key of what was trained, None where its file is gone."""
    return weights_key(adapter) if any(adapter.rglob("*.safetensors")) else None

"""Rounds 1, 2 and 3 of DPO and KTO, with anchors and without, on the small world: the table in docs/evidence.md.

    python benchmarks/iterate_evidence.py --folder evidence/rounds              # what is not done yet, then the table
    python benchmarks/iterate_evidence.py --folder evidence/rounds --seeds 0 --arms dpo,dpo-bare
    python benchmarks/iterate_evidence.py --folder evidence/rounds --table-only

Each seed has a workspace, whose first candidates serve all arms. Three people compare the candidates for DPO, a critic
calls them good, normal or bad for KTO; both err. No round ends early: a panel that errs too only says which round it
would keep. The true reward is reported on captions that nothing else sees. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from evidence import merged, real_clips
from evidence_table import RESAMPLES, place
from torch import Tensor

from reelign import stages
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators import resolve_model
from reelign.iterating import iterate
from reelign.recipes.rounds.manifest import read_manifest
from reelign.records.bootstrap import paired_bootstrap

ROUNDS = 3
SETTINGS: dict[str, Any] = {
    "generate": {"candidates": 3},
    "align": {
        "shift": 4,
        "trainer": {"steps": 150, "learning_rate": 1e-3, "checkpoint_every": 50, "ema_decay": 0.98},
        "trackers": [],
    },
    "iterate": {
        "rounds": ROUNDS,
        "patience": ROUNDS + 1,
        "selection": {"scorer": "spriteworld-panel", "seeds": 4},
        "report": {"scorer": "spriteworld-truth", "seeds": 8},
    },
}
"""What the arms share."""
DPO: dict[str, Any] = {"align": {"objective": {"name": "dpo", "beta": 100}}}
SLOW: dict[str, Any] = {"align": {**DPO["align"], "trainer": {"learning_rate": 3e-4}}}
KTO: dict[str, Any] = {
    "answers": "pointwise",
    "judge": {"judge": "critic:reelign.spriteworld.panel:Grader"},
    "align": {"objective": {"name": "kto", "beta": 100}, "batch_size": 32},
}


@dataclass(frozen=True)
class Arm:
    """One way to run rounds."""

    what: str
    """For the table."""
    settings: dict[str, Any]
    """Of `iterate`."""
    anchors: dict[str, float] = field(default_factory=dict)


ARMS = {
    "dpo": Arm("DPO, anchors 0.2 on chosen and 0.1 on real", DPO, {"chosen": 0.2, "real": 0.1}),
    "dpo-slow": Arm("the same at 0.3 of the rate", SLOW, {"chosen": 0.2, "real": 0.1}),
    "dpo-bare": Arm("DPO, no anchors", DPO, {"chosen": 0.0, "real": 0.0}),
    "kto": Arm("KTO, anchor 0.1 on real", KTO, {"real": 0.1}),
    "kto-bare": Arm("KTO, no anchors", KTO, {"real": 0.0}),
}
"""By the name of their rounds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("evidence/rounds"), help="where seeds' workspaces are made")
    parser.add_argument("--seeds", default="0,1,2", help="such as 0,2")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--prompts", type=int, default=0, help="only so many of each split, for a trial")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    settings = merged(SETTINGS, yaml.safe_load(given.settings.read_text()) if given.settings else {})
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            run_seed(given.folder / f"seed-{seed}", seed, arms, settings, given.prompts)
        write_table(given.folder, arms, given.table)
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: Mapping[str, Arm], settings: dict[str, Any], prompts: int = 0) -> None:
    """Every arm's rounds, in one workspace."""
    print(f"\n===== seed {seed}", flush=True)
    files = prompt_files(folder, prompts)
    stages.init(folder, prompts=files["train"], held_out=files["report"])
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, arm in arms.items():
        if finished(folder / "runs" / name / "manifest.json"):
            continue
        print(f"\n== {name}", flush=True)
        real = {"real": str(real_clips(folder))} if arm.anchors.get("real") else {}
        own = merged(arm.settings, {"align": {"anchors": arm.anchors, **real}})
        iterate(folder, run=name, seed=seed, selection={"prompts": str(files["selection"])}, **own)
        for state in folder.glob(f"runs/{name}-*/checkpoints/*/optimiser.pt"):
            state.unlink()  # half of a run's size; a finished round's training is not gone on with


def finished(manifest: Path) -> bool:
    """Whether the base and every round are measured."""
    return manifest.exists() and len(read_manifest(manifest).get("rounds", ())) > ROUNDS


def prompt_files(folder: Path, count: int) -> dict[str, Path]:
    """The small world's captions: its held-out ones are shared out between selection and report."""
    own = Path(resolve_model("spriteworld")) / "prompts"
    train, held = ((own / f"{name}.txt").read_text().splitlines() for name in ("train", "held_out"))
    parts = {"train": train, "selection": held[::2], "report": held[1::2]}
    files = {name: folder / f"{name}.txt" for name in parts}
    for name, texts in parts.items():
        write_text(files[name], "\n".join(texts[: count or None]) + "\n")
    return files


def write_table(folder: Path, arms: Mapping[str, Arm], page: Path) -> None:
    """Put the table between its markers of the page."""
    put = place(page, "rounds")
    header = ["arm", "seeds", *(f"round {number}" for number in range(1, ROUNDS + 1)), "kept", "gain of the kept"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [row for name, arm in arms.items() if (row := _row(folder, name, arm.what))]
    if len(lines) == 2:
        raise ReelignError(f"{folder} holds no finished rounds.", "Run some arms first.")
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = (
        "Written by `benchmarks/iterate_evidence.py`. A gain is the change of the true reward over the base on "
        "captions that nothing else sees; in brackets its 95 % interval over captions, the seeds' videos taken "
        "together. `kept` is the round that the selection panel keeps, seed by seed; 0 is the base."
    )
    put([told, table])


def _row(folder: Path, name: str, what: str) -> list[str]:
    """An arm's line, empty where no seed has finished."""
    gains: list[list[Tensor]] = [[] for _ in range(ROUNDS + 1)]
    kept: list[int] = []
    for path in sorted(folder.glob(f"seed-*/runs/{name}/manifest.json")):
        if not finished(path):
            continue
        whole = read_manifest(path)
        base, *after = (_scores(path.with_name(f"round-{number}") / "report.json") for number in range(ROUNDS + 1))
        for number, scores in enumerate([base, *after]):
            gains[number].append((scores - base).reshape(-1, whole["settings"]["report"]["seeds"]))
        kept.append(whole["best"]["round"])
    if not kept:
        return []
    chosen = [gains[best][place] for place, best in enumerate(kept)]
    cells = [_told(each) for each in gains[1:]]
    return [what, str(len(kept)), *cells, ", ".join(map(str, kept)), _told(chosen)]


def _scores(path: Path) -> Tensor:
    """(videos,) the mean true reward, NaN where a sample failed."""
    columns = read_manifest(path)["scores"].values()
    return torch.tensor([[float("nan") if each is None else each for each in column] for column in columns]).mean(dim=0)


def _told(gains: list[Tensor]) -> str:
    found = paired_bootstrap(
        torch.cat(gains, dim=1), resamples=RESAMPLES, generator=generator_from(0, "rounds", "evidence")
    )
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


if __name__ == "__main__":
    main()

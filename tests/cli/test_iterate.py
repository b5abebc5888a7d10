"""`reelign iterate`: what it would do, and that it waits for people."""

from __future__ import annotations

from pathlib import Path

from cli.process import reelign, refusal, succeed
from cli.workspaces import HELD_OUT, make

ROUNDS = ("rounds=1", "selection.prompts=selection.txt", "judge.judge=people", "people=2")
SETTINGS = """
generate: {candidates: 3, num_inference_steps: 1, num_frames: 5}
iterate:
  selection: {scorer: spriteworld-panel, seeds: 1}
  report: {scorer: ''}
"""


def test_it_says_what_it_would_do_and_waits_for_people(tmp_path: Path) -> None:
    workspace = make(tmp_path, settings=SETTINGS)
    (tmp_path / "selection.txt").write_text("a blue ring moves left\na green square moves up\n")
    told = succeed("iterate", "-w", workspace, *ROUNDS, "--dry-run", folder=tmp_path)
    assert "9 videos (3 prompts x 3), judged by people; dpo" in told
    assert "2 people are asked about 9 pairs a round" in told
    assert not (workspace / "runs" / "iterate").exists()
    waits = reelign("iterate", "-w", workspace, *ROUNDS, folder=tmp_path)
    assert waits.code == 3, waits.err
    assert "round 1 waits for people: 9 of 9 questions" in waits.out
    assert f"reelign annotate -w {workspace} adapter=''" in waits.out
    changed = reelign("iterate", "-w", workspace, *ROUNDS, "min_gain=0.1", folder=tmp_path)
    assert "settings.min_gain: 0.0 then, 0.1 now" in refusal(changed)
    (tmp_path / "selection.txt").write_text(HELD_OUT[0] + "\n" + "a red square moves right\n")
    shared = reelign("iterate", "-w", workspace, *ROUNDS, "run=other", folder=tmp_path)
    assert "in another split" in refusal(shared)

"""`reelign export` and `reelign import` of judgements: every format leaves one workspace and enters another."""

from __future__ import annotations

from pathlib import Path

import pytest

import reelign.stages  # here once, not in the process of every command
from annotate.projects import fill
from cli.process import reelign, refusal, succeed
from reelign.records import Judgement, Workspace
from reelign.records.exchange.record_files import RECORD_FORMATS, SUFFIXES

JUDGED = [("ann", "a", "clearly"), ("bob", "b", "slightly"), ("cem", "a", None)]


@pytest.fixture
def judged(tmp_path: Path) -> Workspace:
    workspace = fill(Workspace.create(tmp_path / "here", model="tiny/wan"), prompts=2, candidates=2)
    pair = {"video_a": "v1-0", "video_b": "v1-1", "dimension": "VQ", "judge_version": "1"}
    workspace.add_judgements(
        Judgement(**pair, judge=judge, verdict=verdict, strength=strength) for judge, verdict, strength in JUDGED
    )
    workspace.withdraw(workspace.judgements()[-1])
    return workspace


@pytest.mark.parametrize("format", RECORD_FORMATS)
def test_every_format_out_and_in(judged: Workspace, tmp_path: Path, format: str) -> None:
    out = f"judgements{SUFFIXES.get(format, '')}"  # type: ignore[call-overload]
    told = succeed("export", out, "-w", "here", "--format", format, folder=tmp_path)
    assert told.startswith("1 judged pairs" if format == "videoreward" else "4 judgements")
    Workspace.create(tmp_path / "there", model="tiny/wan")
    given = ("--judge", "team") if format == "videoreward" else ()
    assert "judgements added" in succeed("import", out, "-w", "there", *given, folder=tmp_path)
    assert succeed("import", out, "-w", "there", *given, folder=tmp_path).startswith("0 judgements")
    there = Workspace.open(tmp_path / "there")
    if format == "videoreward":
        assert [(each.judge, each.verdict) for each in there.judgements()] == [("team", "tie")]
    else:
        assert [each.key for each in there.judgements(history=True)] == [
            each.key for each in judged.judgements(history=True)
        ]
        assert {each.judge for each in there.judgements()} == {"ann", "bob"}


def test_what_is_no_record_is_refused(judged: Workspace, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("nothing")
    (tmp_path / "other.json").write_text("{}")
    for words, expected in (
        (("import", "nowhere", "-w", "here", "--format", "csv"), "there is nothing at nowhere"),
        (("import", "list.txt", "-w", "here"), "no record of judgements that is known"),
        (("import", "other.json", "-w", "here"), "no list but dict"),
        (("export", "x", "-w", "here", "--format", "parqet"), "Did you mean 'parquet'?"),
    ):
        assert expected in refusal(reelign(*words, folder=tmp_path))


def test_a_teams_workspace_is_made_by_its_url(tmp_path: Path, postgres) -> None:
    url = postgres.new_database()
    (tmp_path / "prompts.txt").write_text("a red square moves right\n")
    succeed("init", "team", "--prompts", "prompts.txt", "--database", url, folder=tmp_path)
    assert not (tmp_path / "team" / "reelign.db").exists()
    assert Workspace.open(tmp_path / "team").url.get_backend_name() == "postgresql"
    told = refusal(reelign("init", "other", "--database", "mysql://host/x", folder=tmp_path))
    assert "a team's database is PostgreSQL" in told

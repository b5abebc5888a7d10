"""`reelign judge`."""

from __future__ import annotations

from pathlib import Path

from reelign.cli.options import Settings, WorkspaceOption, layers


def judge(settings: Settings = None, workspace: WorkspaceOption = Path(".")) -> None:
    """Ask a judge, or a panel of them, about the candidates of every prompt.

    Example: `reelign judge -w wan judge=my_package.judges:careful`

    A reward judges as `judge=reward:NAME`, with `reward.tie=0.1` and what else `reelign schema judge` shows; a critic
    as `judge=critic:NAME`, with `critic.server.url=http://127.0.0.1:8000/v1`, `critic.votes=3` and the like.
    """
    from reelign import stages

    done = stages.judge(workspace, layers=layers(settings))
    print(f"{done.made} judgements made, {done.already_there} were there")
    for sentence in (*done.asked, *done.unscored):
        print(sentence)

"""`reelign critic evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import FormatOption, Settings, layers


def evaluate(
    critic: Annotated[
        str,
        typer.Argument(help="A critic's name, a trained critic's folder, package.module:object, or a server's URL."),
    ],
    settings: Settings = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of judged pairs, such as videogen-rewardbench.csv or GenAI-Bench.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="A workspace, for its own judgements.")
    ] = None,
    format: FormatOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for answers and results; by default feedback/critic-NAME, in the workspace."),
    ] = None,
) -> None:
    """Calibrate a critic against people: accuracy on pairs and single videos, position bias, consistency, prompts.

    Example: `reelign critic evaluate qwen2.5-vl-7b -w wan split=held_out critic.temperature=0.7 ask.probes=50`
    """
    from reelign import critic_stages

    report, folder = critic_stages.measure_critic(
        critic, data=data, workspace=workspace, format=format, out=out, layers=layers(settings)
    )
    print(f"{report.critic} (version {report.version}) against {report.source}, read as {report.format}")
    print(f"{report.questions} questions; now {report.tally}")
    for reason, count in report.left_out.items():
        print(f"left out: {count} x {reason}")
    if report.unmatched:
        print(f"nothing of the critic answers for {', '.join(report.unmatched)}")
    for table in report.tables:
        print(f"\n{table.text()}")
    print(f"\nwritten to {folder}: answers.jsonl, critic.json, critic.md")

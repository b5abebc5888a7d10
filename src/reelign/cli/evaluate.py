"""`reelign evaluate`."""

from __future__ import annotations

from pathlib import Path

from reelign.cli.options import GuideOption, LatentRewardOption, Settings, WorkspaceOption, guide_layers


def evaluate(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    guide: GuideOption = None,
    latent_reward: LatentRewardOption = None,
) -> None:
    """Compare base and aligned on held-out prompts with the same seeds.

    With `--guide` what is compared is the run's videos, or the base's with `run=`, without and with that guidance.

    Example: `reelign evaluate -w wan run=align seeds=4 scorer=my_package.rewards:score`
    """
    from reelign import stages
    from reelign.evaluation.report import headline

    done = stages.evaluate(workspace, layers=guide_layers(settings, guide, latent_reward))
    print(headline(done.comparison, done.what))
    for name, each in done.comparison.dimensions.items():
        print(f"  {name}: {each.base:.3f} -> {each.aligned:.3f}  {each.gain:+.3f} [{each.low:+.3f}, {each.high:+.3f}]")
    for name, (base, aligned) in done.measures.items():
        print(f"  {name}: {base:.3f} -> {aligned:.3f}")

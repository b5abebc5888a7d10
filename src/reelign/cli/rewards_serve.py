"""`reelign rewards serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from reelign.cli.options import options
from reelign.errors import ReelignError


def serve(
    reward: Annotated[str, typer.Argument(help="A reward's name, or package.module:object.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTIONS.yaml] [key=value]...", help="The reward's options, such as model=FOLDER."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine a token is asked for.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8500,
    token: Annotated[
        str, typer.Option(envvar="REELIGN_REWARDS_TOKEN", help="What clients must know; made up where needed.")
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Videos in one call of the reward.")] = 8,
    queue: Annotated[int, typer.Option(min=1, help="Videos that may wait; more are answered with 429.")] = 64,
    cache: Annotated[int, typer.Option(min=0, help="Videos whose scores are kept.")] = 10_000,
    request_mb: Annotated[int, typer.Option(min=1, help="The largest request, MiB.")] = 512,
) -> None:
    """Serve a reward over HTTP, so that it may live in an environment of its own; use it by its URL.

    Example: `reelign rewards serve videoreward --port 8500 device=cuda`
    """
    try:
        from reelign.rewards.serving import RewardServer, ServeSettings
    except ModuleNotFoundError as error:
        raise ReelignError(
            f"Serving a reward needs the package {error.name}.", "pip install 'reelign[serve]'"
        ) from error
    from reelign.rewards import open_reward

    files, settings = options(words)
    if files:
        raise ReelignError(f"{files[0]!r} is no option of the reward.", "Write options as key=value.")
    wanted = ServeSettings(
        host=host,
        port=port,
        token=token,
        batch_size=batch_size,
        queue=queue,
        cache=cache,
        request_mb=request_mb,
        waiting_mb=max(4 * request_mb, 2048),
    )
    server = RewardServer(open_reward(reward, **settings), wanted)
    scored = server.reward
    print(f"{scored.name} (version {scored.version}) scores {', '.join(scored.dimensions)}")
    print(f"use it as  {server.address}")
    if server.token:
        print(f"token      {server.token}")
    print("Ctrl-C ends it; what is being scored then is still answered.", flush=True)
    server.run()

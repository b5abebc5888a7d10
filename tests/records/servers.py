"""A real PostgreSQL on loopback, in a folder of its own, for as long as the tests run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

WHAT_TO_INSTALL = (
    "The records are tested on PostgreSQL too, and there is none: run tools/system_packages, or install it yourself, "
    "for example: sudo apt-get install postgresql"
)
# The shell reads from the tests, and reads the end however they end: then it stops the server and cleans up. Nothing
# in the folder outlives the tests, so nothing waits for the disk.
SERVE = """
"$1/initdb" -D data -U reelign -A trust -E UTF8 -N && {
    "$1/postgres" -D data -c listen_addresses=127.0.0.1 -c port="$2" -c unix_socket_directories= -c fsync=off &
    cat
    kill -QUIT $!
    wait
}
rm -rf data
"""
START_S = 120


class Postgres:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.url = f"postgresql://reelign@127.0.0.1:{port}/postgres"

    def new_database(self) -> str:
        """The URL of a fresh, empty place: a schema, which is made a hundred times faster than a database."""
        name = f"w{uuid.uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{name}"')
        return f"{self.url}?options=-csearch_path%3D{name}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Made, started, stopped and removed; as another user where the tests run as root, which PostgreSQL refuses."""
    owner = "nobody" if os.geteuid() == 0 else None
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="reelign-postgres-") as folder:
        if owner:
            shutil.chown(folder, owner)
        log = Path(folder) / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                ["sh", "-c", SERVE, "sh", str(_programs()), str(port)],
                cwd=folder,
                user=owner,
                extra_groups=[] if owner else None,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        try:
            postgres = Postgres(port)
            _wait_for(postgres, server, log)
            yield postgres
        finally:
            server.communicate()


def _programs() -> Path:
    """Debian keeps the server's programs off the path, by version."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if not found:
        raise RuntimeError(WHAT_TO_INSTALL)
    return Path(found).resolve().parent


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(postgres: Postgres, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(postgres.url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()}") from None
            time.sleep(0.1)

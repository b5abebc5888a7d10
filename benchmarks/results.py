"""The numbers behind the tables of docs/evidence.md, study by study: kept in the repository, and taken out again.

    python benchmarks/results.py keep watch FOLDER      # of a study or a part of one, into results/watch.tar.xz
    python benchmarks/results.py unpack watch FOLDER    # into a new folder

Of a study's folder every score, loss and cost is kept, and no video, weight or cache. In an unpacked one the study's
script writes its table with `--table-only`, passes over the arms that are evaluated, and runs those that are not.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from pathlib import Path

from reelign.errors import ReelignError
from reelign.files import whole

RESULTS = Path(__file__).parent / "results"
SUFFIXES = (".json", ".jsonl")
LEFT_OUT = ("cache", "checkpoints", "videos")
"""Folders that a run makes again, or that are of use only to go on with its training. So are those with weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keep", "unpack"))
    parser.add_argument("study", help="names the archive")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    archive = RESULTS / f"{given.study}.tar.xz"
    try:
        if given.what == "keep":
            print(f"{keep(given.folder, archive)} files in {archive}, {archive.stat().st_size / 1024:.0f} kB")
        else:
            print(f"{unpack(archive, given.folder)} files in {given.folder}")
    except ReelignError as error:
        sys.exit(str(error))


def keep(folder: Path, archive: Path) -> int:
    """Put a study's numbers into an archive, in place of what it held; equal numbers give equal bytes.

    Raises:
        ReelignError: there are none.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    inside = [
        path
        for path in paths
        if not set(LEFT_OUT) & set(path.relative_to(folder).parts) and not any(path.parent.glob("*.safetensors"))
    ]
    if not inside:
        raise ReelignError(f"{folder} holds no numbers.", "Name the folder that the study's script was given.")
    with whole(archive) as beside, tarfile.open(beside, "w:xz", preset=9) as tar:
        for path in inside:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    return len(inside)


def unpack(archive: Path, folder: Path) -> int:
    """Take them out, into a folder that does not exist yet.

    Raises:
        ReelignError: there is no such archive, or something is where the folder shall be.
    """
    if not archive.exists():
        known = ", ".join(sorted(path.name.removesuffix(".tar.xz") for path in archive.parent.glob("*.tar.xz")))
        raise ReelignError(f"No numbers are kept as {archive.name}.", f"There are {known or 'none yet'}.")
    if folder.exists():
        raise ReelignError(f"{folder} exists already.", "Name a new folder.")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        tar.extractall(folder, filter="data")
    return len(names)


if __name__ == "__main__":
    main()

"""`metarl pretrained`: lists runs with weights that ship with metarl, or that somebody sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from metarl.commands.listing import table
from metarl.config.command_line import once, take, take_switch, wants_help
from metarl.errors import UserError
from metarl.runs import archives
from metarl.runs.pretrained import PREFIX, Pretrained, described, shipped
from metarl.text import say

DESCRIPTION = """usage: metarl pretrained [--json]
       metarl pretrained --from FOLDER|FILE.tar.gz|FILE.zip [--out DIR] [--json]

Lists the trained runs that ship with metarl. `pretrained:NAME` stands for one of them wherever a
command takes a run, as in `metarl evaluate pretrained:halfcheetah-vel-maml2017`. They are only
read: an evaluation goes to --out, or else to the folder ./evaluation-NAME.

--from lists the runs in a folder. An archive is unpacked first, into DIR or else into
./runs/FILE; links, paths out of it and more than 1 GiB are refused. No URL is taken."""


def main(argv: Sequence[str]) -> None:
    if wants_help(argv):
        say(DESCRIPTION)
        return
    words = once(argv)
    as_json, place, out = take_switch(words, "--json"), take(words, "--from"), take(words, "--out")
    if words:
        raise UserError(f"{words[0]!r} belongs to nothing; `metarl pretrained --help` says more")
    if out and not place:
        raise UserError("--out is for an archive, --from FILE.tar.gz or FILE.zip")
    root = _given(place, out) if place else shipped()
    runs = described(root)
    if not runs:
        where = f"{root} has" if place else "this copy of metarl has"
        raise UserError(f"{where} no run with weights: no config.yaml beside checkpoints")
    rows = [_row(run, shipped=not place) for run in runs]
    say(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else table(rows))
    if not as_json:
        first = f"{PREFIX}{runs[0].name}" if not place else str(runs[0].path)
        say(f"next: metarl evaluate {first}")


def _given(place: str, out: str | None) -> Path:
    """Returns the folder of a user's own runs, unpacked where it is an archive.

    Raises:
        UserError: where there is neither.
    """
    if "://" in place:
        raise UserError(f"--from is {place!r}; fetch the file yourself, then give its path")
    path = Path(place).expanduser()
    if path.is_dir():
        if out:
            raise UserError(f"{path} is a folder, which needs no --out: its runs stay there")
        return path
    if not path.exists():
        raise UserError(f"--from is {place!r}, and there is no such folder or file")
    if not archives.is_archive(path):
        raise UserError(f"--from is {place!r}; give a folder, or {', '.join(archives.ENDINGS)}")
    stem = path.name
    for ending in archives.ENDINGS:
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    target = Path(out).expanduser() if out else Path("runs", stem or "unpacked")
    return archives.unpacked(path, target)


def _row(run: Pretrained, shipped: bool) -> dict[str, object]:
    return {
        "name": run.name if shipped else str(run.path),
        "agent": run.agent,
        "env": run.env,
        "iterations": run.iterations,
        "learned from": run.experience,
        "adaptation": run.adapted,
        "weights": f"{run.bytes / 1024:.0f} KiB",
    }

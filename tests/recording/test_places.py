from __future__ import annotations

from pathlib import Path

from metarl.recording.places import facts_of, films_of, strip_of


def test_films_of_a_run(tmp_path: Path):
    """Regular films alone: no links, nothing hidden or half written, no other files."""
    assert films_of(tmp_path) == []
    films = tmp_path / "films"
    films.mkdir()
    for name in ("b.gif", "a.mp4", "b.png", "b.json", ".c.gif.tmp", ".hidden.gif"):
        (films / name).write_bytes(b"x")
    (films / "folder.gif").mkdir()
    (films / "link.gif").symlink_to(films / "b.gif")
    assert [path.name for path in films_of(tmp_path)] == ["a.mp4", "b.gif"]
    assert strip_of(films / "b.gif").name == "b.png"
    assert facts_of(films / "b.gif").name == "b.json"


def test_a_linked_folder_is_no_runs(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.gif").write_bytes(b"x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "films").symlink_to(elsewhere)
    assert films_of(tmp_path / "run") == []

"""Characters of matplotlib's fonts: what is drawn, which are classes, and the file that is kept."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import families, glyph_cache, glyph_list, glyphs
from metarl.envs.supervised import glyph_drawing as drawing
from metarl.envs.validation import with_validation
from metarl.errors import UserError

SOME = [ord("A"), 0x0436, 0x1403]
"""A Latin, a Cyrillic and a Canadian letter."""


@pytest.fixture(scope="module")
def tasks():
    return families.build(FewShotEnvConfig("glyphs", shots=5, queries=15))


def classes_of(tasks, split: str) -> set[str]:
    drawn = tasks.sample(400, np.random.default_rng(0), split)
    return {name for task in drawn for name in task["classes"]}


def script_of(name: str) -> str:
    return name.partition("/")[0]


def test_splits_share_no_script(tasks):
    """Nor do the parts of a search, which sees no test script."""
    part = with_validation(tasks)
    found = {
        "train": classes_of(part, "train"),
        "validation": classes_of(part, "test"),
        "test": classes_of(tasks, "test"),
    }
    scripts = {split: {script_of(name) for name in names} for split, names in found.items()}
    assert scripts["test"] == set(glyph_list.TEST)
    assert scripts["validation"] == set(glyph_list.VALIDATION)
    assert scripts["train"] == set(glyph_list.read()) - scripts["test"] - scripts["validation"]
    assert {script_of(x) for x in classes_of(tasks, "train")} == (
        scripts["train"] | scripts["validation"]
    )


def test_there_are_classes_enough(tasks):
    listed = glyph_list.read()
    characters = [c for some in listed.values() for c in some]
    assert len(set(characters)) == len(characters) >= 1500
    assert sum(len(listed[script]) for script in glyph_list.TEST) >= 200
    assert all(len(some) >= 10 for some in listed.values())
    assert tasks.inputs.shape == (20 * len(characters), 1, 28, 28)


def test_images_are_whole_and_differ(tasks):
    """Ink everywhere, none beyond the border, and no image twice."""
    pixels = tasks.inputs[:, 0]
    assert (pixels.max(axis=(1, 2)) > 100).all()
    edge = np.concatenate([pixels[:, [0, -1]], pixels[:, :, [0, -1]].swapaxes(1, 2)], axis=1)
    assert (edge.max(axis=(1, 2)) > 0).mean() < 0.01
    assert len({image.tobytes() for image in pixels}) > 0.999 * len(pixels)


def test_a_square_is_drawn_where_its_corners_are():
    """A square of 100 units, 14 pixels wide, moved by half a pixel to the right and up."""
    corners = np.array([[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]], float)
    square = drawing.Glyph(corners, np.array([1, 2, 2, 2, 79], np.uint8))
    image = drawing.Pen().fill(square, np.eye(2), np.array([0.5, 0.5]), 14.0).astype(float)
    assert image[10, 10] == 255
    assert image[10, 7] == pytest.approx(127.5, abs=1)
    assert image[10, 21] == pytest.approx(127.5, abs=1)
    assert image[6, 10] == pytest.approx(127.5, abs=1)
    assert image.sum() / 255 == pytest.approx(14**2, rel=0.01)


def test_the_parts_of_a_transformation():
    turn = drawing.transformation(90.0, 0.0, (1.0, 1.0))
    np.testing.assert_allclose(turn @ [1.0, 0.0], [0.0, 1.0], atol=1e-3)
    both = drawing.transformation(0.0, 0.5, (2.0, 3.0))
    np.testing.assert_allclose(both @ [1.0, 1.0], [2.0 + 0.5 * 3.0, 3.0])


def test_a_character_is_drawn_alike_alone_and_among_others():
    alone = glyph_cache.drawn(SOME[1:2])
    np.testing.assert_array_equal(glyph_cache.drawn(SOME)[1:2], alone)
    assert len({image.tobytes() for image in alone[0]}) == drawing.IMAGES


def test_nothing_that_is_drawn_needs_a_display_or_a_backend():
    code = (
        "import sys; from metarl.envs.supervised import glyph_cache as g;"
        f"print(g.digest(g.drawn({SOME})));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    env = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"MPLBACKEND": "tkagg"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == glyph_cache.digest(glyph_cache.drawn(SOME))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_images_come_from_the_file_once_they_are_drawn(cache, monkeypatch):
    first = glyph_cache.images(SOME)
    (file,) = cache.iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    monkeypatch.setattr(drawing, "images", None)  # nothing is drawn again
    np.testing.assert_array_equal(glyph_cache.images(SOME), first)
    assert glyph_cache.digest(first) == glyph_cache.digest(glyph_cache.images(SOME))
    assert file.name.startswith("glyphs-")


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "empty", "folder", "another's"])
def test_a_damaged_file_is_made_again(how, cache, capsys):
    first = glyph_cache.images(SOME)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    changed = {
        "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "cut": content[:-1],
        "longer": content + b"\0",
        "empty": b"",
    }
    if how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "another's":
        file.chmod(0o666)
    else:
        file.write_bytes(changed[how])
    np.testing.assert_array_equal(glyph_cache.images(SOME), first)
    assert f"{file} is not used" in capsys.readouterr().err
    if how != "folder":
        file.chmod(0o600)
        assert file.read_bytes() == content


def test_other_characters_or_another_drawing_have_another_file(cache, monkeypatch):
    glyph_cache.images(SOME)
    glyph_cache.images(SOME[:2])
    monkeypatch.setattr(glyph_cache, "FORMAT", 99)
    glyph_cache.images(SOME)
    assert len(list(cache.iterdir())) == 3


def test_a_place_that_cannot_be_written_costs_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "cache"))
    assert glyph_cache.images(SOME).shape == (3, 20, 28, 28)
    assert "are not kept; set METARL_CACHE" in capsys.readouterr().err


def test_two_processes_at_once_leave_one_whole_file(cache):
    code = f"from metarl.envs.supervised import glyph_cache as g; print(g.digest(g.images({SOME})))"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    assert said == {f"{glyph_cache.digest(glyph_cache.images(SOME))}\n".encode()}
    assert len(list(cache.iterdir())) == 1


def test_figures_are_of_these_images_where_the_versions_are_those(tasks):
    """Another version of matplotlib may draw other pixels, and a run says so."""
    same = glyph_cache.made_with() == glyphs.MADE_WITH
    drew = glyph_cache.digest(tasks.inputs) == glyphs.SHA256
    assert drew or not same
    assert any("drew other pixels" in line for line in tasks.notes) != drew


def test_matplotlib_without_its_fonts(tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"there is no .*DejaVuSans.ttf(.|\n)*pip install"):
        drawing.files()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ways": 300}, "the test split has 231 classes, and a task takes 300"),
        ({"ways": 1}, "env.ways is 1; a task needs at least 2"),
        ({"shots": 10, "queries": 11}, "has 20 examples, and a task takes 21 of each"),
        ({"rotations": "all"}, "env.rotations is 'all', and 'glyphs' has no use for it"),
        ({"path": "x"}, "env.path is 'x', and 'glyphs' has no use for it"),
    ],
)
def test_what_cannot_be_asked_for(given, said):
    with pytest.raises(UserError, match=said) as raised:
        families.build(FewShotEnvConfig(**{"name": "glyphs", "shots": 1, "queries": 1, **given}))
    assert len(str(raised.value).splitlines()) <= 3


def test_validation_scripts_can_be_too_few_for_the_ways():
    tasks = families.build(FewShotEnvConfig("glyphs", shots=1, queries=1, ways=200))
    with pytest.raises(UserError, match="validation scripts of glyphs have 196 classes"):
        with_validation(tasks)


def test_the_list_is_read_as_it_is_written():
    found = glyph_list.read()
    assert glyph_list.as_text(found) == glyph_list.FILE.read_text()


def choosing():
    file = Path(__file__).parents[3] / "scripts" / "choose_glyphs.py"
    spec = importlib.util.spec_from_file_location("choose_glyphs", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rule_tells_letters_apart_and_finds_those_that_look_alike():
    """Latin and Greek A, Cyrillic A; p turned is no d; i and l differ by a dot."""
    choose, faces = choosing(), drawing.faces()
    latin, greek, cyrillic, i, dotless, p, d = (
        ord(x) for x in ("A", "\u0391", "\u0410", "i", "\u0131", "p", "d")
    )
    characters = [latin, greek, cyrillic, i, dotless, p, d]
    found = choose.differences(characters, faces[:4])
    alike = {(a, b) for a in range(7) for b in range(a) if found[a, b] <= choose.ALIKE}
    assert alike == {(1, 0), (2, 0), (2, 1)}


def test_no_class_looks_like_another():
    """Compares a sample of the classes by the rule of scripts/choose_glyphs.py, over all faces."""
    choose, listed = choosing(), glyph_list.read()
    characters = [c for some in listed.values() for c in some[::40]]
    found = choose.differences(characters, drawing.faces())
    np.fill_diagonal(found, 1.0)
    assert found.min() > choose.ALIKE


def test_a_task_is_described_by_its_classes(tasks):
    (task,) = tasks.sample(1, np.random.default_rng(0), "test")
    assert tasks.describe(task).count("U+") == 5

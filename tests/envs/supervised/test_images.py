"""Images in folders, on small folders that the tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import images
from metarl.envs.supervised.images import folder, omniglot
from metarl.envs.supervised.picture import picture
from metarl.errors import UserError

EACH = 3
"""Images of a class."""


def env(path, name="images", **given):
    return FewShotEnvConfig(name, ways=2, path=str(path), **{"image_size": 4, **given})


def save(path: Path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)


@pytest.fixture
def animals(tmp_path):
    """4 x 4 gray images all of one brightness, 10 times the class plus the image's number."""
    for index, place in enumerate(("train/ape", "train/bee", "test/cat", "test/dog")):
        for number in reversed(range(EACH)):
            pixels = np.full((4, 4), 10 * index + number)
            save(tmp_path / place / f"{number}.png", pixels)
    return tmp_path


@pytest.fixture
def alphabets(tmp_path):
    """105 x 105 pixels of one bit each, as Omniglot's: white paper and a black square of ink, in
    another place for each character."""
    splits = {"images_background": ("Greek", "Latin"), "images_evaluation": ("Tengwar",)}
    for split, names in splits.items():
        for name in names:
            for number in (1, 2):
                pixels = np.full((105, 105), 255)
                pixels[:52, 52 * (number - 1) : 52 * number] = 0
                for copy in range(EACH):
                    place = tmp_path / split / name / f"character{number:02}" / f"0_{copy}.png"
                    save(place, pixels, "1")
    return tmp_path


def shown(episodes, *classes, count=EACH):
    """Every image of some classes, [classes, count, ...], darkest first."""
    task = {"classes": list(classes)}
    support, _ = episodes.draw([task], count, 0, np.random.default_rng(0))
    found = support.inputs[0].unflatten(0, (len(classes), count))
    order = found.flatten(2).mean(-1).argsort(1)
    return np.stack([row[o].numpy() for row, o in zip(found, order, strict=True)])


def test_a_folders_classes_are_its_folders(animals, rng):
    episodes = folder(env(animals), "")
    assert episodes.spec == ("images", (1, 4, 4), 2, True)
    for split, names in (("train", {"ape", "bee"}), ("test", {"cat", "dog"})):
        for task in episodes.sample(5, rng, split):
            assert set(task["classes"]) == names
    brightness = shown(episodes, "dog", "ape")[:, :, 0, 0, 0] * 255
    np.testing.assert_allclose(brightness, [[30, 31, 32], [0, 1, 2]], rtol=1e-6)
    assert episodes.notes == (
        "images: 12 images of 2 classes to train on and 2 to test on, as 1 x 4 x 4",
    )


def test_the_order_of_files_is_that_of_their_names(animals, monkeypatch):
    """Not that in which a file system lists them."""
    listed, found = Path.iterdir, []
    for backwards in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda p, b=backwards: sorted(listed(p), reverse=b))
            episodes = folder(env(animals), "")
        rng = np.random.default_rng(0)
        tasks = episodes.sample(5, rng)
        found.append((tasks, episodes.draw(tasks, 2, 1, rng)[0].inputs.tolist()))
    assert found[0] == found[1]


def test_omniglots_ink_is_one_on_paper_of_zero(alphabets, rng):
    episodes = omniglot(env(alphabets, "omniglot", image_size=28), "")
    assert episodes.spec == ("omniglot", (1, 28, 28), 2, True)
    trained = {name for task in episodes.sample(50, rng) for name in task["classes"]}
    assert trained == {f"{a}/character{n}" for a in ("Greek", "Latin") for n in ("01", "02")}
    (test,) = episodes.sample(1, rng, "test")
    assert set(test["classes"]) == {"Tengwar/character01", "Tengwar/character02"}
    left, right = shown(episodes, "Latin/character01", "Latin/character02")[:, 0, 0]
    for image, ink in ((left, np.s_[1:12, 1:12]), (right, np.s_[1:12, 16:26])):
        assert image[ink].min() > 0.95
        assert image.sum() == pytest.approx((28 * 52 / 105) ** 2, rel=0.02)


def test_the_published_split_of_omniglot_mixes_both_folders(alphabets, monkeypatch, rng):
    """As many characters for training as stated, the same ones each time; with their turns there
    are four times as many classes."""
    monkeypatch.setattr(images, "VINYALS_TRAINED", 4)
    vinyals, turned = (
        env(alphabets, "omniglot:vinyals"),
        env(alphabets, "omniglot:vinyals", rotations="all"),
    )

    def classes(config, split):
        drawn = omniglot(config, "vinyals").sample(200, np.random.default_rng(0), split)
        return {tuple(x) if isinstance(x, list) else x for task in drawn for x in task["classes"]}

    train, test = classes(vinyals, "train"), classes(vinyals, "test")
    assert (len(train), len(test), len(train & test)) == (4, 2, 0)
    assert train == classes(vinyals, "train")
    assert any(str(name).startswith("Tengwar") for name in train), "those of both folders"
    many = classes(turned, "train")
    assert {name for name, _ in many} == train
    assert len(many) == 16
    assert len(classes(turned, "test")) == 8


def test_the_published_split_needs_all_of_omniglot(alphabets):
    said = refused(lambda c, _: images.omniglot(c, "vinyals"), env(alphabets, "omniglot:vinyals"))
    assert "has 6 characters, and omniglot:vinyals trains on 1,200 and tests on at least 2" in said
    assert "take --env omniglot" in said


def test_images_are_brought_to_one_size(animals):
    save(animals / "test/cat/wide.jpg", np.full((20, 40), 200))
    assert folder(env(animals, image_size=6), "").spec.input_shape == (1, 6, 6)


def test_one_image_in_colour_makes_all_of_three_channels(animals):
    save(animals / "train/bee/0.png", np.full((4, 4, 3), [10, 90, 250]))
    episodes = folder(env(animals), "")
    assert episodes.spec.input_shape == (3, 4, 4)
    gray, colour = shown(episodes, "ape", "bee")[:, -1, :, 0, 0] * 255
    np.testing.assert_allclose(gray, [2, 2, 2], rtol=1e-6)
    np.testing.assert_allclose(colour, [10, 90, 250], rtol=1e-6)


def test_files_that_are_no_images_are_left_alone(animals):
    for place in ("README.md", "train/list.csv", "train/ape/Thumbs.db", "train/ape/.hidden.png"):
        (animals / place).write_text("text")
    (animals / "train/.cache").mkdir()
    assert shown(folder(env(animals), ""), "ape").shape == (1, EACH, 1, 4, 4)


def test_long_loading_shows_life(animals, monkeypatch, capsys):
    monkeypatch.setattr(images, "SECONDS", -1.0)
    folder(env(animals), "")
    assert capsys.readouterr().err.splitlines()[-1] == "images: 12 of 12 images read"


def refused(builder, config):
    with pytest.raises(UserError) as found:
        builder(config, "")
    return str(found.value)


def test_a_folder_of_another_depth_is_refused(animals, alphabets):
    expected = f"images are expected as {animals}/train/CLASS/*"
    assert refused(folder, env(animals / "train")).splitlines()[0] == (
        f"there is no folder {animals}/train/train; images are expected as "
        f"{animals}/train/train/CLASS/*"
    )
    (animals / "train/cow").mkdir()
    assert f"{animals}/train/cow has no image (.bmp, " in refused(folder, env(animals))
    (animals / "train/cow/calf").mkdir()
    assert refused(folder, env(animals)) == (
        f"{animals}/train/cow/calf is a folder where images should be; {expected}"
    )
    save(animals / "train/loose.png", np.zeros((4, 4)))
    assert refused(folder, env(animals)) == (
        f"{animals}/train/loose.png lies where a folder CLASS should be; {expected}"
    )
    (animals / "elsewhere").mkdir()
    (animals / "elsewhere/train").mkdir()
    said = refused(folder, env(animals / "elsewhere"))
    assert f"{animals}/elsewhere/train has no folder CLASS" in said
    (alphabets / "images_background/Cyrillic").mkdir()
    said = refused(omniglot, env(alphabets, "omniglot"))
    assert f"{alphabets}/images_background/Cyrillic has no folder CHARACTER" in said


def test_a_class_in_both_splits_is_refused(animals):
    save(animals / "test/bee/0.png", np.zeros((4, 4)))
    said = refused(folder, env(animals))
    assert said == f"{animals}: class 'bee' is in train and in test; leave it out of one"


def test_a_file_that_cannot_be_read_is_named(animals):
    whole = (animals / "train/ape/1.png").read_bytes()
    for content in (b"", b"no image", whole[:-30]):
        (animals / "train/bee/2.png").write_bytes(content)
        assert refused(folder, env(animals)).startswith(
            f"{animals}/train/bee/2.png cannot be read as an image ("
        )


def test_what_is_no_file_is_refused_before_it_is_hashed(animals):
    link = animals / "train/bee/9.png"
    for target, said in (("nowhere", "cannot be read: No such file"), ("/dev/zero", "no regular")):
        link.symlink_to(target)
        with pytest.raises(UserError, match=f"bee/9.png .*{said}"):
            images.files(env(animals))
        link.unlink()
    link.symlink_to("0.png")
    assert images.files(env(animals))["train/bee/9.png"] == link


def test_more_than_8_bits_are_refused(animals):
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    deep.save(animals / "train/bee/2.png")
    assert "bee/2.png has more than 8 bits in a channel (mode I;16)" in refused(
        folder, env(animals)
    )


INK = np.zeros((8, 8), np.uint8)
INK[:4, :4] = 255
"""Opaque where 255."""


def transparent(mode: str) -> Image.Image:
    """Black ink in a corner of transparent black, in one of the ways to say transparent."""
    black, alpha = Image.new("L", (8, 8), 0), Image.fromarray(INK)
    if mode in ("LA", "RGBA"):
        drawn = black.convert(mode[:-1])
        drawn.putalpha(alpha)
        return drawn
    if mode == "P":  # one colour of a palette is transparent
        drawn = Image.fromarray(np.where(INK > 0, 0, 1).astype(np.uint8)).convert("P")
        drawn.putpalette([0, 0, 0, 0, 0, 0])
    else:
        drawn = Image.fromarray(np.where(INK > 0, 0, 9).astype(np.uint8))
    drawn.info["transparency"] = 1 if mode == "P" else 9
    return drawn


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L"])
def test_transparent_images_stand_on_white_paper(tmp_path, mode):
    file = tmp_path / "glyph.png"
    transparent(mode).save(file, transparency=transparent(mode).info.get("transparency"))
    found = picture(file, 8, gray=False)
    assert np.array_equal(found[0], np.where(INK > 0, 0, 255))


def test_photographs_are_turned_as_a_viewer_turns_them(tmp_path):
    file, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6  # the top is at the right
    Image.fromarray(INK).save(file, exif=exif)
    assert np.array_equal(picture(file, 8, gray=False)[0], np.rot90(INK, -1))


def test_equal_images_in_two_classes_are_told(animals):
    assert not [x for x in folder(env(animals), "").notes if "warning" in x]
    save(animals / "train/bee/0.png", np.full((4, 4), 1))  # as the second ape
    (said,) = [x for x in folder(env(animals), "").notes if "warning" in x]
    assert "1 of 12 images are" in said
    assert "ape/1.png" in said
    assert "bee/0.png" in said

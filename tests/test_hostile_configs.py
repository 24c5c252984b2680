"""Configs and command lines that hold anything: an error that a user can mend, soon, in bounds."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml

from metarl.config import yaml_text
from metarl.config.command_line import once, read_flags
from metarl.config.files import read_mapping
from metarl.errors import UserError
from metarl.experiments.assembly import load_config
from metarl.experiments.presets import preset

BOMB = "a: &a [x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"
REFUSED = {
    BOMB: "line 1: anchors and aliases are not read",
    "a: *b": "line 1: anchors and aliases",
    "seed: 1\nseed: 2": "line 2: the key 'seed' comes twice",
    "env: {name: a, name: b}": "line 1: the key 'name' comes twice",
    "[" * 2000: "line 1: nested deeper than 20 levels",
    "- " * 2000: "line 1: nested deeper than 20 levels",
    "a: [" + "1," * 3000 + "]": "line 1: more than 2,000 values",
    '!!int "a"': "line 1: the tag 'tag:yaml.org,2002:int' is not read",
    "a: !!python/object/apply:os.system [ls]": "the tag 'tag:yaml.org,2002:python/object",
    "a: !!binary aGk=": "the tag",
    "? [a]\n: 1": "line 1: a key is a list or a map",
    "1: a": "line 1: the key '1' is no text",
    "null: a": "line 1: the key 'null' is no text",
    "{<<: {a: 1}}": "line 1: merging by << is not read",
    "a: 2020-01-01": "line 1: '2020-01-01' is a date; in quotes it is text",
    "a: =": "line 1: '=' has no value",
    "a: 0x_": "line 1: '0x_' has no value",
    "seed: " + "9" * 5000: "line 1: a text of 5,000 characters",
    "seed: " + "9" * 401: "line 1: a whole number of 401 characters is too large",
    "a: 1\n---\nb: 1": "line 2: a second document begins here",
    "a: \x00": "is no YAML: unacceptable character #x0000",
    "a: 'b": "is no YAML",
    "a: 1\n" + "#" * 70_000: "has more than the 65,536 bytes",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_yaml_that_is_refused(text: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(UserError, match=re.escape(REFUSED[text])) as caught:
        read_mapping(file)
    assert str(caught.value).startswith(str(file))
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["", "# iterations: 3\n", "---\n", "{}"])
def test_a_file_without_settings_starts_no_run_of_the_defaults(text: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml has no settings; put back a copy"):
        load_config(file)
    assert load_config(file, preset("point-goal")) == preset("point-goal")


def test_bytes_that_are_no_utf8_and_files_that_are_none(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    for content in ("a: 1".encode("utf-16"), b"\xff"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is no UTF-8 text"):
            read_mapping(file)
    for place in (Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="no regular file"):
            read_mapping(place)
    with pytest.raises(UserError, match=r"none\.yaml cannot be read"):
        read_mapping(tmp_path / "none.yaml")


def test_values_are_those_of_yamls_own_reader():
    text = (
        "a: [1, -2, 0x1f, 017, 1_000, 1.5, .inf, 1e-5, true, no, ~, '1', \"\\uDCFF\", x y]\n"
        "b: {c: {}, d: [], 'e': |\n  two\n  lines\n}"
    ).replace("'e': |\n  two\n  lines\n", "'e': \"two\\nlines\"")
    assert yaml_text.parsed(text, "text") == yaml.safe_load(text)
    assert yaml_text.parsed("", "text") is None


NUMBERS = {
    "seed: 9223372036854775808": "seed is 9223372036854775808; it must be at most 92233720368",
    "workers: 100000": "workers is 100000; it must be at least 0 and at most 1024",
    "worker_timeout: 1e300": "worker_timeout is 1e+300; it must be at least 0.001 and",
    "worker_timeout: 1e-9": "worker_timeout is 1e-09; it must be at least 0.001",
    "agent: {policy: {hidden: [" + "8," * 101 + "]}}": "agent.policy.hidden has 101 items",
    'run_dir: "a\\0b"': "run_dir is 'a\\\\x00b', no name or path: it holds a zero byte",
    'run_dir: "\\uD800"': "run_dir is '\\\\ud800', no text",
    "run_dir: ~nobody-here/x": "run_dir is '~nobody-here/x', no name or path: Could not determine",
    '"\\e[31mred": 1': "'\\\\x1b[31mred' is no config key",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_values_out_of_bounds(text: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    expected = NUMBERS[text].replace("\\\\", "\\")
    with pytest.raises(UserError, match=re.escape(expected)):
        load_config(file, preset("point-goal"))


@pytest.mark.parametrize("value", ["9" * 401, "9" * 4000, "-" + "9" * 401, "9223372036854775808"])
def test_long_numbers_on_the_command_line(value: str):
    with pytest.raises(UserError, match=r"seed is .*; it must be at"):
        read_flags(["--seed", value], preset("point-goal"))


@pytest.mark.parametrize("argument", ["9" * 5000, "a\0b", "\ud800", "~nobody-here/runs"])
def test_arguments_that_are_no_text(argument: str):
    with pytest.raises(UserError, match="an argument"):
        once(["--run-dir", argument])

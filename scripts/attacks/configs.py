"""Attack: configs that are wrong, or made to take time and memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attacks.children import Ended, call, in_lanes
from attacks.result import Effort, Result, counted

LONGEST_S, MOST_MB = 3.0, 500.0
"""Limits of a command that refuses what it was given."""


def hostile_configs(effort: Effort, place: Path) -> Result:
    """Files given with --config."""
    cases = effort.some(_shuffled(list(_all())), effort.configs)
    answers = in_lanes(cases, partial(_given, "train", ["point-goal"]), place)
    ended = [each for each in answers if each is not None]
    peak = max((mb for _, mb, _ in ended), default=0.0)
    slowest = max((seconds for *_, seconds in ended), default=0.0)
    return counted(
        "a hostile config: exit 2, no traceback, under 3 s and 500 MB",
        [None if each is None else each[0] for each in answers],
        f"at most {slowest:.1f} s, {peak:.0f} MB",
    )


def _shuffled(items: list[Any]) -> list[Any]:
    random.Random(1).shuffle(items)
    return items


def _given(
    door: str, words: list[str], case: tuple[str, bytes], folder: Path
) -> tuple[str, float, float]:
    name, content = case
    file = folder / "config.yaml"
    file.write_bytes(content)
    argv = [*words, "--config", file, "--run-dir", folder / "run"]
    ended = call(door, argv, folder / "log", longest=20)
    return judged(name, ended), ended.peak_mb, ended.seconds


def judged(name: str, ended: Ended, codes: tuple[int, ...] = (2,)) -> str:
    """Returns what is wrong with the end of a command that was given something hostile."""
    said = ended.said.strip()
    if "Traceback" in said:
        return f"{name}: a traceback: {said.splitlines()[-1][:200]}"
    if ended.code not in codes:
        return f"{name}: exit {ended.code}: {said[-200:]}"
    if ended.code and (not said or len(said) > 4000):
        return f"{name}: a message of {len(said)} characters"
    if ended.seconds > LONGEST_S or ended.peak_mb > MOST_MB:
        return f"{name}: {ended.seconds:.1f} s, {ended.peak_mb:.0f} MB"
    if any(ord(char) < 32 and char not in "\n\t" for char in said):
        return f"{name}: control characters in the message"
    return ""


def _all() -> Iterator[tuple[str, bytes]]:
    for name, text in _made_by_hand():
        yield name, text if isinstance(text, bytes) else text.encode()
    for key, value in _wrong_values():
        yield f"{key}: {value[:40]}", _nested(key, value).encode()


def _made_by_hand() -> Iterator[tuple[str, str | bytes]]:
    """Yields files that are no config."""
    for levels in (4, 9, 30):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
        yield f"an alias bomb of {levels} levels", "\n".join(lines)
        yield (
            f"a bomb of maps of {levels} levels",
            "\n".join(
                ["a0: &a0 {x: 1}"]
                + [f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}}}" for i in range(1, levels)]
            ),
        )
    yield "a list in itself", "iterations: &a [*a]"
    yield "a merge bomb", "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n<<: *b\n"
    for depth in (30, 1000, 20_000, 200_000):
        for opening, closing in ("[]", "{}"):
            start = "iterations: " + (opening if opening == "[" else "{a: ") * depth
            yield f"{depth} of {opening}", start + closing * depth
            yield f"{depth} of {opening}, left open", start
        yield (
            f"{depth} levels of blocks",
            "".join(f"{' ' * i}a{i}:\n" for i in range(min(depth, 700))),
        )
        yield f"{depth} dashes", "iterations: " + "- " * depth
        yield f"{depth} indicators", "? " * depth
    for tag in (
        "!!int 'a'", "!!float 'x'", "!!bool 'x'", "!!null 'x'", "!!binary 'x'", "!!binary AA==",
        "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp 'x'", "!!timestamp 2026-01-01",
        "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/tuple [1]",
        "!!str [1]", "!!seq x", "!!map x", "!unknown x", "!<tag:yaml.org,2002:int> x", "!! x", "!",
        "2026-01-01", "2026-13-45", "2026-01-01 10:10:10", "0b", "0x", "0o8", "1:99:99",
        "0x" + "f" * 5000, "9" * 4301, "-" + "9" * 10_000, "1:" * 3000 + "1", "0" * 5000 + "8",
        "1e999", "-.inf", ".nan", "1e-999", "0b" + "1" * 50_000,
    ):  # fmt: skip
        yield f"iterations: {tag[:30]}", f"iterations: {tag}"
        yield f"lr: {tag[:30]}", f"agent: {{inner: {{lr: {tag}}}}}"
        yield f"seed: {tag[:30]}", f"seed: [{tag}]"
    for key in ("iterations", "agent", "env", "seed"):
        yield f"{key} twice", f"{key}: 1\n{key}: 2\n"
    yield "a key twice, deep", "agent:\n  inner:\n    lr: 0.1\n    lr: 100.0\n"
    yield "a key twice in one line", "agent: {inner: {lr: 0.1, lr: 100.0}}"
    for text in (
        "- 1", "1", "x", "'", '"\\x', "[", "{", "a: b: c", "\titerations: 1",
        "%YAML 9.9\n---\na: 1",
        "--- a\n--- b\n", "iterations: 1\n---\niterations: 2\n", "? [a, b]\n: 1", "? {a: 1}\n: 1",
        "1: 2", "null: 1", "true: 1", "1.5: x", "2026-01-01: x", "~: ~", "'': 1", "' ': 1",
        "iterations: !!int", "run_dir: \"a\\0b\"", "run_dir: [a]", "run_dir: {a: 1}", "\"\\0\": 1",
        "\"\\x1b[31m\": 1", "iterations: \"\\x1b[31mred\"", "agent: {name: \"\\x1b]0;title\\a\"}",
        "env: {name: \"../../x\"}", "env: {name: \"os:system\"}", "agent: {name: \"os:system\"}",
        "agent: {name: \"posix:fork\"}", "env: {name: \"x\\ny\"}", "env: {name: \"ml1:../../x\"}",
        "env: {name: 'metaworld:|'}", "env: {name: 'ml1:'}", "env: {name: 'bandit:0'}",
        "env: {name: 'bandit:9999999999999'}", "env: {name: 'bandit:-1'}",
        "env: {name: 'bandit:x'}",
        "agent: []", "agent: 1", "agent: {name: []}", "agent: {inner: 1}", "env: 1", "env: {a: 1}",
        "sampling: [1]", "evaluation: null", "agent: null", "env: null", "<<: 1", "<<: {a: 1}",
        "=: 1",
    ):  # fmt: skip
        yield text[:40], text
    for content in (
        b"\xff\xfe", b"\xff", b"\0", b"iterations: 1\0", "iterations: 1".encode("utf-16"),
        "iterations: 1".encode("utf-32"), b"\xef\xbb\xbf- 1", b"\x80" * 100, b"a" * 3_000_000,
        b"a: " + b"x" * 3_000_000, b"- 1\n" * 500_000, b"#" * 5_000_000 + b"\n- 1",
        b"a: " + b"'" * 1_000_000, b"&" * 100_000, b"*" * 100_000, b"[" + b"1," * 400_000 + b"]",
        b"".join(b"k%d: 1\n" % i for i in range(200_000)), bytes(range(256)), b"\x1b[31m: 1",
        b"\xed\xa0\x80: 1", b"seed: \xf0\x9f\x98\x80", b"%" * 1000, b"|\n" * 100_000,
        b": " * 50_000,
        b"iterations: |\n" + b" x\n" * 200_000, b"a:\r\n" * 50_000, b"\x85- 1",
        b"\xe2\x80\xa8- 1",
    ):  # fmt: skip
        yield repr(content[:20]), content


def _wrong_values() -> Iterator[tuple[str, str]]:
    """Yields every key with values of wrong types and out of range."""
    from metarl.config.files import flatten
    from metarl.experiments.presets import preset

    for key, annotation, _ in flatten(preset("point-goal")):
        text = "str" in repr(annotation) or "Literal" in repr(annotation)
        for value in ("[[1]]", "{a: 1}", "null", ".nan", "1e400", "-1e308", "2026-01-01", "[x, 1]"):
            if key != "run_dir" or value not in ("-1e308", "1e400"):  # texts, without a dot
                yield key, value
        if key.endswith(("run_dir", "ray_address")) or "name" in key:
            continue
        for value in ("nonsense", "9" * 60, "-" + "9" * 401, "''"):
            if not (text and value == "''"):
                yield key, value


def _nested(key: str, value: str) -> str:
    *sections, last = key.split(".")
    inside: Any = f"{{{last}: {value}}}"
    for section in reversed(sections):
        inside = f"{{{section}: {inside}}}"
    return inside

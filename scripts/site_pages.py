"""Lets the site hold what its pages link to outside of docs/: pictures, sources, two documents.

mkdocs calls the functions whose names begin with `on_` while it builds (mkdocs.yml, `hooks`). A
linked picture is copied. A linked source file or folder gets a page that shows it, which is in
neither the navigation nor the search.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
"""Documents of the repository that are pages, by the page's name."""
OUTSIDE = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages link to outside of docs/."""
    for document, page in DOCUMENTS.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / document)))
    for file in [*files.documentation_pages()]:
        for linked in OUTSIDE.findall(file.content_string):
            found = outside(file, linked[0])
            if found and files.get_file_from_path(name_of(found)) is None:
                files.append(made(found, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links that lead out of docs/ at what `on_files` added."""

    def link(match: re.Match[str]) -> str:
        found = outside(page.file, match[1])
        if found is None:
            return match[0]
        start = posixpath.dirname(page.file.src_uri)
        return posixpath.relpath(name_of(found), start or ".") + (match[2] or "")

    return OUTSIDE.sub(link, markdown)


def outside(file: File, link: str) -> str | None:
    """Returns a link's target relative to the repository; None if the link stays in docs/."""
    here = next((d for d, page in DOCUMENTS.items() if page == file.src_uri), "")
    start = posixpath.dirname(here) if here else posixpath.dirname(f"docs/{file.src_uri}")
    target = posixpath.normpath(posixpath.join(start, link))
    if target.startswith("docs/") and not here:
        return None
    return target if not target.startswith("..") and (ROOT / target).exists() else None


def name_of(target: str) -> str:
    """Returns the path in the site of something in the repository."""
    if target in DOCUMENTS:
        return DOCUMENTS[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if target == "README.md":
        return "index.md"
    shown = (ROOT / target).is_dir() or Path(target).suffix in LANGUAGES
    return f"repository/{target}.md" if shown else f"repository/{target}"


def made(target: str, config: MkDocsConfig) -> File:
    """Returns a file of the site for something in the repository."""
    path, name = ROOT / target, name_of(target)
    if not name.endswith(".md"):
        return File.generated(config, name, abs_src_path=str(path))
    head = f"---\nsearch:\n  exclude: true\nhide: [navigation]\n---\n\n# {target}\n\n"
    if path.is_dir():
        held = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
        held = [name for name in held if "__pycache__" not in name]
        return File.generated(config, name, content=head + "".join(f"* `{x}`\n" for x in held))
    text = path.read_text(encoding="utf-8").rstrip()
    language = LANGUAGES[path.suffix]
    return File.generated(config, name, content=f"{head}~~~~{language}\n{text}\n~~~~\n")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Makes the build the same wherever it is started."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    return config

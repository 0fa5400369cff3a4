#!/usr/bin/env python3
"""Follows every link inside the documentation: of the Markdown files of the repository, and of the book that `mdbook build` wrote.

    scripts/check_links.py [BOOK]

A link to a file of the repository must find it, one to a heading the heading, with the name that GitHub gives it; in BOOK every link
and picture must find its file, and every fragment an element of that name. Addresses of the Web are not asked. Exit code 1 says what
leads nowhere.
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]]+\]: (\S+)|(?:href|src)=\"([^\"]+)\"", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Names of the headings of a Markdown file, as GitHub makes them, and of its elements."""
    names: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for title in re.findall(r"^#{1,6} (.+?)\s*$", FENCE.sub("", text), re.MULTILINE):
        title = re.sub(r"\]\([^)]*\)", "]", title)
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = 0
        while name + (f"-{number}" if number else "") in names:
            number += 1
        names.add(name + (f"-{number}" if number else ""))
    return names


def links_of_markdown(text: str) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return ["".join(groups) for groups in LINK.findall(text)]


class Page(HTMLParser):
    """Links and names of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.names.add(value)
            elif value and ((tag, name) == ("a", "href") or name == "src"):
                self.links.append(value)


def broken(path: Path, links: list[str], root: Path, names) -> list[str]:
    """What is wrong with the links of a file, given the names that another one has."""
    wrong = []
    for link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        if target.is_dir() and (target / "index.html").is_file():
            target /= "index.html"
        if not target.exists():
            wrong.append(f"{path.relative_to(root)}: {link}: there is no such file")
        elif root not in target.resolve().parents and target.resolve() != root:
            wrong.append(f"{path.relative_to(root)}: {link}: leads out of {root.name}")
        elif parts.fragment and target.suffix == path.suffix and unquote(parts.fragment) not in names(target.resolve()):
            wrong.append(f"{path.relative_to(root)}: {link}: no such heading")
    return wrong


def main() -> None:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    known: dict[Path, set[str]] = {}

    def headings(path: Path) -> set[str]:
        return known.setdefault(path, anchors(path.read_text()))

    wrong, count = [], 0
    for path in files:
        links = links_of_markdown(path.read_text())
        count += len(links)
        wrong += broken(path, links, ROOT, headings)
    said = f"{count} links of {len(files)} Markdown files"
    if len(sys.argv) > 1:
        book = Path(sys.argv[1]).resolve()
        pages = {path: Page(path) for path in sorted(book.rglob("*.html")) if path.name not in ("404.html", "toc.html")}
        if len(pages) < 10:
            sys.exit(f"{book}: {len(pages)} pages, which is no book")
        for path, page in pages.items():
            wrong += broken(path, page.links, book, lambda target: pages[target].names)
        # Every page is in the table of contents, without which nobody finds it.
        contents = (ROOT / "docs/SUMMARY.md").read_text()
        wrong += [
            f"{path.relative_to(ROOT)}: not in docs/SUMMARY.md"
            for path in files
            if ROOT / "docs" in path.parents and path.name != "SUMMARY.md" and f"({path.relative_to(ROOT / 'docs')})" not in contents
        ]
        said += f", {sum(len(page.links) for page in pages.values())} of {len(pages)} pages"
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{said}: all lead somewhere")


main()

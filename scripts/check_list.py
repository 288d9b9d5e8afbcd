"""Hold catalog/data/list.yaml to the curated list it was taken from, where that lies beside the project.

`python scripts/check_list.py LIST.md [LIST.yaml]`: every row of the list is there once, in its category and order,
with its own month, tag, title, flames, stars and links. Exit code 0 if so (or if there is no LIST.md), 1 with the rows
that differ.
"""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[\[([^\]]+)\]\]\(([^)\s]+)\)")
BADGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
TITLE = re.compile(r"\[(\*\*)?(.+?)(\*\*)?\]\s*(.*)$")


def rows_of_list(text: str) -> list[tuple]:
    """The rows of the Markdown tables, each with the heading above it."""
    heading, rows = "", []
    for line in text.splitlines():
        if line.startswith("### "):
            heading = re.sub(r"\s*\(\[.*", "", line.lstrip("#📖 ")).strip()
        if re.match(r"\|\s*\d{4}\.\d{2}\s*\|", line):
            month, title, paper, code, stars = (cell.strip() for cell in line.strip().strip("|").split("|"))
            words = TITLE.match(title.replace("🔥", "").strip()) or ["", "", title, "", ""]
            links = [tuple(LINK.findall(BADGE.sub("", cell))) for cell in (paper, code)]
            rows.append(
                (heading, month, words[2], bool(words[1]), words[4], title.count("🔥"), stars.count("⭐"), *links)
            )
    return rows


def rows_of_data(data: dict) -> list[tuple]:
    """The same rows, from our file."""
    return [
        (group["name"], e["month"], e["tag"], e["bold"], e["title"], e["highlights"], e["stars"],
         *(tuple((link["label"], link["url"]) for link in e[role]) for role in ("links", "code")))
        for group in data["categories"]
        for e in group["entries"]
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    """Compare, tell, and return the exit code."""
    if not arguments or not Path(arguments[0]).exists():
        print(f"no list at {arguments[0] if arguments else '(no path given)'}: nothing to check against")
        return 0
    ours = Path(arguments[1]) if len(arguments) > 1 else ROOT / "catalog" / "data" / "list.yaml"
    listed = rows_of_list(Path(arguments[0]).read_text(encoding="utf-8"))
    held = rows_of_data(yaml.safe_load(ours.read_text(encoding="utf-8")))
    for name, rows, others in (("only in the list", listed, held), ("only in our data", held, listed)):
        for row in rows:
            if rows.count(row) != others.count(row):
                print(f"{name}: {row}")
    if listed != held:
        print(f"{len(listed)} rows in the list, {len(held)} in our data: they differ")
        return 1
    print(f"{len(listed)} rows in {len({row[0] for row in listed})} categories: all there, once, in order")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

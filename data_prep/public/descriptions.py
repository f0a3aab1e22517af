"""Part descriptions as VLADR publishes them: one image a line, five fields separated by three tabs - file
name, head, upper body, lower body, feet. UTF-8; a later line about the same image replaces an earlier one."""

from pathlib import Path

from data_prep.texts import read_text

PARTS = ("head", "upper", "lower", "foot")
SEPARATOR = "\t\t\t"


def read_descriptions(path):
    """{file name: (head, upper, lower, foot)}."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split(SEPARATOR)
        if line and len(fields) != 1 + len(PARTS):
            raise ValueError(
                f"expected a file name and {len(PARTS)} sentences separated by three tabs in {path}, found "
                f"{len(fields)} fields in line {number}; correct the line."
            )
        if line:
            name, *parts = map(str.strip, fields)  # as the published code reads them
            found[name] = tuple(parts)
    return found


def write_descriptions(path, described):
    """The inverse of `read_descriptions`; tabs and line ends inside a sentence become blanks."""
    lines = []
    for name, parts in described.items():
        fields = [name, *map(one_line, parts)]
        lines.append(SEPARATOR.join(fields) + "\n")
    Path(path).write_text("".join(lines), encoding="utf-8")


def one_line(sentence):
    return " ".join(sentence.split())

"""Text files as people write them: the one place that reads text, JSON and CSV. What cannot be read is one
ValueError, which names the file and says what to do."""

import csv
import io
import json
from pathlib import Path

import pandas as pd

AGAIN = "download it again"


def read_text(path):
    """The text of a UTF-8 file, with or without a byte order mark, whatever the locale. ValueError for
    another encoding, and for what is no text."""
    raw = Path(path).read_bytes()
    found = "an archive (or .xlsx)" if raw.startswith(b"PK\3\4") else ""
    try:
        text = raw.decode("utf-8-sig")
        found = found or "a zero byte, as in UTF-16" * ("\0" in text)
    except UnicodeDecodeError as error:
        found = found or f"the byte 0x{raw[error.start]:02x} at position {error.start}"
    if found:
        raise ValueError(f"expected UTF-8 in {path}, found {found}; save it as UTF-8.")
    return text


def read_json(path, remedy=AGAIN):
    """What a JSON file holds. ValueError, which ends in the remedy, where it is none, nested too deep, or has
    NaN or infinity in it, which are no JSON."""
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, found {error}; {remedy}.") from None


def refuse(constant):
    raise ValueError(f"the number {constant}")


def read_object(path, remedy=AGAIN):
    """The JSON object in a file, as a dict. ValueError where it holds another type."""
    found = read_json(path, remedy)
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object in {path}, found {kind(found)}; {remedy}.")
    return found


def kind(value):
    """What a JSON value is, in words and with its beginning."""
    return f"{type(value).__name__} {str(value)[:40]!r}"


def read_csv(path):
    """The rows of a CSV as text, none of it guessed at. ValueError for an empty file, and for a line that has
    other fields than the first or an open quote."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                raise csv.Error(f"{len(row)} fields where the first line has {len(rows[0])}")
            rows += [row] if row else []  # an empty line says nothing
    except csv.Error as error:
        raise ValueError(
            f"expected a CSV in {path}, found {error} in line {reader.line_num}; correct the line."
        ) from None
    twice = [name for name in rows[0] if rows[0].count(name) > 1] if rows else []
    if twice:
        raise ValueError(f"expected every column once in {path}, found {twice[0]!r} again; rename one.")
    if not rows:
        raise ValueError(f"expected a CSV in {path}, found an empty file; write a line of column names.")
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=object)


def in_one_sentence(error, remedy="choose another"):
    """An error in one sentence that ends in what to do: those of the system name a file and no remedy."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return (
        f"expected {error.filename} to be a place that can be read and written, found: {error.strerror}; "
        f"clear it, or {remedy}."
    )


def sentences_in(value, what, remedy):
    """A list of sentences as a tuple. ValueError for anything else, where `what` was expected."""
    # watch out: a single string would pass as a list of letters
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"expected {what}, found {str(value)[:80]!r}; {remedy}.")
    return tuple(value)

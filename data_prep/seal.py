"""What a rendered world was when it was made: a digest of every file, in its world.json. A world that decayed
or was edited would train other weights under the same fingerprint."""

import hashlib
from pathlib import Path

from data_prep.texts import read_object

CARD = "world.json"
DIGITS = 16


def sealed(folder):
    """{path below the folder: digest} of all of its files but the card."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def digest(path):
    """Sixteen digits of a file's bytes; "" where there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS] if path.is_file() else ""


def check(folder, wanted):
    """ValueError where a file of a world, whose path `wanted` accepts, is not as it was rendered. A folder
    that is no world, or one of before there were digests, has nothing to tell."""
    card = Path(folder) / CARD
    told = read_object(card).get("files", {}) if card.exists() else {}
    spoilt = [path for path, made in told.items() if wanted(path) and digest(card.parent / path) != made]
    if spoilt:
        raise ValueError(
            f"expected the world in {folder} as it was rendered, found {len(spoilt)} files changed (the "
            f"first is {spoilt[0]}); remove the folder, and it is rendered again."
        )

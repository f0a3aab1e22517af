"""Anybody's own images: a CSV with the columns path, pid, camid, split, and optionally the others of the
manifest."""

from pathlib import Path

from data_prep.manifest import PROTOCOLS, from_table, read_table
from data_prep.public.files import world_card


def csv(root, variant="market", allow_count_mismatch=False, **options):
    """A CSV file, or a folder that holds exactly one. The variant is the protocol. Images below a
    `world.json` are of the world, whatever table lists them; there are no counts to compare with."""
    path = table_in(Path(root))
    table = read_table(path)
    card = card_above(path.parent, table)
    if card:
        options |= {"origin": "world", "seed": card["seed"]}
    return from_table(path.stem, path.parent, table, protocol=variant, place=path.resolve(), **options)


def table_in(root):
    """The path of the CSV file; ValueError for a folder that does not hold exactly one."""
    if root.is_file():
        return root
    inside = sorted(root.iterdir()) if root.is_dir() else []
    found = [path for path in inside if path.suffix.lower() == ".csv" and path.name[0] != "."]
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"expected a CSV file or a folder with one, found {there} in {root}; pass the file itself."
        )
    return found[0]


def card_above(root, table):
    """The card of the world that the images belong to, or {}. ValueError where only some are of a world:
    images of a world and photographs are never one data set."""
    # `get`: that the column is missing is said by `from_table`
    folders = {path.rpartition("/")[0] for path in table.get("path", ())}
    cards = {folder: nearest_card(root, folder) for folder in folders}
    of_world = [card for card in cards.values() if card]
    if of_world and len(of_world) < len(cards):
        alone = next(folder for folder, card in cards.items() if not card)
        raise ValueError(
            f"expected images of the world or photographs, found both in {root} ({alone} is not of the "
            "world); describe them in two tables."
        )
    return of_world[0] if of_world else {}


def nearest_card(root, folder):
    """The `world.json` in a folder or above it, up to the root."""
    place = root / folder
    while True:
        card = world_card(place)
        top = place in (root, place.parent)  # the parent of / is / itself
        if card or top:
            return card
        place = place.parent


VARIANTS = tuple(PROTOCOLS)

"""Runs in one archive: measured on one machine, taken in by another after every check.

python -m reid_core measure --bundle FILE        pack the runs that are finished
python -m reid_core measure --merge FILE         take them in
"""

import hashlib
import io
import json
import zipfile

from data_prep import catalogue
from reid_core import checkpoint
from reid_core.recipe import PROFILES
from reid_core.runs import fill, provenance, records
from reid_core.runs.run import BOOK, Run

CARD = "bundle.json"  # the file that tells what the archive holds
FORMAT = 1


def pack(path, specs, log=print):
    """Write the finished runs among `specs` that are not stale, with their visuals, to an archive."""
    files = {}
    for spec in specs:  # rows with the same settings are one run: its files enter once, by name
        run = BOOK.find(spec)
        if run is None or run.outdated:
            continue
        for place in (BOOK.path(spec), BOOK.pictures(spec)):
            if place.exists():
                files[place.relative_to(BOOK.folder()).as_posix()] = place.read_bytes()
    card = {
        "format": FORMAT,
        **provenance.of_code(),
        "pixels": catalogue.pixels(),
        "profile": "laptop",
        "files": {name: sha(data) for name, data in files.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD, json.dumps(card, indent=1))
        for name, data in files.items():
            archive.writestr(name, data)
    checkpoint.write(path, buffer.getvalue())  # whole or not at all
    runs = [name for name in files if name.endswith(".json")]  # the others are visuals
    log(f"bundle: {len(runs)} runs in {path}")


def sha(data):
    """The hash of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def merge(path, specs, log=print):
    """Take the runs of an archive into results/, once everything about them has been checked: all of them, or
    none."""
    wanted = {spec.name: spec for spec in specs}
    with checkpoint.alone(BOOK.folder(), "fills"):  # no process measures meanwhile
        card, files = opened(path)
        check_card(card, path)
        runs = []
        for name, data in files.items():
            if name.endswith(".json"):  # the others are visuals
                runs.append(belonging(name, data, card, wanted, path))
        news = [run for run in runs if not known(run)]
        pictures = {run.spec.name: files.get(f"{run.spec.name}.npz") for run in news}
        for run in news:
            check_pictures(run, pictures[run.spec.name], path)
        for run in news:  # a second loop: nothing is written before everything has been checked
            take(run, pictures[run.spec.name])
    log(f"merge: {len(news)} runs taken in, {len(runs) - len(news)} were there already")
    return news


def opened(path):
    """(card, {name: bytes}) of an archive; ValueError unless it is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(CARD))
            files = {name: archive.read(name) for name in card["files"]}
            spoiled = [name for name, data in files.items() if sha(data) != card["files"][name]]
    except FileNotFoundError:
        raise ValueError(f"expected a bundle at {path}, found nothing; correct the path.") from None
    except (zipfile.BadZipFile, LookupError, TypeError, ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"expected a whole bundle at {path}, found one that cannot be read ({error}); copy it again."
        ) from error
    if spoiled:
        raise ValueError(f"expected a whole bundle at {path}, found {spoiled[0]} altered; copy it again.")
    return card, files


def check_card(card, path):
    """ValueError unless the archive comes from this commit or an ancestor, in the book's profile, with the
    same pixels."""
    if card.get("format") != FORMAT or not card.get("clean"):
        raise ValueError(
            f"expected a bundle of a clean tree in format {FORMAT} at {path}, found another; measure again "
            "from a commit."
        )
    commit = str(card.get("commit"))
    if not provenance.is_ancestor(commit):
        raise ValueError(
            f"expected a bundle of this commit or one before it, found one of {commit[:12]}; check that "
            "commit out, or measure again."
        )
    if card.get("profile") not in PROFILES or card["profile"] != "laptop":
        raise ValueError(
            "expected a bundle of the profile laptop, whose runs the book prints, found "
            f"{card.get('profile')!r}; train others where they are wanted."
        )
    if card.get("pixels") != catalogue.pixels():
        raise ValueError(
            f"expected a bundle whose renderer draws the pixels of this one ({catalogue.pixels()}), found "
            f"others ({card.get('pixels')}); measure again with this code."
        )


def belonging(name, data, card, wanted, path):
    """The run in a file of the archive; ValueError unless the book prints it and it is not stale."""
    run = Run.parse(data, f"{name} of {path}")
    if run.spec.name not in wanted or run.spec.name != name.removesuffix(".json"):
        raise ValueError(f"expected runs that the book prints in {path}, found {name}; bundle those alone.")
    if run.spec.profile != card["profile"]:
        raise ValueError(
            f"expected runs of the profile {card['profile']} in {path}, found {name} of {run.spec.profile}; "
            "bundle those alone."
        )
    why = run.outdated
    if not why and not fill.same_code(run):
        why = provenance.stale(run)  # a probe: it computes losses
    if why:
        raise ValueError(
            f"expected runs of this world, weights and code in {path}, found {name}: {why}; measure it again."
        )
    return run


def known(run):
    """Whether the shelf has a run of this spec that nobody would measure again, but for its pictures."""
    return fill.why_due(run.spec) in ("", fill.NO_PICTURES)


def check_pictures(run, data, path):
    """ValueError if the visuals that the archive holds for a run are those of another one."""
    if data is None:
        return
    try:
        key = records.key_of(io.BytesIO(data))
    except ValueError as error:
        raise ValueError(
            f"expected whole pictures of {run.spec.name} in {path}, found none that can be read ({error}); "
            "bundle again."
        ) from error
    if key != run.key:
        raise ValueError(
            f"expected the pictures of {run.spec.name} in {path}, found those of another run; bundle again."
        )


def take(run, pictures):
    """Write the visuals, then the run: one that stands in results/ has its visuals."""
    if pictures is not None:
        place = BOOK.pictures(run.spec)
        place.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(place, pictures)
    BOOK.write(run)

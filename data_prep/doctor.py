"""What is wrong with a data set on disk, and how to mend it."""

from PIL import Image


def examine(manifest):
    """Look into every file's header. Raises ValueError for the first that is empty or no image; returns lines to print."""
    for path in manifest.table.path:
        look_at(manifest.root / path)
    lines = [f"{manifest.name} ({manifest.label}), fingerprint {manifest.fingerprint}", *manifest.notes]
    for split, numbers in manifest.counts().items():
        lines.append(f"{split:8}" + "  ".join(f"{number} {what}" for what, number in numbers.items()))
    return [*lines, "ready for training"]


def look_at(path):
    """Raise ValueError where `path` holds no image."""
    if not path.exists() or not path.stat().st_size:
        found = "an empty file" if path.exists() else "nothing"
        raise ValueError(f"expected an image, found {found} at {path}; unpack the archive again.")
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception as error:
        raise ValueError(f"expected an image, found {error} at {path}; replace or remove it.") from error

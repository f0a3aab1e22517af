"""Image files as RGB pictures of 8 bits a channel: the one place that decodes, for training, tests, pages and
conversions."""

import numpy as np
from PIL import Image

UPRIGHT = 1  # of EXIF's orientations; 2 to 8 are turned or mirrored
ORIENTATION = 0x0112  # EXIF's tag


THIRDS = 3  # of a strip: visible, near infrared and thermal side by side


def opened(path, tile=-1):
    """The picture in a file, or the third of its width that `tile` counts from 0, in RGB as its pixels lie
    there (a turn that EXIF asks for is not made). ValueError, in one sentence, where it cannot be read."""
    image = whole(path)
    if tile < 0:
        return image
    width, rest = divmod(image.width, THIRDS)
    if rest:
        raise ValueError(
            f"expected three images of one width side by side in {path}, found {image.width} pixels, no "
            "multiple of three; cut or scale the file."
        )
    return image.crop((width * tile, 0, width * (tile + 1), image.height))


def whole(path):
    """The picture in a file, in RGB."""
    try:
        with Image.open(path) as image:
            return rgb(image)
    except Exception as error:
        empty = path.exists() and not path.stat().st_size
        found = "an empty file" if empty else f"{type(error).__name__} ({error})"
        raise ValueError(
            f"expected a readable image at {path}, found {found}; replace or remove it."
        ) from error


def rgb(image):
    """An image of Pillow's in RGB. Grey levels of 16 bits keep their upper 8, where Pillow would make all of
    them white. ValueError for levels of 32 bits, whose black and white nobody knows."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        levels = np.asarray(image).astype(np.uint16) >> 8  # (H, W)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"levels of 32 bits (mode {image.mode}) where 8 or 16 are expected")
    return image.convert("RGB")

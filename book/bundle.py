"""The published copy: python book/bundle.py packs the built book and its runs, with a checksum per file.

Into build/publish go book-VERSION.zip and SHA256SUMS, which `sha256sum --check` reads. The archive holds the
same bytes whenever the same book is packed.
"""

import hashlib
import sys
import zipfile

import front
from build import OUT, ROOT

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest date that an archive can hold
BESIDE = ("CITATION.cff", "LICENSE", "README.md")
PUBLISHED = ROOT / "build" / "publish"


def main():
    """Pack the book; exit with a sentence where none was built."""
    pages = OUT / "_build" / "html"
    if not (pages / "index.html").exists():
        sys.exit(f"expected a book in {pages}, found none; type make book.")
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    name = f"book-{front.citation()['version']}"
    archive = PUBLISHED / f"{name}.zip"
    sums = pack(archive, name, contents(pages))
    sums.append(f"{digest(archive.read_bytes())}  {archive.name}")
    (PUBLISHED / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")
    print(f"{archive.relative_to(ROOT)}: {len(sums) - 1} files, {archive.stat().st_size / 1e6:.1f} MB")


def contents(pages):
    """{name in the archive: file}: the pages, the committed runs, and what says how to cite them."""
    found = {
        f"html/{path.relative_to(pages).as_posix()}": path for path in pages.rglob("*") if path.is_file()
    }
    results = ROOT / "results"
    found |= {path.relative_to(ROOT).as_posix(): path for path in results.rglob("*") if path.is_file()}
    return found | {one: ROOT / one for one in BESIDE}


def pack(archive, name, files):
    """Write an archive of {name: file} under a folder, and return a line of checksum and name per file."""
    sums = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for place, path in sorted(files.items()):
            data = path.read_bytes()
            entry = zipfile.ZipInfo(f"{name}/{place}", LONG_AGO)
            entry.external_attr = 0o644 << 16  # readable where it is unpacked
            packed.writestr(entry, data, zipfile.ZIP_DEFLATED)
            sums.append(f"{digest(data)}  {name}/{place}")
    return sums


def digest(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()

"""Every golden file is read by a test, or is listed with the reason. The tests themselves are in
test_parity_*.py."""

import importlib
from pathlib import Path

import golden

for path in sorted(Path(__file__).parent.glob("test_parity_*.py")):
    importlib.import_module(path.stem)  # fills golden.COVERED


def test_every_golden_file_is_covered_or_listed_with_the_reason(capsys):
    files = {path.stem for path in golden.FOLDER.iterdir() if path.suffix in (".npz", ".json")}
    listed = golden.NOT_COVERED
    with capsys.disabled():
        print(f"\nparity: {len(files & set(golden.COVERED))} files covered, {len(listed)} not:")
        for name in sorted(files & set(listed)):
            print(f"  {name}: {listed[name]}")
    assert files <= set(golden.COVERED) | set(listed), files - set(golden.COVERED) - set(listed)
    assert not set(golden.COVERED) & set(listed), "covered by now: take it out of the list"


def test_a_covered_file_exists():
    if golden.FOLDER == golden.ARRAYS:
        assert all(list(golden.FOLDER.glob(f"{name}.*")) for name in golden.COVERED)

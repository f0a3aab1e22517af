"""Every golden file is read by a test, or is listed with the reason. The tests themselves are in
test_parity_*.py."""

import importlib
import json
import re
from pathlib import Path

import golden
import pages

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


def test_readme_and_page_name_the_files_that_agree_less_well_than_float_rounding():
    root = Path(__file__).parents[2]
    record = json.loads((root / "results" / "parity.json").read_text())["covered"]
    looser = {name for name, (worst, _) in record.items() if worst and worst > golden.OUTPUT}
    readme = (root / "README.md").read_text(encoding="utf-8")
    for text in (readme, pages.PARITY):
        assert looser == set(re.findall(r"`(\w+?__\w+)`", text))

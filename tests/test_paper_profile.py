"""The profile for real data and a GPU, exercised on a CPU: a tree laid out like Market-1501, a ViT-B/16 in
OpenAI's format."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reid_core.loading import open_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_three_steps_and_an_evaluation_at_full_size(world, tmp_path):
    from test_towers import openai_archive

    market = tmp_path / "sets" / "market1501"
    shutil.copytree(world.manifest.root, market)
    for name in ("world.json", "captions.json"):
        (market / name).unlink()
    for parts in (["bounding_box_train"], ["query", "bounding_box_test"]):
        few = sorted({path.name[:4] for path in (market / parts[0]).iterdir()})[:4]
        for path in (path for part in parts for path in (market / part).iterdir()):
            if path.name[:4] not in few:
                path.unlink()
    torch.manual_seed(0)
    openai_archive(open_model("ViT-B-16-quickgelu"), tmp_path / "ViT-B-16.pt")
    changes = [
        f"--set={change}"
        for change in ("stage2_epochs=1", "stage2_ids_per_batch=2", "stage2_images_per_id=2")
    ]
    command = [
        sys.executable,
        "-m",
        "reid_core",
        "train",
        "clip_reid",
        "--profile",
        "paper",
        "--data",
        "market1501",
        *changes,
    ]
    place = {
        "REID_BUILD": tmp_path / "build",
        "REID_DATA": tmp_path / "sets",
        "REID_ALLOW_COUNT_MISMATCH": 1,
        "REID_WEIGHTS": tmp_path / "ViT-B-16.pt",
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **{k: str(v) for k, v in place.items()}},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run = json.loads(next((tmp_path / "build" / "results").rglob("*.json")).read_text())
    assert run["data"]["origin"] == "real" and run["data"]["counts"]["train"]["identities"] == 4
    assert run["history"][0]["images"] >= 3 * 4 and run["recipe"]["image_height"] == 256
    assert run["cost"]["trained parameters"] > 86_000_000 and len(run["provenance"]["weights"]) == 16
    assert run["scores"][0]["task"] == "image to image" and run["scores"][0]["summary"]["mAP"] > 0

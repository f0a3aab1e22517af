"""The same bytes everywhere: what decides a pixel, and that no processor, library or number of threads
changes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.world import build, cast, exact

COMMITTED = Path(__file__).with_name(
    "world_pixels.json"
)  # data set -> hash of a few shots; `python tests/test_world_exact.py`
MACHINES = {
    "an old processor's products": {"OPENBLAS_CORETYPE": "Prescott"},
    "products of AVX2": {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"},
    "products of AVX-512": {
        "OPENBLAS_CORETYPE": "SkylakeX",
        "OPENBLAS_NUM_THREADS": "2",
        "OMP_NUM_THREADS": "2",
    },
    "numpy without vector units": {"NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR"},
    "JPEG without vector units": {"JSIMD_FORCENONE": "1"},
}


def pixels():
    """{data set: hash} of shots of every layout, in all spectra."""
    return {name: build.pixel_hash(cast.plan(name, "smoke", 0)[::9][:3]) for name in cast.SETS}


def files():
    """A hash of what a file of a shot reads back as."""
    import hashlib
    import io

    one = cast.plan("world_c", "smoke", 0)[5]
    picture, written = build.photograph(one, 0, build.SIZE, ("rgb",))["rgb"], io.BytesIO()
    Image.fromarray(picture).save(written, "JPEG", quality=build.QUALITY)
    again = np.asarray(Image.open(written).resize((64, 128), Image.Resampling.BICUBIC))
    return hashlib.sha256(again.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_layout_has_the_committed_pixels_on(machine):
    environment = {**os.environ, **MACHINES[machine]}
    done = subprocess.run(
        [sys.executable, __file__, "--tell"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["pixels"] == json.loads(COMMITTED.read_text())
    assert told["file"] == files()


def test_a_renderer_that_draws_other_pixels_makes_another_world(monkeypatch):
    before = build.fingerprint("world_h", "smoke", 0)
    real = exact.noise
    monkeypatch.setattr(exact, "noise", lambda seed, shape: real(seed + 1, shape))
    build.canonical.cache_clear(), build.planned.cache_clear(), build.print_of_world.cache_clear()
    after = build.fingerprint("world_h", "smoke", 0)
    build.canonical.cache_clear(), build.planned.cache_clear(), build.print_of_world.cache_clear()
    assert before != after


def test_sines_and_exponentials_are_right():
    x = np.linspace(-300, 300, 20001)
    assert (
        np.abs(exact.sine(x) - np.sin(x)).max() < 1e-13 and np.abs(exact.cosine(x) - np.cos(x)).max() < 1e-13
    )
    x = np.linspace(-50, 50, 20001)
    assert np.abs(exact.exponential(x) / np.exp(x) - 1).max() < 1e-14


@pytest.mark.parametrize("share", [1, 16, 27, 31])
def test_powers_are_made_of_roots(share):
    x = np.linspace(0, 1, 1001)
    assert np.allclose(exact.root_power(x, share), x ** (share / 32), rtol=1e-12)


def test_noise_is_nearly_normal_and_starts_anew_with_its_seed():
    x = exact.noise(3, (400, 500))
    assert (
        abs(x.mean()) < 0.01
        and abs(x.std() - 1) < 0.01
        and 2.7 < (x**4).mean() < 3
        and abs((x**3).mean()) < 0.03
    )
    assert np.array_equal(x, exact.noise(3, (400, 500))) and not np.array_equal(x, exact.noise(4, (400, 500)))


def test_scrambled_cells_have_no_order():
    cells = np.stack(np.meshgrid(*[np.arange(-12, 12)] * 3, indexing="ij"), -1).reshape(-1, 3)
    x = exact.scrambled(cells)
    assert abs(x.mean() - 0.5) < 0.01 and abs(x.std() - 12**-0.5) < 0.01 and 0 <= x.min() and x.max() < 1
    grid = x.reshape(24, 24, 24)
    assert all(
        abs(np.corrcoef(grid.ravel(), np.roll(grid, 1, axis).ravel())[0, 1]) < 0.03 for axis in range(3)
    )


@pytest.mark.parametrize("axis, count", [(1, 48), (1, 150), (0, 96), (0, 7)])
def test_resizing_is_what_pillow_does(axis, count):
    picture = np.random.default_rng(0).random((128, 64, 3), dtype=np.float32)
    size = (count, 128) if axis else (64, count)
    planes = [
        Image.fromarray(plane, "F").resize(size, Image.Resampling.BILINEAR)
        for plane in np.moveaxis(picture, 2, 0)
    ]
    assert np.allclose(
        exact.resized(picture, count, axis), np.stack([np.asarray(p) for p in planes], -1), atol=1e-6
    )


def test_vectors_turn_as_matrices_turn_them():
    rng = np.random.default_rng(0)
    m, a, b = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    assert np.allclose(exact.apply(m, a), m @ a) and np.allclose(exact.cross(a, b), np.cross(a, b))
    assert np.isclose(exact.length(a), np.linalg.norm(a)) and np.isclose(exact.dot(a, b), a @ b)


if __name__ == "__main__":
    if "--tell" in sys.argv:
        print(json.dumps({"pixels": pixels(), "file": files()}))
    else:
        COMMITTED.write_text(json.dumps(pixels(), indent=1) + "\n")

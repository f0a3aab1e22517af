"""A model that leaves the library computes what it computed here."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core.analysis import export
from reid_core.methods.baseline import SpectraBaseline
from reid_core.runs.run import Spec


@pytest.fixture(scope="module")
def method(world):
    return Spec("promptsg", "promptsg", profile="smoke").build(world)[0]


def test_an_exported_model_gives_the_features_of_the_method_for_any_number_of_images(method, tmp_path):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="the packages of the extra onnx are not installed"
    )
    assert export.to_onnx(method, tmp_path / "model.onnx") < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = np.random.default_rng(0).random((5, 3, *method.size), np.float32)
    with torch.no_grad():
        wanted = export.ImageToFeature(method)(torch.from_numpy(images)).numpy()
    assert np.abs(session.run(None, {"images": images})[0] - wanted).max() < 1e-5


class Session:
    """A runtime that answers with other numbers."""

    def __init__(self, path):
        pass

    def run(self, names, feeds):
        return [np.ones((2, 1), np.float32)]


def test_a_model_that_came_out_otherwise_is_refused(method, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "needed", lambda: SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(
        ValueError, match="expected features within 0.0001 of the method's, found a difference"
    ):
        export.to_onnx(method, tmp_path / "model.onnx")


def test_without_the_packages_it_says_which_to_install(method, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="found no onnx; install them with pip install"):
        export.to_onnx(method, tmp_path / "model.onnx")


def test_a_method_that_sees_spectra_is_not_exported(method, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "needed", lambda: None)
    monkeypatch.setattr(method, "multispectral", SpectraBaseline.multispectral)
    with pytest.raises(ValueError, match="expected a method that sees one image, found PromptSG"):
        export.to_onnx(method, tmp_path / "model.onnx")

"""A trained model's way from an image to its feature, as ONNX: for programs without Python."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from reid_core.data import Batch

CLOSE = 1e-4  # by which a number of the exported model may differ from the method's own
OPSET = 18


class ImageToFeature(nn.Module):
    """RGB images (B, 3, H, W) from 0 to 1, resized to the method's size -> the feature (B, D) of a gallery
    item in the method's first test, of unit length."""

    def __init__(self, method):
        super().__init__()
        self.method = method.eval()
        self.feature = next(iter(method.retrieval_tasks().values())).gallery
        view = method.test_view()
        self.register_buffer("mean", torch.tensor(view.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(view.std).view(1, 3, 1, 1))

    def forward(self, images):
        unseen = torch.full((images.shape[0],), -1, device=images.device)  # neither label nor camera is known
        seen = ((images - self.mean) / self.std)[:, None]  # (B, 1, 3, H, W)
        batch = Batch(index=unseen, labels=unseen, cameras=unseen, views=[seen])
        return F.normalize(self.method.embed(batch, self.feature).float(), dim=1)


def to_onnx(method, path):
    """Write the model and compare it with the method on random images; returns the largest difference.
    ValueError without the packages onnx, onnxscript and onnxruntime, where the method sees several spectra,
    or where the difference is above CLOSE."""
    onnxruntime = needed()
    if method.multispectral:
        raise ValueError(
            f"expected a method that sees one image, found {type(method).__name__}, which sees spectra; "
            "export another."
        )
    model = ImageToFeature(method.cpu()).eval()
    images = torch.rand(2, 3, *method.size)
    with torch.no_grad():
        wanted = model(images).numpy()  # (2, D)
        batch = torch.export.Dim("batch", min=1, max=4096)
        torch.onnx.export(
            model,
            (images,),
            path,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes={"images": {0: batch}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(["features"], {"images": images.numpy()})[0]
    worst = float(np.abs(found - wanted).max())
    if worst > CLOSE:
        raise ValueError(
            f"expected features within {CLOSE:g} of the method's, found a difference of {worst:.1e} in "
            f"{path}; do not use it, and report which versions of torch and onnx are installed."
        )
    return worst


def needed():
    """The module onnxruntime; ValueError where a package is missing."""
    try:  # here: nothing else needs them
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"expected the packages onnx, onnxscript and onnxruntime, found no {error.name}; install them "
            "with pip install 'reid-book[onnx]', or pip install onnx onnxscript onnxruntime."
        ) from None
    return onnxruntime

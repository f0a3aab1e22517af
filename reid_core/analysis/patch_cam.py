"""The package grad-cam as `explain.grad_cam` uses it: in a file of its own, which only explaining imports."""

from pytorch_grad_cam import GradCAM


class PatchCAM(GradCAM):
    """The package's Grad-CAM, left at the resolution of the patches."""

    def get_target_width_height(self, images):
        return self.model.method.image.grid[::-1]  # (h, w) -> (w, h), as the package wants it

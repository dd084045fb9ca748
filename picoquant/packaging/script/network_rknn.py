"""The package's network on a Rockchip NPU: pip install rknn-toolkit-lite2, on the board."""

from rknnlite.api import RKNNLite


class Network:
    """Called with a dictionary of inputs [1, 3, H, W], returns the outputs in their order, float32 [1, cells, C]."""

    def __init__(self, path):
        self._network = RKNNLite()
        for step, code in (
            ("load_rknn", self._network.load_rknn(str(path))),
            ("init_runtime", self._network.init_runtime()),
        ):
            if code != 0:
                raise SystemExit(f"detect.py: RKNNLite.{step} of {path.name} ended with {code}")

    def __call__(self, inputs):
        images = [image.transpose(0, 2, 3, 1) for image in inputs.values()]
        outputs = self._network.inference(inputs=images)
        if outputs is None:
            raise SystemExit("detect.py: RKNNLite.inference failed")
        return [rows(output) for output in outputs]


def rows(output):
    """A map [1, C, H, W] with a row for each of its cells; another output as it is."""
    if output.ndim != 4:
        return output
    return output.reshape(*output.shape[:2], -1).transpose(0, 2, 1)

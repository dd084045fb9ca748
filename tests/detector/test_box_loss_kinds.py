"""The box losses that a configuration may name, inside each head, against PaddleDetection 2.6.0."""

from __future__ import annotations

import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.detector.heads.outputs import level_means

# loss_bbox of the golden networks at epoch 0, loss_weight 2, by PaddleDetection 2.6.0's own classes. Its
# IouLoss cannot be used in these heads: it unpacks the boxes by rows.
EXPECTED = {
    ("lcnet_xs", "GIoULoss", None): 1.2072291,
    ("lcnet_xs", "SIoULoss", None): 1.1468312,
    ("lcnet_xs", "DIouLoss", True): 1.3407799,
    ("lcnet_xs", "DIouLoss", False): 1.3276079,
    ("esnet_s", "GIoULoss", None): 1.5071718,
    ("esnet_s", "SIoULoss", None): 1.5295696,
    ("esnet_s", "DIouLoss", True): 1.4714887,
    ("esnet_s", "DIouLoss", False): 1.4636291,
}


@pytest.mark.parametrize(("network", "kind", "complete"), EXPECTED)
def test_in_a_head(network, kind, complete, golden_network):
    golden = golden_network(network)
    config = golden.config()
    loss = {"name": kind, "loss_weight": 2.0}
    if complete is not None:
        loss["use_complete_iou_loss"] = complete
    config[config["PicoDet"]["head"]]["loss_bbox"] = loss
    model = load_detector(config)
    model.set_state_dict(golden.model().state_dict())
    model.train()
    losses = model.loss(golden.image, **golden.truth(), epoch=0)
    assert float(losses["loss_bbox"]) == pytest.approx(EXPECTED[network, kind, complete], rel=1e-4)
    losses["loss"].backward()
    assert all(bool(paddle.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_means_of_levels():
    found = level_means(paddle.to_tensor([1.0, 2.0, 6.0, 5.0]), paddle.to_tensor([8.0, 16.0, 16.0, 32.0]))
    assert found.numpy().tolist() == [1, 4, 4, 5]

"""Readers: the same batches for any number of workers, continuing, sharing, and bad images."""

from __future__ import annotations

import itertools
import logging
import pickle

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.readers.reader import EvalReader, TrainReader, endless_sizes
from picoquant.data.settings import ReaderSettings
from picoquant.errors import ConfigError, DataError
from tests.data.coco_sets import write_set

NORMALIZE = [{"NormalizeImage": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, {"Permute": {}}]


def train_settings(**changes) -> ReaderSettings:
    section = {
        "sample_transforms": [
            {"Decode": {}},
            {"Mosaic": {"prob": 0.6, "input_dim": [64, 64]}},
            {"AugmentHSV": {"is_bgr": False, "hgain": 5, "sgain": 30, "vgain": 30}},
            {"RandomCrop": {}},
            {"RandomDistort": {}},
            {"RandomFlip": {"prob": 0.5}},
        ],
        "batch_transforms": [
            {"BatchRandomResize": {"target_size": [64, 96], "keep_ratio": False, "random_interp": True}},
            *NORMALIZE,
            {"PadGT": {}},
        ],
        "batch_size": 4,
        "shuffle": True,
        "drop_last": True,
        "mosaic_epoch": 2,
    }
    return ReaderSettings.from_mapping({**section, **changes}, "TrainReader")


def eval_settings(**changes) -> ReaderSettings:
    section = {
        "sample_transforms": [
            {"Decode": {}},
            {"Resize": {"target_size": [64, 64], "keep_ratio": False, "interp": 2}},
            *NORMALIZE,
        ],
        "batch_size": 4,
    }
    return ReaderSettings.from_mapping({**section, **changes}, "EvalReader")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_coco(write_set(tmp_path_factory.mktemp("set"), 14), training=True)


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def expected(dataset):
    reader = TrainReader(dataset, train_settings(), seed=3, workers=0)
    return [list(reader.epoch(epoch)) for epoch in range(3)]


def test_batches_have_the_promised_arrays(expected):
    batch = expected[0][0]
    count, objects = batch["gt_bbox"].shape[:2]
    side = batch["image"].shape[2]
    assert side in (64, 96)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "image": ((4, 3, side, side), "float32"),
        "gt_bbox": ((count, objects, 4), "float32"),
        "gt_class": ((count, objects, 1), "int32"),
        "pad_gt_mask": ((count, objects, 1), "float32"),
        "image_id": ((4,), "int64"),
    }


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_do_not_depend_on_the_workers(dataset, expected, workers):
    with TrainReader(dataset, train_settings(), seed=3, workers=workers) as reader:
        for epoch, batches in enumerate(expected):
            for ours, theirs in zip(batches, reader.epoch(epoch)):
                assert same(ours, theirs)


@pytest.mark.parametrize("workers", [0, 2])
def test_continuing_at_a_step_gives_the_rest(dataset, expected, workers):
    with TrainReader(dataset, train_settings(), seed=3, workers=workers) as reader:
        rest = list(reader.epoch(1, start_step=2))
    assert len(rest) == reader.steps_per_epoch - 2 == 1
    assert same(rest[0], expected[1][2])


def test_epochs_and_seeds_differ(dataset, expected):
    orders = [np.concatenate([batch["image_id"] for batch in batches]).tolist() for batches in expected]
    assert len({tuple(order) for order in orders}) == 3
    assert all(len(set(order)) == 12 for order in orders)  # 14 images, 3 whole batches of 4
    other = next(TrainReader(dataset, train_settings(), seed=4, workers=0).epoch(0))
    assert not same(other, expected[0][0])


def test_mosaic_ends_at_its_epoch(dataset):
    def objects(mosaic_epoch: int, epoch: int) -> int:
        settings = train_settings(mosaic_epoch=mosaic_epoch)
        return max(
            batch["pad_gt_mask"].sum(axis=1).max()
            for batch in TrainReader(dataset, settings, seed=0, workers=0).epoch(epoch)
        )

    # Every image has one object, so more on one mean a mosaic.
    assert objects(2, 1) > 1
    assert objects(2, 2) == 1
    assert objects(0, 9) > 1
    assert objects(-1, 0) == 1


def test_input_size_overrides_the_settings(dataset):
    reader = TrainReader(dataset, train_settings(), seed=0, workers=0, input_size=(128, 128))
    sides = {batch["image"].shape[2] for epoch in range(4) for batch in reader.epoch(epoch)}
    assert sides <= {128, 160, 192}
    assert 128 in sides


def test_without_drop_last_the_last_batch_is_smaller(dataset):
    reader = TrainReader(dataset, train_settings(drop_last=False), seed=0, workers=0)
    sizes = [len(batch["image"]) for batch in reader.epoch(0)]
    assert sizes == [4, 4, 4, 2]
    assert reader.steps_per_epoch == 4


def test_batch_larger_than_the_data_set_is_cut_to_it(dataset, caplog):
    with caplog.at_level(logging.WARNING, "picoquant"):
        reader = TrainReader(dataset, train_settings(batch_size=40), seed=0, workers=0)
    assert (reader.steps_per_epoch, reader.batch_size) == (1, 14)
    assert "TrainReader.batch_size 40 is more than the 14 images" in caplog.text


@pytest.mark.parametrize("drop_last", [True, False])
def test_devices_share_an_epoch(dataset, drop_last):
    shares = []
    for rank in (0, 1):
        settings = train_settings(batch_size=3, drop_last=drop_last)
        reader = TrainReader(dataset, settings, seed=0, workers=0, shard=(rank, 2))
        shares.append([batch["image_id"].tolist() for batch in reader.epoch(0)])
    lengths = [[len(ids) for ids in share] for share in shares]
    assert lengths == [[3, 3], [3, 3]] if drop_last else [[3, 3, 1], [3, 3, 1]]
    seen = list(itertools.chain(*shares[0], *shares[1]))
    assert len(set(seen)) == len(seen)


def test_devices_resize_their_parts_of_a_step_as_one_device_would(dataset):
    settings = train_settings(batch_size=2)
    parts = [
        TrainReader(dataset, settings, seed=3, workers=0, shard=(rank, 2)).epoch(epoch)
        for epoch in (0, 1)
        for rank in (0, 1)
    ]
    one = TrainReader(dataset, train_settings(batch_size=4), seed=3, workers=0)
    sides = set()
    for epoch in (0, 1):
        for first, second, both in zip(*parts[2 * epoch : 2 * epoch + 2], one.epoch(epoch)):
            images = dict(zip(first["image_id"].tolist(), first["image"]))
            images |= dict(zip(second["image_id"].tolist(), second["image"]))
            sides.add(both["image"].shape[2])
            for image_id, image in zip(both["image_id"].tolist(), both["image"]):
                np.testing.assert_array_equal(image, images[image_id])
    assert len(sides) > 1


def test_evaluation_keeps_the_order_and_tells_the_scales(dataset):
    reader = EvalReader(dataset, eval_settings(), workers=0)
    batches = list(reader)
    assert len(batches) == len(reader) == 4
    assert np.concatenate([batch["image_id"] for batch in batches]).tolist() == dataset.image_ids
    assert [len(batch["image"]) for batch in batches] == [4, 4, 4, 2]
    # Images are 40 high and 60 wide.
    assert np.allclose(batches[0]["scale_factor"], [64 / 40, 64 / 60])
    assert batches[0]["im_shape"].tolist() == [[64, 64]] * 4
    with EvalReader(dataset, eval_settings(), workers=2) as other:
        for _ in range(2):  # workers serve a second round
            assert all(same(*pair) for pair in zip(batches, other))


def test_endless_goes_round_and_continues(dataset):
    reader = EvalReader(dataset, eval_settings(), workers=0)
    ids = [batch["image_id"].tolist() for batch in itertools.islice(reader.endless(5), 7)]
    assert all(len(part) == 4 for part in ids)
    assert len(set(itertools.chain(*ids[:3]))) == 12
    assert ids[:3] != ids[3:6]
    later = next(reader.endless(5, start_step=6))
    assert later["image_id"].tolist() == ids[6]
    with EvalReader(dataset, eval_settings(), workers=1) as other:
        assert next(other.endless(5))["image_id"].tolist() == ids[0]


def test_endless_shares_out_each_step(dataset):
    together = EvalReader(dataset, eval_settings(), workers=0).endless(5)  # 4 of 12 images
    reader = EvalReader(dataset, eval_settings(batch_size=2), workers=0)
    shares = [reader.endless(5, shard=(rank, 2)) for rank in (0, 1)]
    for _ in range(7):
        whole = next(together)["image_id"].tolist()
        assert [next(share)["image_id"].tolist() for share in shares] == [whole[0::2], whole[1::2]]
    assert endless_sizes(dataset, 4, 1) == (4, len(dataset) // 4)
    assert endless_sizes(dataset, 100, 2) == (len(dataset) // 2, 1)
    with pytest.raises(DataError, match="fewer than the 99 devices"):
        next(reader.endless(5, shard=(0, 99)))


def test_crowds_are_no_targets(tmp_path):
    from tests.data.coco_sets import annotation, coco_content

    content = coco_content(["0.png", "1.png"])
    content["annotations"].append(annotation(9, 1, 3, [0, 0, 50, 30], crowd=1))
    dataset = load_coco(write_set(tmp_path, 2, content), training=True)
    assert dataset.records[0].is_crowd.tolist() == [False, True]
    settings = train_settings(
        sample_transforms=[{"Decode": {}}], batch_size=2, mosaic_epoch=-1, shuffle=False
    )
    batch = next(TrainReader(dataset, settings, seed=0, workers=0).epoch(0))
    assert batch["pad_gt_mask"].sum(axis=1).tolist() == [[1], [1]]
    assert batch["gt_class"][0].tolist() == [[0]]


def test_boxes_follow_the_image_when_its_size_is_not_the_annotated_one(tmp_path, caplog):
    from tests.data.coco_sets import annotation, coco_content

    content = coco_content(["0.png"], size=(100, 100))  # the file is 40 x 60
    content["annotations"] = [annotation(1, 1, 7, [50, 30, 40, 40]), annotation(2, 1, 7, [70, 0, 9, 9])]
    dataset = load_coco(write_set(tmp_path, 1, content, box_format="xywh"), training=True)
    settings = train_settings(
        sample_transforms=[{"Decode": {}}],
        batch_transforms=[*NORMALIZE],
        batch_size=1,
        shuffle=False,
    )
    batch = next(TrainReader(dataset, settings, seed=0, workers=0).epoch(0))
    assert batch["gt_bbox"].tolist() == [[[50, 30, 60, 40]]]
    assert "0.png is 60x40, but annotated as 100x100" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_transforms": []}, "TrainReader needs Permute"),
        ({"batch_transforms": NORMALIZE, "mosaic_epoch": -1}, "images of one batch differ in size"),
    ],
)
def test_transforms_that_make_no_batch(dataset, changes, message):
    with pytest.raises(ConfigError, match=message):
        list(TrainReader(dataset, train_settings(**changes), seed=0, workers=0).epoch(0))


def _cut(dataset, *numbers):
    for number in numbers:
        path = dataset.records[number].path
        with open(path, "rb") as stream:
            data = stream.read()
        with open(path, "wb") as stream:
            stream.write(data[:-20])


@pytest.mark.parametrize("workers", [0, 2])
def test_few_truncated_images_are_replaced_and_named_once(tmp_path, caplog, workers):
    dataset = load_coco(write_set(tmp_path, 101), training=True)
    _cut(dataset, 5)
    caplog.set_level(logging.WARNING, "picoquant")
    with TrainReader(dataset, train_settings(drop_last=False), seed=0, workers=workers) as reader:
        batches = [batch for epoch in range(2) for batch in reader.epoch(epoch)]
    assert 6 not in np.concatenate([batch["image_id"] for batch in batches])
    named = [r.getMessage() for r in caplog.records if "5.png is truncated" in r.getMessage()]
    assert len(named) == 1
    assert "going on without it" in named[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_one_percent_of_truncated_images_stops_training(tmp_path, workers):
    dataset = load_coco(write_set(tmp_path, 14), training=True)
    _cut(dataset, 5)
    message = "5.png is truncated.*1 of 14 images of TrainDataset"
    reader = TrainReader(dataset, train_settings(drop_last=False), seed=0, workers=workers)
    with reader, pytest.raises(DataError, match=message):
        list(reader.epoch(0))


def test_set_of_nothing_but_truncated_images_stops(tmp_path):
    dataset = load_coco(write_set(tmp_path, 4), training=True)
    _cut(dataset, 0, 1, 2, 3)
    with pytest.raises(DataError, match="truncated"):
        list(TrainReader(dataset, train_settings(), seed=0, workers=0).epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_stops_at_a_truncated_image(tmp_path, workers):
    dataset = load_coco(write_set(tmp_path, 101), training=False)
    _cut(dataset, 5)
    reader = EvalReader(dataset, eval_settings(), workers=workers)
    with reader, pytest.raises(DataError, match="5.png is truncated"):
        list(reader)


def test_what_workers_get_can_be_pickled_and_is_the_same(dataset, expected):
    reader = TrainReader(dataset, train_settings(), seed=3, workers=0)
    reader._maker = pickle.loads(pickle.dumps(reader._maker))
    assert same(next(reader.epoch(0)), expected[0][0])


def test_what_works_depends_on_the_epoch(dataset):
    """Mixup in epoch 0 gives more objects, an expansion until epoch 2 smaller ones; both then end."""
    steps = [{"Decode": {}}, {"Mixup": {}}, {"RandomExpand": {"ratio": 4, "prob": 0.0}}]
    batch = [{"BatchRandomResize": {"target_size": [64], "keep_ratio": False}}, *NORMALIZE]
    settings = train_settings(
        sample_transforms=steps, batch_transforms=batch, mosaic_epoch=-1, mixup_epoch=1, shuffle=False,
        transform_schedulers=[{"RandomExpand": {"start_epoch": 1, "stop_epoch": 2}}],
    )  # fmt: skip
    reader = TrainReader(dataset, settings, seed=3, workers=0)
    objects, areas = [], []
    for epoch in range(3):
        batches = list(reader.epoch(epoch))
        boxes = [batch["gt_bbox"][batch["pad_gt_mask"][..., 0] > 0] for batch in batches]
        objects.append(sum(map(len, boxes)))
        areas.append(np.concatenate([np.prod(part[:, 2:] - part[:, :2], axis=1) for part in boxes]).mean())
    assert objects[0] > 1.5 * objects[1] and objects[1] == objects[2]
    assert areas[1] < 0.7 * areas[2]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            [{"Pad": {"stop_epoch": 3}}],
            "transform_schedulers: Pad is none of the reader's transforms: Decode, Mosaic",
        ),
        (
            [{"Mosaic": {"end_epoch": 3}}],
            "every entry is .Name: .start_epoch: 0, stop_epoch: 10.., not .'Mosaic'",
        ),
        ({"Mosaic": {"stop_epoch": 3}}, None),
        ([{"Mosaic": {"stop_epoch": -3}}], "Mosaic.stop_epoch must be a whole number of at least 0"),
    ],
)
def test_a_schedule_that_is_not_understood(schedule, said):
    if said is None:  # one entry alone is a list of one
        assert train_settings(transform_schedulers=schedule).schedule == (("Mosaic", 0, 3),)
        return
    with pytest.raises(ConfigError, match=said):
        train_settings(transform_schedulers=schedule)

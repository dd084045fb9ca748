"""Settings built from PaddleDetection's sections, and the one knob for the input size."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from picoquant.data.input_size import largest_input, sizes_text, training_sizes, with_input_size
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.errors import ConfigError

NPU_READER = {
    "sample_transforms": [
        {"Decode": {}},
        {"Mosaic": {"prob": 0.6, "input_dim": [640, 640], "enable_mixup": True}},
        {"AugmentHSV": {"is_bgr": False, "hgain": 5, "sgain": 30, "vgain": 30}},
        {"RandomFlip": {"prob": 0.5}},
    ],
    "batch_transforms": [
        {
            "BatchRandomResize": {
                "target_size": [320, 352, 384, 416, 448, 480, 512],
                "random_size": True,
                "random_interp": True,
                "keep_ratio": False,
            }
        },
        {"NormalizeImage": {"mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True}},
        {"Permute": {}},
        {"PadGT": {}},
    ],
    "batch_size": 40,
    "shuffle": True,
    "drop_last": True,
    "mosaic_epoch": 180,
    "use_shared_memory": True,
}


def reader(**changes) -> ReaderSettings:
    return ReaderSettings.from_mapping({**NPU_READER, **changes}, "TrainReader")


def sizes(settings: ReaderSettings) -> list:
    return [tuple(size) for size in settings.batch_transforms[0].params["target_size"]]


def test_sections_become_settings():
    settings = reader()
    assert (settings.batch_size, settings.shuffle, settings.mosaic_epoch) == (40, True, 180)
    assert [spec.name for spec in settings.batch_transforms][-1] == "PadGT"
    assert pickle.loads(pickle.dumps(settings)) == settings
    dataset = DatasetSettings.from_mapping(
        "COCODataSet", {"dataset_dir": "d", "image_dir": "i", "anno_path": "a/b.json"}, "EvalDataset"
    )
    assert str(dataset.annotation_file) == "d/a/b.json"
    assert str(dataset.image_folder) == "d/i"
    assert dataset.section == "EvalDataset"


def test_absolute_paths_are_taken_as_they_are():
    settings = DatasetSettings(dataset_dir="d", image_dir="/images", anno_path="/a.json")
    assert str(settings.annotation_file) == "/a.json"
    assert str(settings.image_folder) == "/images"


def test_shuffle_and_drop_last_default_to_true_for_training_only():
    section = {"sample_transforms": [{"Decode": {}}]}
    assert ReaderSettings.from_mapping(section, "TrainReader").drop_last
    assert not ReaderSettings.from_mapping(section, "EvalReader").shuffle


def test_keys_that_nobody_reads_are_ignored_and_named(caplog):
    section = {"sample_transforms": [{"Decode": {}}], "bufsize": 4, "use_process": True, "num_workers": 2}
    assert ReaderSettings.from_mapping(section, "EvalReader").batch_size == 1
    message = "EvalReader: bufsize, use_process, num_workers: no key of picoquant or PaddleDetection, ignored"
    assert [record.getMessage() for record in caplog.records] == [message]


def test_a_repeated_data_set_is_not_repeated_without_a_word(caplog):
    for repeat in (1, 5):
        DatasetSettings.from_mapping("COCODataSet", {"anno_path": "x.json", "repeat": repeat}, "TrainDataset")
    assert [record.getMessage() for record in caplog.records] == [
        "TrainDataset.repeat: accepted, but without effect here; for repeat use more epochs"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bach_size": 3}, "TrainReader: unknown key bach_size .did you mean batch_size"),
        ({"batch_size": 0}, "TrainReader.batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": True}, "batch_size"),
        ({"shuffle": 1}, "TrainReader.shuffle must be true or false"),
        ({"mixup_epoch": 200}, "mixup_epoch"),
        ({"sample_transforms": []}, "must begin with one Decode"),
        ({"sample_transforms": "Decode"}, "must be a list"),
        ({"sample_transforms": [{"Decode": {}, "RandomFlip": {}}]}, "every entry is"),
        (
            {"sample_transforms": [{"Decode": {}}, {"Mosiac": {}}]},
            "TrainReader.sample_transforms: unknown transform Mosiac .did you mean Mosaic",
        ),
        (
            {"sample_transforms": [{"Decode": {}}, {"RandomFlip": {"probability": 1}}]},
            r"TrainReader.sample_transforms.RandomFlip: unknown key probability",
        ),
        (
            {"sample_transforms": [{"Decode": {}}, {"RandomFlip": {"prob": 1.5}}]},
            "RandomFlip: prob must lie between 0 and 1, not 1.5",
        ),
        ({"sample_transforms": [{"Decode": {}}, {"PadGT": {}}]}, "PadGT belongs into batch_transforms"),
        ({"batch_transforms": [{"BatchRandomResize": {"target_size": [3]}}]}, "keep_ratio is missing"),
        (
            {"batch_transforms": [{"Resize": {"target_size": [3, 4, 5], "keep_ratio": True}}]},
            "target_size must be a number or .height, width",
        ),
        ({"batch_transforms": [{"NormalizeImage": {"std": [0, 1, 1]}}]}, "std must have no 0"),
        (
            {"sample_transforms": [{"Decode": {}}, {"Mosaic": {"scale": [0, 1]}}]},
            "scale and mixup_scale must be greater than 0",
        ),
        ({"sample_transforms": [{"Decode": {}}, {"AugmentHSV": {"hgain": 3}}]}, "go together"),
    ],
)
def test_what_is_not_known_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        reader(**change)


@pytest.mark.parametrize(
    ("tag", "values", "message"),
    [
        ("COCODataset", {}, "EvalDataset: unknown data set !COCODataset .did you mean COCODataSet"),
        ("COCODataSet", {"annopath": "x"}, "EvalDataset: unknown key annopath .did you mean anno_path"),
        ("COCODataSet", {"image_dir": "x"}, "EvalDataset.anno_path is missing"),
        ("COCODataSet", {"anno_path": 3}, "EvalDataset.anno_path must be a path"),
        ("COCODataSet", {"anno_path": "x", "load_crowd": True}, "load_crowd: true is not supported"),
    ],
)
def test_data_set_keys_that_are_not_known(tag, values, message):
    with pytest.raises(ConfigError, match=message):
        DatasetSettings.from_mapping(tag, values, "EvalDataset")


def test_input_size_of_the_configuration_changes_nothing():
    settings = with_input_size(reader(), (416, 416))
    assert sizes(settings) == [(side, side) for side in (320, 352, 384, 416, 448, 480, 512)]
    assert settings.sample_transforms[1].params["input_dim"] == [640, 640]


def test_smaller_input_keeps_offsets_that_fit():
    # 96 of 416 is 23 %; of 320 that is 73.8, so offsets up to 64 stay; of 160 it is 36.9: 32.
    settings = with_input_size(reader(), (320, 320))
    assert sizes(settings) == [(side, side) for side in (256, 288, 320, 352, 384)]
    assert settings.sample_transforms[1].params["input_dim"] == [480, 480]  # 640 * 320 / 416 = 492
    assert sizes(with_input_size(reader(), (160, 160))) == [(128, 128), (160, 160), (192, 192)]
    assert sizes(with_input_size(reader(), (64, 64))) == [(64, 64)]


def test_input_that_is_no_square():
    assert sizes(with_input_size(reader(), (160, 320))) == [(128, 288), (160, 320), (192, 352)]


def test_input_size_reaches_what_is_padded():
    steps = [
        {"Decode": {}},
        {"RandomResize": {"target_size": [160, 240, [320, 320]]}},
        {"Pad": {"size": 320, "fill_value": 114}},
    ]
    made = with_input_size(
        ReaderSettings.from_mapping({"sample_transforms": steps}, "TrainReader"), (192, 192)
    )
    assert made.sample_transforms[1].params["target_size"] == [
        [96, 96],
        [128, 128],
        [192, 192],
    ]  # 240: 144, to even
    assert made.sample_transforms[2].params == {"size": [192, 192], "fill_value": 114}
    assert largest_input(made, (1, 1)) == (192, 192)
    box = ReaderSettings.from_mapping(
        {"sample_transforms": ["Decode", {"LetterBoxResize": {"target_size": 320}}]}, "A"
    )
    assert with_input_size(box, (64, 96)).preparation.size == (64, 96)
    drawn = {"RandomResize": {"target_size": [[64, 95], [80, 95]], "random_range": True}}
    ranged = [{"Decode": {}}, drawn, {"Pad": {"size": 96}}]
    with pytest.raises(
        ConfigError, match="input_size does not say what RandomResize with random_range draws from"
    ):
        with_input_size(ReaderSettings.from_mapping({"sample_transforms": ranged}, "TrainReader"), (96, 96))


@pytest.mark.parametrize(
    ("samples", "batches", "said"),
    [
        ([], [{"BatchRandomResize": {"target_size": [64, [96, 128]], "keep_ratio": False}}], "64x64 to 96x128"),
        ([{"Resize": {"target_size": [64, 96], "keep_ratio": False}}], [], "64x96"),
        ([{"RandomResize": {"target_size": [64, 96]}}, {"Pad": {"size": [96, 96]}}], [], "96x96"),
        ([{"Resize": {"target_size": 32, "keep_ratio": False}}],
         [{"BatchRandomResize": {"target_size": [96, 64], "keep_ratio": False}}], "64x64 to 96x96"),
    ],
)  # fmt: skip
def test_the_sizes_that_training_draws_are_said(samples, batches, said):
    values = {"sample_transforms": ["Decode", *samples], "batch_transforms": batches}
    assert sizes_text(training_sizes(ReaderSettings.from_mapping(values, "TrainReader"))) == said


def test_the_largest_batch_of_images_that_keep_their_ratio():
    batch = [{"BatchRandomResize": {"target_size": [[64, 96], [96, 128]], "keep_ratio": True}}]
    values = {
        "sample_transforms": ["Decode"],
        "batch_transforms": [*batch, {"PadBatch": {"pad_to_stride": 32}}],
    }
    # Of an upright and a lying image in one batch.
    assert largest_input(ReaderSettings.from_mapping(values, "TrainReader"), (1, 1)) == (128, 128)


def test_input_size_reaches_resize_wherever_it_is():
    section = {
        "sample_transforms": [{"Decode": {}}, {"Resize": {"target_size": [416, 416], "keep_ratio": False}}]
    }
    settings = with_input_size(ReaderSettings.from_mapping(section, "EvalReader"), (192, 256))
    assert settings.sample_transforms[1].params["target_size"] == [192, 256]


@pytest.mark.parametrize("size", [(100, 96), (32, 32)])
def test_input_sizes_that_the_network_cannot_take(size):
    with pytest.raises(ConfigError, match="input_size must be multiples of 32 of at least 64"):
        with_input_size(reader(), size)


def test_importing_settings_loads_neither_paddle_nor_opencv():
    code = (
        "import sys; import picoquant.data.settings, picoquant.data.formats.coco; "
        "assert not {'paddle', 'cv2'} & set(sys.modules); import picoquant.data.readers.reader; "
        "assert not [name for name in sys.modules if name.startswith('paddle')]"
    )
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], check=True)

"""Worker processes: they end when they should, and their failures are heard."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time

import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.readers import transport
from picoquant.data.readers.batches import BatchMaker, Task
from picoquant.data.readers.pool import WorkerPool
from picoquant.data.readers.reader import TrainReader
from picoquant.errors import DataError, PicoquantError
from tests.data.coco_sets import write_set
from tests.data.readers.test_reader import eval_settings, train_settings
from tests.processes import children, ended


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_coco(write_set(tmp_path_factory.mktemp("set"), 14), training=True)


def test_workers_stay_for_the_next_epoch_and_end_with_close(dataset, started):
    reader = TrainReader(dataset, train_settings(), seed=0, workers=2)
    list(reader.epoch(0))
    first = started()
    list(reader.epoch(1))
    assert len(first) == 2 and started() == first
    reader.close()
    assert ended(first)


def test_workers_end_when_the_reader_is_garbage(dataset, started):
    reader = TrainReader(dataset, train_settings(), seed=0, workers=1)
    next(reader.epoch(0))
    list(reader.epoch(1))
    workers = started()
    del reader
    gc.collect()
    assert ended(workers)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_workers_end_when_the_consumer_fails(dataset, error, started):
    reader = TrainReader(dataset, train_settings(), seed=0, workers=2)

    def consume():
        for _ in reader.epoch(0):
            workers.update(started())
            raise error

    workers: set[int] = set()
    with pytest.raises(error):
        consume()
    gc.collect()
    assert ended(workers)


def test_newer_iterator_ends_an_older_one(dataset):
    with TrainReader(dataset, train_settings(), seed=0, workers=1) as reader:
        older = reader.epoch(0)
        next(older)
        assert len(list(reader.epoch(1))) == 3
        with pytest.raises(RuntimeError, match="newer"):
            next(older)
        assert len(list(reader.epoch(1))) == 3


@pytest.mark.parametrize("begun", [(0, 0), (0, 1), (1, 0)])
def test_batches_that_were_begun_before_are_the_same(dataset, begun, started):
    expected = [batch["image_id"].tolist() for batch in TrainReader(dataset, train_settings(), 0, 0).epoch(0)]
    with TrainReader(dataset, train_settings(), seed=0, workers=2) as reader:
        reader.begin(*begun)
        first = started()
        found = [batch["image_id"].tolist() for batch in reader.epoch(0)]
        assert found == expected and len(first) == 2
        assert (started() == first) == (begun == (0, 0))  # others are begun anew
        assert [batch["image_id"].tolist() for batch in reader.epoch(0)] == expected
        reader.begin()
        workers = started()
    assert ended(workers)


def test_killed_worker_is_noticed(dataset, started):
    with TrainReader(dataset, train_settings(batch_size=1), seed=0, workers=1) as reader:
        batches = reader.epoch(0)
        next(batches)
        (worker,) = started()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(PicoquantError, match="a data worker was killed by signal 9.*worker_num"):
            list(batches)
        assert len(list(reader.epoch(0))) == 14  # a new round starts new workers


def test_worker_killed_before_it_has_its_data_set_is_noticed(dataset, started):
    """What it works with is sent while the caller goes on."""
    maker = BatchMaker(dataset, train_settings(batch_size=1), 0, targets=True, strict=False)
    maker.ballast = bytes(8 << 20)  # more than a socket holds
    pool = WorkerPool(maker, 2)
    tasks = [Task(0, step, (step,), (step,)) for step in range(6)]
    batches = pool.begin(tasks)
    for worker in started():
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(PicoquantError, match="a data worker was killed by signal 9"):
        list(batches)
    found = [batch.arrays["image_id"].tolist() for batch in pool.batches(tasks)]
    assert found == [[dataset.records[step].image_id] for step in range(6)]
    pool.close()


class FailingMaker(BatchMaker):
    """Fails in the worker in a way that is none of ours."""

    def make(self, task):
        raise ZeroDivisionError("by nothing")


def test_any_exception_of_a_worker_reaches_the_parent(dataset, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    maker = FailingMaker(dataset, eval_settings(), 0, targets=False, strict=True)
    pool = WorkerPool(maker, 1)
    with pytest.raises(DataError, match="a data worker failed: ZeroDivisionError: by nothing"):
        list(pool.batches([Task(0, 0, (0,), (0,))]))


def test_transform_that_fails_names_itself_and_the_image(dataset, monkeypatch):
    from picoquant.data.transforms.flip import RandomFlip

    def fail(self, sample, rng):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(RandomFlip, "__call__", fail)
    settings = train_settings(shuffle=False)
    with pytest.raises(DataError, match=r"RandomFlip failed on image .*0\.png: ZeroDivisionError: by"):
        list(TrainReader(dataset, settings, seed=0, workers=0).epoch(0))


_PARENT = """
import sys
sys.path[:] = {path!r}
from tests.data.coco_sets import write_set
from picoquant.data.formats.coco import load_coco
from picoquant.data.readers.reader import TrainReader
from tests.data.readers.test_reader import train_settings
from picoquant.data.settings import DatasetSettings
from pathlib import Path
dataset = load_coco(write_set(Path({root!r}), 14), True)
reader = TrainReader(dataset, train_settings(batch_size=1), seed=0, workers=2)
batches = reader.epoch(0)
next(batches)
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_workers_end_with_their_parent(tmp_path, how):
    code = _PARENT.format(path=[os.path.dirname(__file__), *sys.path], root=str(tmp_path))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "reading\n"
    workers = children(parent.pid)
    assert len(workers) == 2
    if how == "kill":
        parent.kill()
    else:
        parent.stdin.close()
    parent.wait(20)
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while not ended(workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ended(workers)


def test_messages_arrive_as_they_were_sent():
    import socket
    import threading

    import numpy as np

    arrays = {
        "large": np.arange(300_000, dtype=np.float32).reshape(3, -1),
        "strided": np.arange(12).reshape(3, 4).T,
        "empty": np.zeros((2, 0, 4), np.float32),
    }
    one, other = socket.socketpair()
    with one, other:
        sender = threading.Thread(target=transport.send, args=(one, ("head", 1), arrays))
        sender.start()
        head, received = transport.receive(other)
        sender.join()
        assert head == ("head", 1)
        assert all(np.array_equal(received[name], arrays[name]) for name in arrays)
        one.close()
        with pytest.raises(EOFError):
            transport.receive(other)

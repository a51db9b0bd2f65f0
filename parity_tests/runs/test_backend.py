"""How NumPy calls the frameworks: numbers keep their precision, values their order, threads their number."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
import torch

import pytorch_impl.backend as torch_backend
import tf2_impl.backend as tf_backend

both = pytest.mark.parametrize("backend", [torch_backend, tf_backend], ids=["torch", "tf"])


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads for items to be computed at once, in this test; TensorFlow's operations keep their one."""
    before = torch.get_num_threads()
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@both
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_arrays_become_tensors_of_the_same_values_and_type(backend: ModuleType, dtype: str) -> None:
    """A third is no number of single precision, and so would tell."""
    array = (np.arange(4) / 3).astype(dtype)
    back = np.asarray(backend.tensor(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert backend.evaluate(lambda x: x, array).tobytes() == array.tobytes()
    first, second = backend.evaluate(lambda x, twice: (x, x) if twice else x, array, True)
    assert first.tobytes() == second.tobytes() == array.tobytes()


@both
def test_values_come_in_the_order_of_their_items(backend: ModuleType, two_threads: None) -> None:
    """Also where the first takes the longest, and the function sees each item once."""
    seen = []

    def slow_at_first(item: int) -> int:
        time.sleep(0.02 / (1 + item))
        seen.append(item)
        return item**2

    assert list(backend.in_order(slow_at_first, iter(range(9)))) == [item**2 for item in range(9)]
    assert sorted(seen) == list(range(9))


@both
def test_few_items_are_taken_ahead(backend: ModuleType, two_threads: None) -> None:
    """A file larger than memory is read as its values are asked for: no more items ahead than threads."""
    taken = []
    values = backend.in_order(lambda item: item, (taken.append(item) or item for item in range(99)))
    for value in range(3):
        assert next(values) == value
        assert len(taken) <= value + 1 + 2
    values.close()


@both
def test_an_error_ends_the_values_and_nothing_else(backend: ModuleType, two_threads: None) -> None:
    """The next to compute finds the threads as they were."""

    def reciprocal(item: int) -> float:
        return 1 / item

    values = backend.in_order(reciprocal, [1, 2, 0, 4])
    assert [next(values), next(values)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert list(backend.in_order(reciprocal, [4, 5])) == [0.25, 0.2]
    assert torch.get_num_threads() == 2


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Those of its parent are not in it; were it to wait for them, it would wait for ever."""
    code = """
import os, signal, torch
from pytorch_impl.backend import in_order
torch.set_num_threads(2)
assert list(in_order(abs, [-1, 2])) == [1, 2]
if os.fork() == 0:
    signal.alarm(20)
    os._exit(int(list(in_order(abs, [-3, 4, -5])) != [3, 4, 5]))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_threads_are_as_many_as_before(two_threads: None) -> None:
    """PyTorch's workers have one thread each; whoever computes next, in any thread, has all again."""
    inside = list(torch_backend.in_order(lambda item: torch.get_num_threads(), range(4)))
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == [1] * 4
    assert later == [2] == [torch.get_num_threads()]


def test_operations_have_one_thread_each_and_items_all(two_threads: None) -> None:
    """Within the context an operation waits for no other thread; items still find as many as there were."""
    with torch_backend.one_thread_each(), torch_backend.one_thread_each():
        assert torch.get_num_threads() == 1
        found = set(torch_backend.in_order(lambda _: time.sleep(0.01) or threading.get_ident(), range(4)))
        assert torch.get_num_threads() == 1
    assert len(found) == 2
    assert torch.get_num_threads() == 2
    assert set(torch_backend.in_order(lambda _: torch.get_num_threads(), range(4))) == {1}


def test_products_have_all_their_digits() -> None:
    """A GPU may multiply with 10 bits unless it is told not to; this needs no GPU to be seen."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    tf.config.experimental.enable_tensor_float_32_execution(True)
    torch_backend.device("cpu", torch.get_num_threads())
    tf_backend.device("cpu", tf.config.threading.get_intra_op_parallelism_threads())
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_device_has_the_threads_it_is_given(two_threads: None) -> None:
    """PyTorch takes any number at any time; TensorFlow, once it has computed, says that it cannot."""
    torch_backend.device("cpu", 1)
    assert torch.get_num_threads() == 1
    tf.constant(1.0)  # TensorFlow has computed
    threads = tf.config.threading.get_intra_op_parallelism_threads() + 1
    with pytest.raises(ValueError, match=rf"--threads {threads}: TensorFlow has computed already"):
        tf_backend.device("cpu", threads)


@both
@pytest.mark.parametrize("name", ["meta", "abacus"])
def test_a_device_that_is_not_there_is_named(backend: ModuleType, name: str) -> None:
    """One line that says what to do."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() if backend is tf_backend else 1
    with pytest.raises(ValueError, match=rf"--device {name}: \w+ finds no such device here; use cpu"):
        backend.device(name, threads)


def test_gradients_are_recorded_where_the_caller_records_them(two_threads: None) -> None:
    """PyTorch's threads begin with recording, whatever holds where they are called."""
    for recording in (True, False):
        with torch.set_grad_enabled(recording):
            assert list(torch_backend.in_order(lambda _: torch.is_grad_enabled(), range(4))) == [recording] * 4


def test_items_are_computed_on_the_device_of_the_caller(two_threads: None) -> None:
    """Threads would make tensors where they please; a device that is not a CPU is given none."""
    here = threading.get_ident()
    with torch.device("meta"):
        found = list(torch_backend.in_order(lambda _: (torch.zeros(1).device.type, threading.get_ident()), range(4)))
    assert found == [("meta", here)] * 4
    code = """
import threading
import tensorflow as tf
from tf2_impl.backend import in_order
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.threading.set_inter_op_parallelism_threads(2)
with tf.device("/CPU:1"):
    found = list(in_order(lambda _: (tf.zeros(1).device[-5:], threading.get_ident()), range(4)))
assert {place for place, _ in found} == {"CPU:1"}, found
assert threading.get_ident() not in {thread for _, thread in found}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

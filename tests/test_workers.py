"""Jobs in parallel: their results, their errors, and what happens to processes that are killed."""

import os
import signal
import time

import pytest

from sersearch.errors import InputError
from sersearch.workers import in_parallel


def square(number: int) -> int:
    return number * number


def end_first(number: int) -> int:
    if number == 0:
        time.sleep(0.3)
    return number


def refuse_odd(number: int) -> int:
    if number % 2:
        raise InputError(f"{number}: is odd; give an even number")
    return number


def be_killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def large(number: int) -> bytes:
    return bytes(number)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_job_is_done_once(workers: int) -> None:
    assert sorted(in_parallel(square, range(7), workers)) == [0, 1, 4, 9, 16, 25, 36]
    assert list(in_parallel(square, [], workers)) == []


def test_results_come_in_the_order_in_which_calls_end() -> None:
    assert list(in_parallel(end_first, range(2), 2)) == [1, 0]


def test_results_and_jobs_may_be_larger_than_a_pipe() -> None:
    assert sorted(map(len, in_parallel(large, [10**7, 1, 10**7, 2], 2))) == [1, 2, 10**7, 10**7]
    assert list(in_parallel(len, [bytes(10**7), bytes(10**7)], 2)) == [10**7, 10**7]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_job_is_raised_as_it_was(workers: int) -> None:
    with pytest.raises(InputError) as raised:
        list(in_parallel(refuse_odd, [0, 1, 2, 4], workers))
    assert str(raised.value) == "1: is odd; give an even number"


def test_a_killed_worker_is_an_error_that_says_so() -> None:
    """Not a hang: `multiprocessing.Pool` would wait for its result forever."""
    with pytest.raises(ChildProcessError, match="a worker process was killed by SIGKILL"):
        list(in_parallel(be_killed, range(6), 2))


def test_a_caller_that_wants_no_more_results_does_not_wait() -> None:
    results = in_parallel(time.sleep, [0, 600, 600], 2)
    assert next(results) is None
    results.close()

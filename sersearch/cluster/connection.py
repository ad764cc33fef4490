"""Connecting to a Ray cluster, and what Ray says meanwhile."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

import ray

from sersearch.errors import InputError

CONNECTION_TIMEOUT_S = 10.0
"""How long connecting to a cluster may take."""

_TOKEN = re.compile("unauthenticated|invalid ?auth|auth[a-z]* ?token", re.IGNORECASE)


def connect(address: str) -> None:
    """Connect to the Ray cluster at an address.

    Raises:
        InputError: none answers there.
    """
    answers = False
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            # Ray itself would retry for minutes.
            socket.create_connection((host, int(port)), timeout=CONNECTION_TIMEOUT_S).close()
            answers = True
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types here, some of them Exception itself.
        ray.shutdown()
        reason = first_line(error)
        if answers or _TOKEN.search(str(error)):
            # A cluster with a token does not tell a driver without one what is wrong.
            raise InputError(
                f"--address {address} was given, but the Ray cluster there does not accept this process ({reason}): if "
                "it has a token, set RAY_AUTH_MODE=token and put its file into ~/.ray/auth_token; if it has none, "
                "set RAY_AUTH_MODE=disabled; if it is of another version, install that version of Ray"
            ) from error
        raise InputError(
            f"--address {address} was given, but no Ray cluster answers there ({reason}): start one with "
            "`ray start --head`, or leave --address out to work on this machine alone"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def output_to(file: Path) -> Iterator[None]:
    """Write what Ray prints to a file: Ray Tune's log, and what is said on both standard streams when nodes are lost.

    Ray's compiled parts write to the descriptor of standard error. What Python writes to `sys.stderr`, such as the
    progress of the search, is still seen.
    """
    logger = logging.getLogger("ray.tune")
    logger.handlers = [logging.FileHandler(file, delay=True)]
    logger.propagate = False
    with file.open("a") as log, redirect_stdout(log), _descriptor_to(log):
        yield


@contextmanager
def _descriptor_to(log: TextIO) -> Iterator[None]:
    """Lead descriptor 2 into a file, and `sys.stderr`, if it writes there, to where descriptor 2 led before."""
    stream = sys.stderr
    try:
        is_seen = stream.fileno() == 2
    except (AttributeError, OSError, io.UnsupportedOperation):
        is_seen = False
    if not is_seen:
        yield
        return
    seen = os.dup(2)
    screen = os.fdopen(seen, "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
    os.dup2(log.fileno(), 2)
    try:
        with redirect_stderr(screen):
            yield
    finally:
        os.dup2(seen, 2)
        with suppress(OSError):
            screen.close()

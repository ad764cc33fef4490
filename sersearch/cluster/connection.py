"""Connecting to a running Ray cluster."""

import logging
import socket

import ray

from sersearch.errors import InputError

CONNECTION_TIMEOUT_S = 10.0
"""How long connecting to a cluster may take."""


def connect(address: str) -> None:
    """Connect this process to a Ray cluster; `ray.shutdown` ends the connection.

    Args:
        address: of the cluster's head, such as 10.0.0.1:6379, or "auto".

    Raises:
        InputError: no Ray cluster answers at the address.
    """
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            # Ray itself would retry for minutes.
            socket.create_connection((host, int(port)), timeout=CONNECTION_TIMEOUT_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types here, some of them Exception itself.
        ray.shutdown()
        raise InputError(
            f"--address {address} was given, but no Ray cluster answers there ({first_line(error)}): start one with "
            "`ray start --head`, or leave --address out to work on this machine alone"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

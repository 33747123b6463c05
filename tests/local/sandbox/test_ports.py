"""Ports for programs that must be told where to listen."""

import os
import runpy
import socket

import pytest

from aep.google import ports


def test_ports_are_different_and_free_and_given_to_no_outgoing_connection() -> None:
    first, second = ports.free_ports(8), ports.free_ports(8)
    assert len({*first, *second}) == 16
    for port in (*first, *second):
        assert 20_000 <= port < 32_000
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_port_that_somebody_listens_on_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = ports.free_ports(1)
    monkeypatch.setattr(ports, "_numbers", iter(range(port - 20_000, port - 20_000 + 50)))
    with socket.create_server(("127.0.0.1", port)):
        assert port not in ports.free_ports(4)


def test_processes_that_start_together_take_others(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    for number in range(8):
        monkeypatch.setattr(os, "getpid", lambda number=number: 4000 + number)
        taken += runpy.run_path(ports.__file__)["free_ports"](50)
    assert len(set(taken)) == len(taken)


def test_it_says_when_there_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda _: False)
    with pytest.raises(OSError, match="no 3 free ports from 20000 to 31999"):
        ports.free_ports(3)

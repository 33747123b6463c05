"""Serving the console: its port, the links of the control socket, and the command that asks for one."""

import socket
from pathlib import Path

import pytest
import requests
import structlog

from aep.cli.console import ssh_command
from aep.console.address import Address
from aep.console.serving import serving
from aep.wiring import Platform
from event_platform.http import App
from event_platform.settings import Settings
from support.aep_here import run
from support.asgi import post
from support.one_pim import serve
from support.processes import free_port


@pytest.mark.provokes("console.not_served")
async def test_a_port_that_is_taken_is_one_warning_and_no_console(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    platform = Platform(Settings(dev=True), tmp_path, base_url="http://test", on_fault=faults.append)
    await platform.start()
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken, structlog.testing.capture_logs() as lines:
            address = Address("127.0.0.1", taken.getsockname()[1])
            async with serving(platform.parts, address, on_fault=faults.append) as routes:
                status = await post(App(routes), "/console/links", b"")
    finally:
        await platform.stop()

    assert [line["event"] for line in lines] == ["console.not_served"]
    assert lines[0]["error"].startswith("the port is taken by ")
    assert "--port" not in lines[0]["error"]
    assert "--console-port" in lines[0]["fix"]
    assert status == 409
    assert faults == []


async def test_port_0_turns_it_off(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    platform = Platform(Settings(dev=True), tmp_path, base_url="http://test", on_fault=faults.append)
    await platform.start()
    try:
        with structlog.testing.capture_logs() as lines:
            async with serving(platform.parts, Address("127.0.0.1", 0), on_fault=faults.append) as routes:
                status = await post(App(routes), "/console/links", b"")
    finally:
        await platform.stop()

    assert (lines, status) == ([], 409)


@pytest.mark.provokes("console.ready", "console.entered")
def test_the_command_prints_a_link_into_the_platform_that_runs(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, settings={"AEP_CONSOLE_PORT": str(port)}) as platform:
        ended = run("console", "--no-browser", "--data", str(tmp_path / "data"))
        url = ended.out.strip()
        assert url.startswith(f"http://127.0.0.1:{port}/console/enter?token=")
        session = requests.Session()
        session.trust_env = False
        token = url.partition("token=")[2]
        page = session.post(url.partition("?")[0], {"token": token}, timeout=30)
        assert (page.status_code, page.url) == (200, f"http://127.0.0.1:{port}/console")
        assert session.get(f"{platform.url}/console", timeout=30).status_code == 404
        assert token not in platform.stderr()
        assert platform.stop() == 0


def test_without_a_platform_the_command_says_so(tmp_path: Path) -> None:
    ended = run("console", "--data", str(tmp_path))

    assert ended.status == 1
    assert "start it with `aep serve`" in ended.err


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://127.0.0.1:8090/x", {}, None),
        ("https://console.example.com/x", {"SSH_CONNECTION": "a"}, None),
        (
            "http://127.0.0.1:8090/x",
            {"SSH_CONNECTION": "a", "USER": "aep"},
            "ssh -N -L 8090:127.0.0.1:8090 aep@",
        ),
    ],
)
def test_who_came_by_ssh_is_shown_the_way_of_the_port(
    url: str, environment: dict[str, str], expected: str | None
) -> None:
    shown = ssh_command(url, environment)

    assert shown is None if expected is None else shown is not None and shown.startswith(expected)

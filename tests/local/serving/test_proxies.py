"""The examples of proxies in `deploy/proxies/`: they pass what is public, and nothing else."""

import os
import pwd
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import trustme

from aep.wiring import Platform
from event_platform.ingest.credentials import SIGNED_BODY_LIMIT
from event_platform.settings import Settings
from support.components import optional
from support.processes import START_SECONDS, free_port, http, until

PROXIES = Path(__file__).parents[3] / "deploy" / "proxies"
NGINX, CADDY = ((PROXIES / name).read_text() for name in ("nginx.conf", "Caddyfile"))
HOST = "events.example.com"
INSIDE = ["/ready"]
"""Routes of the platform that are for its own machine."""
UNKNOWN = ["/", "/metrics", "/console", "/console/", "/api", "/healthy", "/ingested", "/openapi.json/x"]


@pytest.fixture
def public(tmp_path: Path) -> list[str]:
    """A path of each route that strangers and clients need."""
    platform = Platform(Settings(), tmp_path, base_url="http://127.0.0.1", on_fault=lambda error: None)
    paths = [re.sub(r"\{.*?\}", "x", route.path) for route in platform.app.routes]
    assert set(INSIDE) <= set(paths)
    return [path for path in paths if path not in INSIDE]


def nginx_passes(path: str) -> bool:
    (location,) = re.findall(r"location ~ (\S+) \{", NGINX)
    return re.search(location, path) is not None


def caddy_passes(path: str) -> bool:
    (patterns,) = re.findall(r"@public path (.*)", CADDY)
    return any(fnmatchcase(path, pattern) for pattern in patterns.split())


@pytest.mark.parametrize("passes", [nginx_passes, caddy_passes])
def test_the_examples_name_what_is_public(passes: Callable[[str], bool], public: list[str]) -> None:
    assert [path for path in public if not passes(path)] == []
    assert [path for path in [*INSIDE, *UNKNOWN] if passes(path)] == []


def test_the_examples_bound_bodies_and_idle_connections_as_the_platform_does() -> None:
    assert SIGNED_BODY_LIMIT == 20 * 1024 * 1024
    assert "client_max_body_size 20m;" in NGINX
    assert "max_size 20MiB" in CADDY
    assert "keepalive_timeout 60s;" in NGINX
    assert "keepalive 60s" in CADDY


# With the proxies themselves


@dataclass
class Upstream:
    """Stands in for the platform: remembers each request, and answers 200."""

    port: int = 0
    seen: list[tuple[str, dict[str, str], int]] = field(default_factory=list)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    stand_in = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = len(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            stand_in.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, length))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815 - names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Proxy:
    """The configuration of one of the proxies for this machine, its check and its start."""

    check: list[str]
    serve: list[str]
    port: int


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Returns the files of an authority, of a certificate by it, and of that one's key."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", HOST)
    files = folder / "authority.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(files[0])
    issued.cert_chain_pems[0].write_to_path(files[1])
    issued.private_key_pem.write_to_path(files[2])
    return files


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(folder: Path, upstream: int) -> Proxy:
    program, port = optional("nginx"), free_port()
    _, chain, key = certificate(folder)
    live = f"/etc/letsencrypt/live/{HOST}"
    site = replaced(
        NGINX,
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("    listen [::]:443 ssl;\n", ""),
        (f"{live}/fullchain.pem", str(chain)),
        (f"{live}/privkey.pem", str(key)),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.getuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"{user}daemon off;\npid {folder / 'nginx.pid'};\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{site}}}\n"
    )
    serve = [program, "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
    return Proxy([*serve, "-t"], serve, port)


def caddy(folder: Path, upstream: int) -> Proxy:
    program, port = optional("caddy"), free_port()
    _, chain, key = certificate(folder)
    site = replaced(
        CADDY,
        (f"{HOST} {{", f"https://{HOST}:{port} {{\n\tbind 127.0.0.1\n\ttls {chain} {key}"),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
    )
    configuration = folder / "Caddyfile"
    options = f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_sni {HOST}\n}}\n"
    configuration.write_text(options + site)
    given = ["--config", str(configuration), "--adapter", "caddyfile"]
    return Proxy([program, "validate", *given], [program, "run", *given], port)


@contextmanager
def running(proxy: Proxy, folder: Path) -> Iterator[None]:
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    log = folder / "proxy.log"
    with log.open("wb") as output:
        checked = subprocess.run(
            proxy.check, stdout=output, stderr=output, env=environment, check=False, timeout=60
        )
        assert checked.returncode == 0, log.read_text()
        started = subprocess.Popen(proxy.serve, stdout=output, stderr=output, env=environment)
    try:

        def listens() -> bool:
            assert started.poll() is None, log.read_text()
            return _answers(proxy, folder)

        until(listens, "the proxy answers", seconds=START_SECONDS)
        yield
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _answers(proxy: Proxy, folder: Path) -> bool:
    try:
        return call(proxy, folder, "/nothing").status_code == 404
    except requests.ConnectionError:
        return False


def call(proxy: Proxy, folder: Path, path: str, body: bytes | None = None) -> requests.Response:
    return http().request(
        "GET" if body is None else "POST",
        f"https://127.0.0.1:{proxy.port}{path}",
        data=body,
        headers={"Host": HOST, "X-Forwarded-For": "203.0.113.9"},
        verify=str(folder / "authority.pem"),
        timeout=30,
    )


@pytest.mark.parametrize("made", [nginx, caddy])
def test_a_proxy_passes_what_is_public_with_the_address_of_the_client(
    made: Callable[[Path, int], Proxy], upstream: Upstream, public: list[str], tmp_path: Path
) -> None:
    proxy = made(tmp_path, upstream.port)
    with running(proxy, tmp_path):
        assert {path: call(proxy, tmp_path, path).status_code for path in public} == dict.fromkeys(
            public, 200
        )
        assert [path for path, _, _ in upstream.seen] == public
        for _, headers, _ in upstream.seen:
            assert headers["x-forwarded-for"].split(", ")[-1] == "127.0.0.1"
            assert (headers["x-forwarded-proto"], headers["host"]) == ("https", HOST)
        del upstream.seen[:]
        refused = [*INSIDE, *UNKNOWN, "/api/v1/%2e%2e/%2e%2e/ready"]
        assert {path: call(proxy, tmp_path, path).status_code for path in refused} == dict.fromkeys(
            refused, 404
        )
        assert upstream.seen == []
        largest = call(proxy, tmp_path, "/ingest/events-api/x", bytes(SIGNED_BODY_LIMIT))
        assert largest.status_code == 200
        assert "Strict-Transport-Security" in largest.headers
        assert [length for _, _, length in upstream.seen] == [SIGNED_BODY_LIMIT]

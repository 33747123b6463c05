"""`aep doctor --deployed --stack`: what each function runs, by /health or by Cloud Run, and what to do."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from aep.doctor import release
from aep.doctor.findings import Check
from aep.doctor.release import StackOutputs, read_outputs
from aep.errors import BadOutputs, GoogleFailed
from support.aep_here import Ended, run

FUNCTIONS = ("manage", "ingest", "fanout", "deliver", "maintain", "notify")
NEW, OLD = "functions-0123456789abcdef.zip", "functions-fedcba9876543210.zip"
TOKEN = "a token of tests"


@dataclass
class Google:
    """Functions of which the public ones answer, and Cloud Run's API."""

    url: str = ""
    archives: dict[str, str] = field(default_factory=lambda: dict.fromkeys(FUNCTIONS, NEW))
    public: tuple[str, ...] = ("manage", "ingest")
    newest: dict[str, str] = field(default_factory=dict[str, str])
    status: int = 200
    asked: list[str] = field(default_factory=list[str])

    async def health(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.public:
            return web.Response(status=404, text="<html>Error: Page not found</html>")
        return web.json_response({"status": "ok", "version": "0.1.0", "archive": self.archives[name]})

    async def service(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        path = f"projects/my-project/locations/europe-west1/services/{name}"
        newest = self.newest.get(name, f"{name}-00001-abc")
        return self._answer(
            request,
            {
                "latestReadyRevision": f"{path}/revisions/{name}-00001-abc",
                "latestCreatedRevision": f"{path}/revisions/{newest}",
            },
        )

    async def revision(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        assert request.match_info["revision"] == f"{name}-00001-abc"
        other = {"name": "AEP_SECRETS_KEY", "valueSource": {"secretKeyRef": {"secret": "aep-secrets-key"}}}
        variables = [other, {"name": "AEP_ARCHIVE", "value": self.archives[name]}]
        return self._answer(request, {"containers": [{"image": "an image", "env": variables}]})

    def _answer(self, request: web.Request, content: Mapping[str, Any]) -> web.Response:
        self.asked.append(request.match_info["name"])
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert request.headers["x-goog-user-project"] == "my-project"
        return web.json_response(content if self.status == 200 else {}, status=self.status)

    def outputs(self) -> dict[str, Any]:
        return {
            "project": "my-project",
            "region": "europe-west1",
            "archive": NEW,
            "functions": {name: f"{self.url}/{name}" for name in FUNCTIONS},
            "managementUrl": self.url,
            "ingestUrl": f"{self.url}/ingest",
            "nextSteps": [],
        }

    async def checks(self) -> dict[str, Check]:
        """Those of the release, by function."""
        async with aiohttp.ClientSession() as session:
            stack = StackOutputs.model_validate(self.outputs())
            found = [each async for each in release.checks(session, stack, api=f"{self.url}/v2")]
        assert [each.name for each in found] == [f"release of {name}" for name in FUNCTIONS]
        return dict(zip(FUNCTIONS, found, strict=True))


@asynccontextmanager
async def served(google: Google) -> AsyncIterator[None]:
    app = web.Application()
    services = "/v2/projects/my-project/locations/europe-west1/services/{name}"
    handlers: Mapping[str, Callable[[web.Request], Awaitable[web.Response]]] = {
        "/{name}/health": google.health,
        services: google.service,
        f"{services}/revisions/{{revision}}": google.revision,
    }
    app.add_routes([web.get(path, handler) for path, handler in handlers.items()])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    google.url = f"http://127.0.0.1:{address[1]}"
    yield
    await runner.cleanup()


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    monkeypatch.setattr(release, "access_token", lambda: TOKEN)
    google = Google()
    async with served(google):
        yield google


def states(checks: Mapping[str, Check]) -> Mapping[str, str]:
    return {name: check.state.value for name, check in checks.items()}


async def test_public_functions_are_asked_and_cloud_run_for_the_others(google: Google) -> None:
    checks = await google.checks()
    assert states(checks) == dict.fromkeys(FUNCTIONS, "ok")
    assert set(google.asked) == {"fanout", "deliver", "maintain", "notify"}
    assert checks["ingest"].detail == f"runs {NEW} (/health, version 0.1.0)"
    assert checks["deliver"].detail == f"runs {NEW} (Cloud Run: deliver-00001-abc)"


@pytest.mark.parametrize("name", ["ingest", "deliver"])
async def test_a_function_whose_build_failed_is_named_with_the_cure(google: Google, name: str) -> None:
    google.archives[name] = OLD
    checks = await google.checks()
    assert states(checks) == dict.fromkeys(FUNCTIONS, "ok") | {name: "problem"}
    assert f"runs {OLD}" in checks[name].detail
    assert NEW in checks[name].detail
    assert "`pulumi config set attempt N`" in checks[name].detail


async def test_a_revision_that_does_not_start_is_named(google: Google) -> None:
    google.newest["deliver"] = "deliver-00002-xyz"
    checks = await google.checks()
    assert states(checks) == dict.fromkeys(FUNCTIONS, "ok") | {"deliver": "problem"}
    assert "deliver-00002-xyz is not ready" in checks["deliver"].detail


@pytest.mark.parametrize(
    ("status", "said"), [(401, "gcloud auth"), (403, "roles/run.viewer"), (404, "no such"), (500, "500")]
)
async def test_what_cloud_run_refuses_is_a_problem_and_not_silence(
    google: Google, status: int, said: str
) -> None:
    google.status = status
    checks = await google.checks()
    assert states(checks) == dict.fromkeys(FUNCTIONS, "problem") | {"manage": "ok", "ingest": "ok"}
    assert said in checks["notify"].detail


async def test_without_credentials_they_are_looked_for_once(
    google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def nobody() -> str:
        looked.append(1)
        raise GoogleFailed("sign in by `gcloud auth application-default login`")

    monkeypatch.setattr(release, "access_token", nobody)
    checks = await google.checks()
    assert states(checks) == dict.fromkeys(FUNCTIONS, "problem") | {"manage": "ok", "ingest": "ok"}
    assert "gcloud auth" in checks["fanout"].detail
    assert len(looked) == 1


async def doctor(google: Google, stack: str) -> tuple[Ended, dict[str, dict[str, Any]]]:
    words = ("doctor", "--deployed", f"{google.url}/manage", "--json", "--stack", stack)
    ended = await asyncio.to_thread(run, *words)
    return ended, {check["name"]: check for check in orjson.loads(ended.out)}


async def test_the_command_compares_with_a_file_or_standard_input(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.public = FUNCTIONS  # as on this machine
    google.archives["notify"] = OLD
    file = tmp_path / "outputs.json"
    file.write_bytes(orjson.dumps(google.outputs()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    for stack in (str(file), "-"):
        ended, checks = await doctor(google, stack)
        assert ended.status == 1
        assert {name: check["state"] for name, check in checks.items() if "release" in name} == {
            f"release of {name}": "problem" if name == "notify" else "ok" for name in FUNCTIONS
        }
        assert f"{google.url}/ingest answered" in checks["ingest"]["detail"]  # where the stack says it is


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "pulumi stack output --json"),
        (b"[]", "pulumi stack output --json"),
        (b'{"project": "p", "region": "r", "archive": "a", "ingestUrl": "u"}', "functions: "),
        (b'{"project": "p", "region": "r", "archive": "", "ingestUrl": "u", "functions": {}}', "archive: "),
        (b" " * (release.MAX_OUTPUTS + 1), "more than"),
        (None, "cannot be read"),
    ],
)  # fmt: skip
def test_outputs_that_are_none_are_one_line(tmp_path: Path, text: bytes | None, said: str) -> None:
    file = tmp_path / "outputs.json"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(BadOutputs, match=said):
        read_outputs(str(file))
    ended = run("doctor", "--deployed", "https://events.example.com", "--stack", str(file))
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert run("doctor", "--stack", str(file)).status == 2

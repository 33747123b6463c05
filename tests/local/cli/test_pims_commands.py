"""`aep pims`: the registry of PIMs in the data folder and in a file, and a running server that follows."""

import base64
import hashlib
import io
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.cli import main, registry
from aep.store.running import folders_in_use
from support.processes import Child, Client, send_events, server, until

PIM = "https://pim.example.com"
REGISTRY_KEY = base64.b64encode(bytes(range(32))).decode()
KEY_OF_PIM = hashlib.sha256(PIM.encode()).hexdigest()[:16]
FOLLOWS_WITHIN = 5.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return orjson.loads(self.out)


Aep = Callable[..., Ended]


@pytest.fixture
def aep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aep:
    """Runs a command line in this process, from its words to its exit status."""

    def run(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["aep", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), out, err)

    return run


Place = tuple[str, str | Path]
"""Where the registry is: the option that says so, and its value."""


@pytest.fixture
def on_google(firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The registry of a project that has a key and no entry yet."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    monkeypatch.setenv("AEP_REGISTRY_KEY", REGISTRY_KEY)
    return "--google", project


@pytest.fixture(params=["data", "pims", pytest.param("google", marks=pytest.mark.emulators)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each place that a registry can be in."""
    if request.param == "google":
        return request.getfixturevalue("on_google")
    return f"--{request.param}", tmp_path / ("folder" if request.param == "data" else "pims.json")


def contents(path: Path) -> bytes:
    """Every byte of a file, or of all files in a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return b"".join(file.read_bytes() for file in files if file.is_file())


def test_add_prints_the_new_secrets_once(aep: Aep, place: Place) -> None:
    added = aep("pims", "add", PIM, *place, "--json").json
    assert list(added) == [
        "url",
        "key",
        "auth",
        "ingest_path",
        "events_api_path",
        "relay_path",
        "ingest_key",
        "relay_secret",
    ]
    assert (added["url"], added["key"], added["auth"]) == (PIM, KEY_OF_PIM, "token-info")
    again = aep("pims", "add", PIM, *place, "--json").json
    assert again == {
        name: value for name, value in added.items() if name not in ("ingest_key", "relay_secret")
    }


def test_add_says_where_each_secret_goes(aep: Aep, place: Place) -> None:
    first, second = aep("pims", "add", PIM, *place), aep("pims", "add", PIM, *place)
    assert first.status == second.status == 0
    assert re.search(r"^Ingest key \(shown only now\):\n  [\w-]{43}\n", first.out, re.MULTILINE)
    assert "/ingest\n" in first.out
    assert "shown only now" in first.out
    assert "Bearer" not in second.out
    assert "shown only now" not in second.out


def test_add_prints_the_urls_of_both_other_ways_in(
    aep: Aep, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEP_PUBLIC_URL", "https://events.example.com")
    monkeypatch.setenv("AEP_INGEST_URL", "https://events.example.com/ingest")  # a project's may be elsewhere
    out = aep("pims", "add", PIM, *place).out
    assert f"  https://events.example.com/ingest/events-api/{KEY_OF_PIM}\n" in out
    assert f"  https://events.example.com/ingest/relay/{KEY_OF_PIM}\n" in out
    assert f"aep pims add {PIM} --events-api-secret -" in out


def test_the_secret_of_the_events_api_is_read_from_standard_input_and_the_one_before_kept(
    aep: Aep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--pims", tmp_path / "pims.json")
    for secret in ("the-first-secret", "the-second-secret", "the-second-secret", "the-third-secret"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{secret}\n"))
        ended = aep("pims", "add", PIM, *place, "--events-api-secret", "-")
        assert ended.status == 0
        assert "press Test in the PIM" in ended.out
        assert secret not in ended.out
    (entry,) = orjson.loads(place[1].read_bytes())
    assert entry["events_api_secret"] == ["the-third-secret", "the-second-secret"]


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("my-secret", "", "takes - and reads"),
        ("-", "\n", "no secret on standard input"),
        ("-", "my-secret\n", "at least 16"),
    ],
)
def test_a_secret_is_never_a_word_of_the_command_and_never_empty(
    aep: Aep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, text: str, told: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    ended = aep("pims", "add", PIM, "--pims", tmp_path / "pims.json", "--events-api-secret", option)
    assert ended.status == 2
    assert told in ended.err
    assert "my-secret" not in ended.err
    assert not (tmp_path / "pims.json").exists()


def test_add_says_where_the_registry_is_and_whether_it_made_it(
    aep: Aep, place: Place, tmp_path: Path
) -> None:
    first, second = aep("pims", "add", PIM, *place), aep("pims", "add", PIM, *place)
    where = f"the Firestore of {place[1]}" if place[0] == "--google" else place[1]
    assert f"registered in {where} " in first.out
    assert (f"new data folder {place[1]}" in first.err) == (place[0] == "--data")
    assert second.err == ""
    assert not (tmp_path / "aep-data").exists()


@pytest.mark.parametrize(
    "words", [("client", PIM, "erp"), ("clients", PIM), ("revoke", PIM, "erp"), ("remove", PIM)]
)
def test_only_add_makes_a_registry(aep: Aep, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = aep("pims", *words, "--data", tmp_path / "none")
    assert ended.status == 2
    assert f"no registry in {tmp_path / 'none'}" in ended.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("told", ["nothing", "option", "variable", "file", "registry"])
def test_no_registry_is_made_beside_a_platform_that_runs_elsewhere_unless_told_so(
    aep: Aep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "folders_in_use", lambda: {Path("/var/lib/aep")})
    if told == "registry":
        aep("pims", "add", "https://other.example.com", "--data", "aep-data")
    if told == "variable":
        monkeypatch.setenv("AEP_DATA", "aep-data")
    options = {"option": ("--data", "aep-data"), "file": ("--pims", "pims.json")}.get(told, ())
    ended = aep("pims", "add", PIM, *options)
    if told != "nothing":
        assert ended.status == 0, ended.err
        return
    assert ended.status == 2
    assert f"no registry in {tmp_path / 'aep-data'}" in ended.err
    assert "a platform runs on /var/lib/aep: name its folder with --data" in ended.err
    assert not any(tmp_path.iterdir())


def test_list_shows_the_entries_and_never_a_secret(aep: Aep, place: Place) -> None:
    assert aep("pims", "list", *place, "--json").json == []
    added = aep("pims", "add", PIM, *place, "--json").json
    aep("pims", "add", "https://keyed.example.com", *place, "--auth", "platform-key")
    issued = aep("pims", "client", "https://keyed.example.com", "erp", *place, "--json").json
    rows = aep("pims", "list", *place, "--json").json
    assert next(row for row in rows if row["url"] == PIM) == {
        "url": PIM,
        "key": KEY_OF_PIM,
        "auth": "token-info",
        "ingest_path": "/ingest",
        "events_api_path": f"/ingest/events-api/{KEY_OF_PIM}",
        "relay_path": f"/ingest/relay/{KEY_OF_PIM}",
    }
    assert {row["url"]: row["auth"] for row in rows} == {
        PIM: "token-info",
        "https://keyed.example.com": "platform-key",
    }
    for listed in (aep("pims", "list", *place), aep("pims", "list", *place, "--json")):
        for secret in (added["ingest_key"], added["relay_secret"], issued["key"]):
            assert secret not in listed.out
            assert hashlib.sha256(secret.encode()).hexdigest() not in listed.out


def test_a_url_is_one_entry_however_it_is_written(aep: Aep, place: Place) -> None:
    first = aep("pims", "add", "https://PIM.example.com:443/", *place, "--json").json
    aep("pims", "add", f"{PIM}/", *place)
    assert [row["url"] for row in aep("pims", "list", *place, "--json").json] == [PIM]
    assert (first["url"], first["key"]) == (PIM, KEY_OF_PIM)


@pytest.mark.parametrize(
    ("option", "field", "other"),
    [("--rotate", "ingest_key", "relay_secret"), ("--rotate-relay", "relay_secret", "ingest_key")],
)
def test_rotation_adds_one_and_keeps_the_one_before(
    aep: Aep, tmp_path: Path, option: str, field: str, other: str
) -> None:
    place = ("--pims", tmp_path / "pims.json")
    first = aep("pims", "add", PIM, *place, "--json").json[field]
    rotated = aep("pims", "add", PIM, *place, option, "--json").json
    second = rotated[field]
    assert second != first
    assert other not in rotated
    (entry,) = orjson.loads(place[1].read_bytes())
    assert entry[field] == [second, first]
    third = aep("pims", "add", PIM, *place, option, "--json").json[field]
    (entry,) = orjson.loads(place[1].read_bytes())
    assert entry[field] == [third, second]
    assert len(entry[other]) == 1


def test_a_platform_key_is_stored_as_its_hash_and_another_goes_beside_it(aep: Aep, tmp_path: Path) -> None:
    place = ("--pims", tmp_path / "pims.json")
    aep("pims", "add", PIM, *place, "--auth", "platform-key")

    def key_of(client_id: str, *options: str) -> str:
        return aep("pims", "client", PIM, client_id, *place, *options, "--json").json["key"]

    erp, shop, erp_again = key_of("erp"), key_of("shop", "--username", "julia"), key_of("erp", "--key")
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in (erp, shop, erp_again)]
    (entry,) = orjson.loads(place[1].read_bytes())
    first, second = entry["clients"]
    assert (first["client_id"], first["key_sha256"]) == ("erp", hashes[2])
    assert [each["key_sha256"] for each in first["previous_keys"]] == [hashes[0]]
    assert second == {"client_id": "shop", "key_sha256": hashes[1], "username": "julia"}
    assert not any(key.encode() in contents(place[1]) for key in (erp, shop, erp_again))
    key_of("erp", "--key", "--overlap", "0s")
    (entry,) = orjson.loads(place[1].read_bytes())
    assert "previous_keys" not in entry["clients"][0]


@pytest.mark.parametrize("auth", ["token-info", "platform-key", "probe"])
def test_a_username_is_set_for_every_way_and_touches_no_key(aep: Aep, place: Place, auth: str) -> None:
    aep("pims", "add", PIM, *place, "--auth", auth)
    made = aep("pims", "client", PIM, "erp", *place, "--username", "erp_1", "--json").json
    assert ("key" in made) == (auth == "platform-key")
    changed = aep("pims", "client", PIM, "erp", *place, "--username", "erp_2", "--json").json
    keys = 1 if auth == "platform-key" else 0
    row = {"client_id": "erp", "username": "erp_2", "platform_keys": keys, "previous_keys_until": []}
    assert changed == {"url": PIM} | row
    assert aep("pims", "clients", PIM, *place, "--json").json == [row]
    assert aep("pims", "client", PIM, "erp", *place, "--username", "", "--json").json["username"] is None


def test_a_client_that_has_a_key_gets_another_only_when_told_so(aep: Aep, place: Place) -> None:
    aep("pims", "add", PIM, *place, "--client", "erp")  # as a client of token-info, without a key
    aep("pims", "add", PIM, *place, "--auth", "platform-key")
    assert "key" in aep("pims", "client", PIM, "erp", *place, "--json").json
    again = aep("pims", "client", PIM, "erp", *place)
    assert (again.status, "X-PIM-TOKEN" in again.out, "--key" in again.out) == (0, False, True)
    for _ in range(4):
        assert aep("pims", "client", PIM, "erp", *place, "--key").status == 0
    before = aep("pims", "clients", PIM, *place, "--json").json
    assert (before[0]["platform_keys"], len(before[0]["previous_keys_until"])) == (5, 4)
    too_many = aep("pims", "client", PIM, "erp", *place, "--key")
    assert (too_many.status, "--overlap 0" in too_many.err) == (2, True)
    assert aep("pims", "clients", PIM, *place, "--json").json == before


def test_clients_are_listed_and_revoked(aep: Aep, place: Place) -> None:
    aep("pims", "add", PIM, *place, "--auth", "platform-key")
    assert "No client" in aep("pims", "clients", PIM, *place).out
    key = aep("pims", "client", PIM, "erp", *place, "--json").json["key"]
    aep("pims", "client", PIM, "shop", *place, "--username", "shop_1")
    listed = aep("pims", "clients", PIM, *place).out
    assert "erp" in listed
    assert "shop_1" in listed
    for secret in (key, hashlib.sha256(key.encode()).hexdigest()):
        assert secret not in listed
    assert "stay as they are" in aep("pims", "revoke", PIM, "erp", *place).out
    assert [row["client_id"] for row in aep("pims", "clients", PIM, *place, "--json").json] == ["shop"]
    gone = aep("pims", "revoke", PIM, "erp", *place)
    assert (gone.status, "not listed" in gone.err) == (2, True)


def test_the_identifier_attribute_is_set_kept_and_removed(aep: Aep, tmp_path: Path) -> None:
    place = ("--pims", tmp_path / "pims.json")

    def kept(*options: str) -> str | None:
        assert aep("pims", "add", PIM, *place, *options).status == 0
        (entry,) = orjson.loads(place[1].read_bytes())
        return entry.get("identifier_attribute")

    assert kept("--identifier-attribute", "sku") == "sku"
    assert kept() == "sku"
    assert kept("--identifier-attribute", "") is None


def test_clients_to_probe_for_are_listed_and_added_to(aep: Aep, tmp_path: Path) -> None:
    place = ("--pims", tmp_path / "pims.json")
    aep("pims", "add", PIM, *place, "--auth", "probe", "--client", "erp", "--client", "erp")
    aep("pims", "add", PIM, *place, "--client", "shop")
    (entry,) = orjson.loads(place[1].read_bytes())
    assert (entry["auth"], entry["clients"]) == ("probe", [{"client_id": "erp"}, {"client_id": "shop"}])


def test_remove_takes_one_entry_away(aep: Aep, place: Place) -> None:
    for url in (PIM, "https://other.example.com"):
        aep("pims", "add", url, *place)
    assert (
        aep("pims", "remove", f"{PIM}/", *place).out
        == f"Removed {PIM}: its events and its clients are refused from now on.\n"
    )
    assert [row["url"] for row in aep("pims", "list", *place, "--json").json] == ["https://other.example.com"]
    again = aep("pims", "remove", PIM, *place)
    assert again.status == 2
    assert PIM in again.err


def test_a_pattern_is_listed_and_removed_as_it_is_written(aep: Aep, tmp_path: Path) -> None:
    file = tmp_path / "pims.json"
    file.write_text('[{"host_pattern": "*.cloud.example.com"}]')
    (row,) = aep("pims", "list", "--pims", file, "--json").json
    assert (row["url"], row["ingest_path"]) == ("*.cloud.example.com", "")
    removed = aep("pims", "remove", "*.cloud.example.com", "--pims", file, "--json").json
    assert removed == {"removed": "*.cloud.example.com"}
    assert orjson.loads(file.read_bytes()) == []


def test_the_file_is_its_owners_alone_even_if_it_was_not_before(aep: Aep, tmp_path: Path) -> None:
    file = tmp_path / "new-folder" / "pims.json"
    aep("pims", "add", PIM, "--pims", file)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    aep("pims", "add", PIM, "--pims", file, "--rotate")
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["pims.json"]


def test_the_data_folder_is_its_owners_alone_and_holds_no_secret_in_the_clear(
    aep: Aep, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    added = aep("pims", "add", PIM, "--data", folder, "--auth", "platform-key", "--json").json
    key = aep("pims", "client", PIM, "erp", "--data", folder, "--json").json["key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secrets.key").stat().st_mode & 0o777 == 0o600
    stored = contents(folder)
    assert PIM.encode() in stored
    for secret in (added["ingest_key"], added["relay_secret"], key):
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("add", "no url"), "no url"),
        (("add", "ftp://pim.example.com"), "https://"),
        (("add", "https://user:pass@pim.example.com"), "user name"),
        (("add", f"{PIM}?query"), "base URL"),
        (("add", f"{PIM}/new", "--auth", "probe", "--client", ""), "client_id"),
        (("add", f"{PIM}/new", "--identifier-attribute", "no code"), "identifier_attribute"),
        (("client", PIM, ""), "client_id"),
        (("client", PIM, "x" * 257), "client_id"),
        (("client", "https://unknown.example.com", "erp"), "aep pims add"),
        (("client", "https://info.example.com", "erp"), "--auth platform-key"),
        (("client", "no url", "erp"), "no url"),
        (("client", "https://info.example.com", "erp", "--key", "--username", "x"), "--auth platform-key"),
        (("client", PIM, "erp", "--overlap", "60"), "--key"),
        (("client", PIM, "erp", "--key", "--overlap", "-1"), "--overlap must be a number with"),
        (("client", PIM, "erp", "--key", "--overlap", "31d"), "--overlap must be at most 30d"),
        (("clients", "https://unknown.example.com"), "aep pims add"),
        (("revoke", PIM, "unknown"), "aep pims clients"),
        (("remove", "https://unknown.example.com"), "aep pims list"),
        (("remove", "no url"), "no url"),
    ],
)
def test_wrong_input_is_one_line_and_status_2_and_changes_nothing(
    aep: Aep, place: Place, words: tuple[str, ...], named: str
) -> None:
    aep("pims", "add", PIM, *place, "--auth", "platform-key")
    aep("pims", "add", "https://info.example.com", *place)
    before = aep("pims", "list", *place, "--json").json
    ended = aep("pims", *words, *place)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("aep: ")
    assert ended.err.count("\n") == 1
    assert named in ended.err
    assert aep("pims", "list", *place, "--json").json == before


@pytest.mark.parametrize("document", ["", "{}", "[]", '{"url": "https://pim.example.com"}'])
def test_a_damaged_entry_is_listed_with_the_cure_and_can_be_removed(
    aep: Aep, tmp_path: Path, document: str
) -> None:
    other, place = "https://other.example.com", ("--data", tmp_path / "folder")
    for url in (PIM, other):
        aep("pims", "add", url, *place)
    with closing(sqlite3.connect(tmp_path / "folder" / "aep.db")) as connection, connection:
        connection.execute("UPDATE tenants SET document = ? WHERE name = ?", (document, other))
    listed = aep("pims", "list", *place, "--json")
    assert (listed.status, [row["url"] for row in listed.json]) == (0, [PIM])
    assert listed.err.count("\n") == 1
    assert f"the entry of {other} cannot be understood" in listed.err
    assert f"`aep pims remove {other} --data {tmp_path / 'folder'}`" in listed.err
    assert aep("pims", "remove", other, *place).status == 0
    assert aep("pims", "list", *place).err == ""
    assert aep("pims", "add", other, *place).status == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no json", "JSON"),
        ("{}", "array"),
        ("[7]", "entry 1"),
        ('[{"url": "https://a.example.com"}, {"url": "https://b.example.com", "aut": "x"}]', "entry 2, aut"),
        ('[{"url": "https://a.example.com"}, {"url": "https://A.example.com/"}]', "same"),
        ('[{"host_pattern": "*.cloud.example.com", "ingest_key": "the-ingest-key"}]', "management only"),
    ],
)
@pytest.mark.parametrize("words", [("list",), ("add", PIM), ("remove", PIM), ("client", PIM, "erp")])
def test_a_bad_file_is_one_line_and_status_2_and_stays_as_it_is(
    aep: Aep, tmp_path: Path, words: tuple[str, ...], text: str, named: str
) -> None:
    file = tmp_path / "pims.json"
    file.write_text(text)
    ended = aep("pims", *words, "--pims", file)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert named in ended.err
    assert "the-ingest-key" not in ended.err
    assert file.read_text() == text


def test_a_wrong_setting_is_one_line_with_its_name(
    aep: Aep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEP_TIMEOUT", "soon")
    ended = aep("pims", "add", PIM, "--data", tmp_path / "folder")
    assert ended.status == 2
    assert ended.err.startswith("aep: AEP_TIMEOUT: ")
    assert ended.err.count("\n") == 1


OTHER_KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("in_file", "in_environment", "named"),
    [
        (None, None, "secrets.key is missing"),
        (OTHER_KEY, None, "another key"),
        ("no key", None, "secrets.key does not hold a key"),
        ("\xff", None, "secrets.key does not hold a key"),
        ("", OTHER_KEY, "AEP_SECRETS_KEY"),
        ("", "no key", "AEP_SECRETS_KEY"),
    ],
)
def test_a_folder_whose_key_is_not_at_hand_is_one_line_that_says_which_key_is_wrong(
    aep: Aep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_file: str | None,
    in_environment: str | None,
    named: str,
) -> None:
    folder = tmp_path / "folder"
    aep("pims", "add", PIM, "--data", folder)
    (folder / "secrets.key").unlink()
    if in_file is not None:
        (folder / "secrets.key").write_text(in_file, encoding="latin-1")
    if in_environment is not None:
        monkeypatch.setenv("AEP_SECRETS_KEY", in_environment)
    ended = aep("pims", "list", "--data", folder)
    assert ended.status != 0
    assert ended.err.count("\n") == 1
    assert named in ended.err
    assert OTHER_KEY not in ended.err


# A running server

KEPT = {"url": "https://kept.example.com", "ingest_key": "the-ingest-key-of-the-kept-pim"}


@dataclass(frozen=True)
class Running:
    serve: Child
    data: Path
    file: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("pims-commands")
    data, file = folder / "data", folder / "pims.json"
    file.write_bytes(orjson.dumps([KEPT]))
    with server(folder, "serve", "--data", str(data), "--pims", str(file)) as serve:
        yield Running(serve, data, file)


def event() -> dict[str, Any]:
    author = {"identifier": "julia", "type": "user"}
    data = {"product": {"uuid": "fc24e6c3-933c-4a93-8a81-e5c703d134d5"}, "author": author}
    return {"id": "1", "type": "com.akeneo.pim.v1.product.updated", "data": data}


def test_a_running_server_follows_every_change_within_5_seconds(aep: Aep, running: Running) -> None:
    """In rounds, one wait each: in the folder, in the file, and a client's key at the same time."""
    places: dict[str, tuple[str, Path]] = {
        "https://stored.example.com": ("--data", running.data),
        "https://listed.example.com": ("--pims", running.file),
    }
    keyed = ("https://keyed.example.com", "--data", running.data)

    def secrets_of(*options: str) -> list[str]:
        return [
            aep("pims", "add", url, *place, *options, "--json").json["ingest_key"]
            for url, place in places.items()
        ]

    def new_client_key(*options: str) -> str:
        return aep("pims", "client", keyed[0], "erp", *keyed[1:], *options, "--json").json["key"]

    def statuses(ingest_keys: list[str], client_key: str) -> list[int]:
        answers = [send_events(running.serve.url, key, event()) for key in ingest_keys]
        client = Client(running.serve.url, keyed[0], client_key, "erp")
        return [*answers, client.call("GET", "/subscribers").status_code]

    def follows(ingest_keys: list[str], client_key: str, expected: list[int]) -> None:
        what = f"the answers {expected}"
        until(lambda: statuses(ingest_keys, client_key) == expected, what, seconds=FOLLOWS_WITHIN)

    first = secrets_of()
    aep("pims", "add", *keyed, "--auth", "platform-key")
    first_client_key = new_client_key()
    follows(first, first_client_key, [202, 202, 200])

    second, second_client_key = secrets_of("--rotate"), new_client_key("--key")
    follows(second, second_client_key, [202, 202, 200])
    assert statuses(first, first_client_key) == [202, 202, 200]

    for url, place in places.items():
        assert aep("pims", "remove", url, *place).status == 0
    aep("pims", "remove", *keyed)
    follows(second, second_client_key, [401, 401, 401])
    assert statuses(first, first_client_key) == [401, 401, 401]


def test_the_key_of_a_running_app_is_good_until_its_overlap_or_the_client_ends(
    aep: Aep, running: Running
) -> None:
    keyed = ("https://overlap.example.com", "--data", running.data)

    def new_key(*options: str) -> str:
        return aep("pims", "client", keyed[0], "erp", *keyed[1:], *options, "--json").json["key"]

    def statuses(*keys: str) -> list[int]:
        clients = [Client(running.serve.url, keyed[0], key, "erp") for key in keys]
        return [client.call("GET", "/subscribers").status_code for client in clients]

    aep("pims", "add", *keyed, "--auth", "platform-key")
    first = new_key()
    until(lambda: statuses(first) == [200], "the first key in force")
    second = new_key("--key")
    until(lambda: statuses(second) == [200], "the second key in force")
    assert aep("pims", "client", keyed[0], "erp", *keyed[1:], "--username", "erp_1").status == 0
    assert statuses(first, second) == [200, 200]
    third = new_key("--key", "--overlap", "0")
    until(lambda: statuses(third) == [200], "the third key in force")
    assert statuses(first, second) == [401, 401]
    aep("pims", "revoke", keyed[0], "erp", *keyed[1:])
    until(lambda: statuses(third) == [401], "the end of the client's keys")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process has open")
def test_the_folder_of_a_running_server_is_found(running: Running, tmp_path: Path) -> None:
    assert running.data.resolve() in folders_in_use()
    assert tmp_path not in folders_in_use()


def test_a_running_server_keeps_what_was_good_when_the_file_turns_bad(running: Running) -> None:
    good = running.file.read_text()
    running.file.write_text('[{"url": "half a li')

    def refused() -> bool:
        assert send_events(running.serve.url, KEPT["ingest_key"], event()) == 202
        return "pims.not_reread" in running.serve.stderr()

    until(refused, "a log line that says that the file could not be read", seconds=FOLLOWS_WITHIN)
    assert send_events(running.serve.url, KEPT["ingest_key"], event()) == 202
    running.file.write_text(good)

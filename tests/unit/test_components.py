"""Tests whose program is not installed: skipped by name on a developer's machine, failed in CI."""

from pathlib import Path

import pytest

from support.components import optional, require, required


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Not in CI, whatever the tests themselves run in."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("CI_WITHOUT", raising=False)
    return monkeypatch


@pytest.fixture
def ci(elsewhere: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    elsewhere.setenv("CI", "true")
    return elsewhere


def skipped(name: str) -> str:
    with pytest.raises(pytest.skip.Exception) as raised:
        require(name, None)
    return str(raised.value)


def failed(name: str) -> str:
    with pytest.raises(pytest.fail.Exception) as raised:
        require(name, None)
    return str(raised.value)


def test_a_test_without_its_program_is_skipped_by_name(elsewhere: pytest.MonkeyPatch) -> None:
    assert skipped("pulumi") == "pulumi is not installed"
    elsewhere.setenv("CI_WITHOUT", "pulumi")
    assert skipped("Node.js") == "Node.js is not installed"


@pytest.mark.usefixtures("ci")
def test_in_ci_it_fails() -> None:
    assert failed("pulumi") == "pulumi is not installed"


@pytest.mark.parametrize("without", ["", ",", "Kafka broker", "pulumi-gcp,Kafka", " pulumi", "PULUMI"])
def test_in_ci_it_fails_unless_ci_says_that_it_has_none(ci: pytest.MonkeyPatch, without: str) -> None:
    ci.setenv("CI_WITHOUT", without)
    assert failed("pulumi") == "pulumi is not installed"


@pytest.mark.parametrize("without", ["pulumi", "Kafka broker,pulumi", ",pulumi,"])
def test_a_ci_that_says_so_goes_on_without_it(ci: pytest.MonkeyPatch, without: str) -> None:
    ci.setenv("CI_WITHOUT", without)
    assert skipped("pulumi") == "pulumi is not installed"


def test_a_part_of_the_name_is_enough(ci: pytest.MonkeyPatch) -> None:
    ci.setenv("CI_WITHOUT", "Kafka broker,emulator")
    assert skipped("a Kafka broker (AEP_TEST_KAFKA)").startswith("a Kafka broker")
    assert skipped("Google's Pub/Sub emulator").startswith("Google's")


def test_what_is_there_is_used_whatever_ci_says(ci: pytest.MonkeyPatch) -> None:
    ci.setenv("CI_WITHOUT", "pulumi")
    require("pulumi", "/usr/bin/pulumi")


def test_ci_need_not_have_what_is_optional(ci: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ci.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        optional("no-such-program")
    (program := tmp_path / "no-such-program").touch(mode=0o755)
    assert optional("no-such-program") == str(program)


def test_what_is_required_fails_in_ci(ci: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ci.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="php is not installed"):
        required("php")
    (tmp_path / "php").touch(mode=0o755)
    assert required("php") == str(tmp_path / "php")

"""What was ordered is waited for before it is needed: rights, Google's own accounts, indexes."""

from datetime import UTC, datetime, timedelta

import pytest

from event_platform import wiring
from event_platform.data_model import INDEXES, UNINDEXED
from stack import rights
from stack.store import CHANGES_AT_ONCE
from support.deployed import Deployed, Recorder, configuration, deploy

FUNCTION = "cloudfunctionsv2/function:Function"
FOLDER = "storage/managedFolder:ManagedFolder"
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "left"),
    [(0, 120.0), (50, 70.0), (120, 0.0), (10**7, 0.0), (-3600, 120.0)],
    ids=["new", "half-way", "old enough", "a later run", "a clock that is behind Google's"],
)
def test_only_what_is_left_of_the_wait_is_waited(age: int, left: float) -> None:
    created = (NOW - timedelta(seconds=age)).isoformat()
    assert rights.remaining(created, 120, NOW) == left


def test_times_of_google_are_read() -> None:
    assert rights.remaining("2026-05-04T03:02:00.123456789Z", 120, NOW) == pytest.approx(119.1, abs=0.1)


def test_the_first_run_waits_once_after_all_rights_and_before_all_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = configuration("production")
    recorder = Recorder(told["gcp:project"], created=datetime.now(UTC).isoformat())
    waited: list[tuple[float, set[str]]] = []

    async def sleep(seconds: float) -> None:
        waited.append((seconds, {each.type for each in recorder.resources}))

    monkeypatch.setattr(rights, "sleep", sleep)
    deploy(told, recorder)
    ((seconds, made),) = waited
    assert 60 < seconds <= 120
    assert f"gcp:{FUNCTION}" not in made


def test_a_later_run_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s for rights that are months old")

    monkeypatch.setattr(rights, "sleep", sleep)
    assert deploy(configuration("minimal")).functions()


def test_a_function_comes_after_its_rights_and_those_of_its_build(stack: Deployed) -> None:
    builder = {name for name in stack.all("projects/iAMMember:IAMMember") if name.startswith("builder-")}
    readers = stack.all("secretmanager/secretIamMember:SecretIamMember")
    assert len(builder) == 3
    for function in wiring.SETTINGS:
        before = stack.before(FUNCTION, function)
        assert f"{FOLDER} rights" in before
        assert {f"projects/iAMMember:IAMMember {name}" for name in (*builder, f"{function}-role")} <= before
        own = {name for name in readers if name.startswith(f"{function}-reads-")}
        assert {f"secretmanager/secretIamMember:SecretIamMember {name}" for name in own} <= before


def test_added_rights_are_waited_for_again(production: Deployed, minimal: Deployed) -> None:
    names = {stack.one(FOLDER, "rights")["name"] for stack in (production, minimal)}
    assert len(names) == 2
    assert all(name.startswith("rights-") and name.endswith("/") for name in names)


def test_googles_own_account_for_pubsub_exists_before_it_is_given_rights(stack: Deployed) -> None:
    asked_for = "projects/serviceIdentity:ServiceIdentity pubsub"
    assert asked_for in stack.before("pubsub/topicIAMMember:TopicIAMMember", "dead-letters-pubsub")
    for name in stack.all("pubsub/subscriptionIAMMember:SubscriptionIAMMember"):
        assert asked_for in stack.before("pubsub/subscriptionIAMMember:SubscriptionIAMMember", name)


def test_indexes_and_exemptions_are_made_few_at_once_the_first_alone(stack: Deployed) -> None:
    kinds = ("firestore/index:Index", "firestore/field:Field")
    changes = [f"{kind} {name}" for kind in kinds for name in stack.all(kind)]
    assert len(changes) == len(INDEXES) + sum(map(len, UNINDEXED.values()))
    earlier = {
        change: stack.before(*change.split(" ", 1)) & set(changes)  # pyright: ignore[reportArgumentType]
        for change in changes
    }
    assert sum(not before for before in earlier.values()) == 1
    # Changes of one generation do not wait for one another, so they may be made at the same time.
    generations: dict[int, int] = {}

    def generation(change: str) -> int:
        return 1 + max(map(generation, earlier[change]), default=0)

    for change in changes:
        generations[generation(change)] = generations.get(generation(change), 0) + 1
    assert max(generations.values()) <= CHANGES_AT_ONCE

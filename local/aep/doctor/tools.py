"""Checks of what no server needs: tests, the emulators and deploying."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from event_platform.domain.attempts.broker_messages import TopicRules

from .findings import Check, missing, ok, problem

PROGRAM_SECONDS = 20.0


def checks(environment: Mapping[str, str]) -> Iterator[Check]:
    """Runs the checks of what tests, the emulators and deploying need."""
    yield emulator("pubsub emulator", "PUBSUB_EMULATOR_HOST", "pubsub-emulator", environment)
    yield emulator("firestore emulator", "FIRESTORE_EMULATOR_HOST", "cloud-firestore-emulator", environment)
    yield google_credentials(environment)
    yield program("java", ["-version"], "the emulators")
    yield program("pulumi", ["version"], "deploying")
    yield program("node", ["--version"], "developing: the type checker and clients in TypeScript")


def emulator(name: str, variable: str, component: str, environment: Mapping[str, str]) -> Check:
    """Checks an emulator: it runs where the variable says, or is installed in the SDK's platform folder."""
    address = environment.get(variable, "")
    if address:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
                return ok(name, f"answers at {address}")
        except (OSError, ValueError):
            return problem(name, f"{variable}={address}, where nobody answers: start it, or unset {variable}")
    for root in _sdk_roots(environment):
        if (root / "platform" / component).is_dir():
            return ok(name, str(root / "platform" / component))
    return missing(name, f"install it with `gcloud components install {component}`, or set {variable}")


def google_credentials(environment: Mapping[str, str]) -> Check:
    """Checks whether there are credentials; they are not read."""
    name = "google credentials"
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if named and not Path(named).is_file():
        return problem(name, f"GOOGLE_APPLICATION_CREDENTIALS={named} is no file: correct or unset it")
    folder = environment.get("CLOUDSDK_CONFIG") or str(Path.home() / ".config" / "gcloud")
    file = Path(named or Path(folder) / "application_default_credentials.json")
    if not file.is_file():
        return missing(name, "for deploying, run `gcloud auth application-default login`")
    return ok(name, str(file))


def pubsub_destinations(rules: TopicRules) -> Check:
    """Checks whether messages can be published to subscribers' topics, and as whom."""
    name = "pubsub destinations"
    if rules.missing is not None:
        return missing(name, rules.missing)
    shown = rules.account or "what the credentials are"
    return ok(name, f"published to as {shown}, which needs roles/pubsub.publisher on each topic")


def program(name: str, arguments: Sequence[str], needed_for: str) -> Check:
    path = shutil.which(name) or shutil.which(name, path=Path.home() / f".{name}" / "bin")
    if path is None:
        return missing(name, f"not on the PATH; needed for {needed_for}")
    try:
        ran = subprocess.run(  # noqa: S603 - a program of the user's own PATH, asked for its version
            [path, *arguments], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return problem(name, f"{path} does not run: install it again")
    said = re.search(r"[0-9]+(\.[0-9]+)+", ran.stdout + ran.stderr)
    return ok(name, f"{said.group() if said else 'unknown version'}, {path}")


def _sdk_roots(environment: Mapping[str, str]) -> Iterator[Path]:
    """Returns the folders where Google's SDK may be."""
    if root := environment.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    if gcloud := shutil.which("gcloud", path=environment.get("PATH")):
        yield Path(gcloud).resolve().parents[1]
    yield Path.home() / "google-cloud-sdk"

"""Runs a command beside a Kafka broker of its own, for `make test-all`: one node on loopback.

    python tests/support/kafka_server.py CACHE COMMAND…

AEP_TEST_KAFKA names the file in which the command finds what the broker says of itself (`kafka_broker.py`).
No broker is started where it is set already, where CI_WITHOUT names the Kafka broker, or where `java` or
`mvn` is missing. CACHE keeps the jars, 43 MB that are fetched once.
"""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization

from aep.google.ports import free_ports

PLACE = "AEP_TEST_KAFKA"
KAFKA = "4.1.0"
USER, PASSWORD = "aep", "aep-secret"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
CLUSTER = "aepaepaepaepaepaepaepA"
FORBIDDEN = "forbidden"
START_SECONDS, STOP_SECONDS = 120.0, 30.0
LISTENERS = {
    "plaintext": "PLAINTEXT",
    "sasl_plaintext": "SASL_PLAINTEXT",
    "sasl_ssl": "SASL_SSL",
    "ssl": "SSL",
    "sasl_mtls": "SASL_SSL",
    "mtls": "SSL",
    "redirect": "PLAINTEXT",
    "controller": "PLAINTEXT",
}
"""The protocol of each. What `redirect` says of the cluster names an address where nothing listens."""
NOWHERE = ("127.0.0.66", 9)
PROJECT = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>"""

CREATE_TOPICS, CREATE_ACLS = 19, 30
TOPIC_ALREADY_EXISTS = 36


def main() -> int:
    cache, command = Path(sys.argv[1]), sys.argv[2:]
    is_wanted = PLACE not in os.environ and "Kafka broker" not in os.environ.get("CI_WITHOUT", "")
    with ExitStack() as stack:
        if is_wanted and shutil.which("java") and shutil.which("mvn"):
            os.environ[PLACE] = str(stack.enter_context(running(cache.resolve())))
        process = subprocess.Popen(command)
        # The command ends in its own way, and the broker after it. A terminal interrupts both.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


@contextmanager
def running(cache: Path) -> Iterator[Path]:
    """Runs a broker for the block, which gets the file in which it says where it listens."""
    jars = fetched(cache)
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder, (cache / "broker.log").open("wb") as log:
        work = Path(folder)
        files = write_certificates(work)
        ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        config = work / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in properties(work, ports).items()))
        users = [f"--add-scram={name}=[name={USER},password={PASSWORD}]" for name in SCRAM]
        form = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "aepaepaepaepaepaepaepA",
            "-c",
            str(config),
            *users,
        ]
        subprocess.run([*java(jars), *form], check=True, stdout=log, stderr=log)
        broker = subprocess.Popen([*java(jars), "kafka.Kafka", str(config)], stdout=log, stderr=log)
        try:
            wait_until_ready(broker, ports["plaintext"], log.name)
            says = work / "broker.json"
            says.write_text(json.dumps(description(ports, files)))
            yield says
        finally:
            broker.terminate()
            try:
                broker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()


def fetched(cache: Path) -> Path:
    """Returns the folder of the jars, which Maven fills once and checks by their sums."""
    jars = cache / f"jars-{KAFKA}"
    if not jars.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            (Path(part) / "pom.xml").write_text(PROJECT)
            copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
            maven = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", "-Dstyle.color=never", *copy]
            subprocess.run(maven, cwd=part, check=True, stdout=sys.stderr)
            (Path(part) / "jars").rename(jars)
    return jars


def java(jars: Path) -> list[str]:
    """Quick to start, and small."""
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
    return ["java", *flags, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]


def write_certificates(work: Path) -> dict[str, str]:
    """Writes a CA, a server and a client of it, and another CA. Kafka wants keys in PKCS #8."""

    def pem(certificate: trustme.LeafCert) -> tuple[bytes, bytes]:
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        return chain, key.private_bytes(*pkcs8)

    ca, other = trustme.CA(), trustme.CA()
    chain, key = pem(ca.issue_cert("localhost", "127.0.0.1", "kafka.test"))
    client_chain, client_key = pem(ca.issue_cert("client.test"))
    (work / "server.pem").write_bytes(key + chain)
    files = {
        "ca": ca.cert_pem.bytes(),
        "other_ca": other.cert_pem.bytes(),
        "client_cert": client_chain,
        "client_key": client_key,
    }
    for name, data in files.items():
        (work / f"{name}.pem").write_bytes(data)
    return {name: str(work / f"{name}.pem") for name in files}


def properties(work: Path, ports: dict[str, int]) -> dict[str, str]:
    advertised = {name: ("127.0.0.1", port) for name, port in ports.items()} | {"redirect": NOWHERE}
    del advertised["controller"]
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(f"{n.upper()}://{host}:{p}" for n, (host, p) in advertised.items()),
        "listener.security.protocol.map": ",".join(f"{n.upper()}:{each}" for n, each in LISTENERS.items()),
        "log.dirs": str(work / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(work / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(work / "ca.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.sasl_mtls.ssl.client.auth": "required",
    }
    module = "org.apache.kafka.common.security"
    logins = {"PLAIN": f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'}
    logins |= dict.fromkeys(SCRAM, f"{module}.scram.ScramLoginModule required;")
    for listener in ("sasl_plaintext", "sasl_ssl", "sasl_mtls"):
        values[f"listener.name.{listener}.sasl.enabled.mechanisms"] = ",".join(logins)
        for mechanism, login in logins.items():
            values[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = login
    return values


def description(ports: dict[str, int], files: dict[str, str]) -> dict[str, Any]:
    listeners = {
        name: {"bootstrap": f"127.0.0.1:{port}", "protocol": LISTENERS[name]}
        for name, port in ports.items()
        if name != "controller"
    }
    return {
        "listeners": listeners,
        "username": USER,
        "password": PASSWORD,
        "files": files,
        "forbidden_topic": FORBIDDEN,
    }


def wait_until_ready(broker: "subprocess.Popen[bytes]", port: int, log: str) -> None:
    """Makes the topic to which nobody may write, as soon as the broker can."""
    end = time.monotonic() + START_SECONDS
    while not has_topic(port, FORBIDDEN):
        if broker.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the Kafka broker did not start: see {log}")
        time.sleep(0.05)
    everybody = text("User:*") + text("*")
    deny_write = struct.pack(">ib", 1, 2) + text(FORBIDDEN) + struct.pack(">b", 3) + everybody
    call(port, CREATE_ACLS, 1, deny_write + struct.pack(">bb", 4, 2))


def has_topic(port: int, name: str) -> bool:
    """True if the topic could be made or is there."""
    body = struct.pack(">i", 1) + text(name) + struct.pack(">ihiiiB", 1, 1, 0, 0, 5000, 0)
    try:
        answer = call(port, CREATE_TOPICS, 2, body)  # throttle, count, name, error code
        return struct.unpack_from(">h", answer, 8 + 2 + len(name))[0] in (0, TOPIC_ALREADY_EXISTS)
    except (OSError, struct.error):
        return False


def call(port: int, api: int, version: int, body: bytes) -> bytes:
    """Sends one request of Kafka's protocol (header version 1) and returns the body of the answer."""
    request = struct.pack(">hhih", api, version, 1, -1) + body
    with socket.create_connection(("127.0.0.1", port), 5) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", stream.read(4))
        return stream.read(size)[4:]


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())

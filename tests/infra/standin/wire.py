"""Values as Pulumi's plugin protocol carries them."""

from typing import Any

from google.protobuf import json_format, struct_pb2

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
ASSET = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"

Properties = dict[str, Any]


def is_unknown(value: Any) -> bool:
    """True for a value that is known after the deployment only."""
    return value == UNKNOWN or (isinstance(value, dict) and value.get(SIGNATURE) == OUTPUT)


def unwrap(value: Any) -> Any:
    """Returns secrets and outputs as plain values, and whole numbers as int: the protocol has floats only."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET:
            return unwrap(value.get("value"))
        if value.get(SIGNATURE) == OUTPUT:
            return unwrap(value.get("value", UNKNOWN))
        return {key: unwrap(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [unwrap(inner) for inner in value]
    return value


def to_dict(struct: struct_pb2.Struct) -> Properties:
    """Returns the plain values of a message."""
    return unwrap(json_format.MessageToDict(struct))


def to_struct(values: Properties) -> struct_pb2.Struct:
    """Returns the message of plain values."""
    struct = struct_pb2.Struct()
    json_format.ParseDict(values, struct)
    return struct


def token_of(urn: str) -> str:
    """Returns the resource type in a URN, such as `gcp:pubsub/topic:Topic`."""
    return urn.split("::")[2].split("$")[-1]

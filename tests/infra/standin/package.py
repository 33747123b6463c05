"""The resource types of the installed package pulumi_gcp: their arguments and the documentation of these."""

import inspect
import json
import re
import sys
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pulumi_gcp
from pulumi import _types


class UnknownType(Exception):
    """Raised when a program names a resource type that the installed pulumi_gcp does not have."""


def folder() -> Path:
    """Returns where the package is installed."""
    return Path(pulumi_gcp.__file__).parent


@cache
def resource_classes() -> dict[str, tuple[str, str]]:
    """Returns service and class by token, from the package's table."""
    found: dict[str, tuple[str, str]] = {}
    table_of_modules = (folder() / "__init__.py").read_text()
    for table in re.findall(r'resource_modules="""(.*?)"""', table_of_modules, re.DOTALL):
        for entry in json.loads(table):
            for token, name in entry["classes"].items():
                found[token] = (entry["fqn"].removeprefix("pulumi_gcp").removeprefix("."), name)
    return found


@cache
def classes(token: str) -> tuple[type, type]:
    """Returns the class of a resource and that of its arguments. Raises UnknownType."""
    try:
        service, name = resource_classes()[token]
    except KeyError:
        raise UnknownType(f"unrecognized resource type: {token}") from None
    # By attributes, as programs do: the package loads a service when it is first used, and after an import of
    # a module inside of it the service lacks its names.
    resource = getattr(getattr(pulumi_gcp, service), name)
    module = sys.modules[resource.__module__]
    arguments = getattr(module, f"{name}Args", None) or getattr(module, f"{name}InitArgs")
    return resource, arguments


def plain_types(kind: Any) -> list[Any]:
    """Returns the types in Input[Optional[T]] without the wrapping."""
    if typing.get_origin(kind) is typing.Union:
        members = [member for inner in typing.get_args(kind) for member in plain_types(inner)]
        return [member for member in members if member is not type(None)]
    wrapping = str(kind).split("[")[0]
    if "Awaitable" in wrapping or "pulumi.output.Output" in wrapping:
        return []
    return [kind]


@cache
def arguments_of(cls: type) -> dict[str, tuple[list[Any], bool, str]]:
    """Returns types, necessity and documentation of each argument, by its name in camelCase."""
    names = _types.input_type_py_to_pulumi_names(cls)
    kinds = _types.input_type_types(cls)
    parameters = inspect.signature(cls).parameters
    result: dict[str, tuple[list[Any], bool, str]] = {}
    for attribute, name in names.items():
        required = attribute in parameters and parameters[attribute].default is inspect.Parameter.empty
        getter = getattr(getattr(cls, attribute, None), "fget", None)
        result[name] = (plain_types(kinds[name]), required, (getter and getter.__doc__) or "")
    return result


def has_argument(token: str, name: str) -> bool:
    """True if resources of the type take an argument of that name."""
    return name in arguments_of(classes(token)[1])


def snake_case(name: str) -> str:
    """Returns a name in camelCase as snake_case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()

"""Calls to AWS in the terms of botocore's service models, and what those models do not allow."""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import botocore.session
from botocore import xform_name
from botocore.model import OperationModel, Shape

READ = re.compile("Get|List|Describe|Head|BatchGet|Receive|CreateSession|Check")


class Call(NamedTuple):
    """One call: the service's name in botocore, the operation, and its input."""

    service: str
    operation: str
    parameters: dict[str, Any]

    @property
    def is_write(self) -> bool:
        if self.service == "docker":
            return not {"version", "imagetools"} & set(self.parameters["words"])
        return not READ.match(self.operation)

    @property
    def model(self) -> OperationModel:
        return service_model(self.service).operation_model(self.operation)


@functools.cache
def service_model(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


@functools.cache
def paginators(name: str) -> Any:
    return botocore.session.Session().get_paginator_model(name)


@functools.cache
def operations(name: str) -> dict[str, str]:
    """By the names that they have as methods of a client."""
    return {xform_name(operation): operation for operation in service_model(name).operation_names}


# --- is it what the service's model allows? -----------------------------------------------------------------------

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "map": (dict,),
    "list": (list,),
    "structure": (dict,),
    "blob": (str, bytes),
}


def violations(shape: Shape | None, value: Any, where: str) -> Iterator[str]:
    """What the model does not allow: unknown and missing members, types, enumerations, patterns, lengths, ranges."""
    if shape is None:
        return
    if not isinstance(value, TYPES.get(shape.type_name, (object,))):
        yield f"{where}: {value!r} is no {shape.type_name}"
        return
    if shape.type_name == "structure":
        yield from (f"{where}.{name} is not in the model" for name in value.keys() - shape.members.keys())
        yield from (f"{where}.{name} is missing" for name in set(shape.required_members) - value.keys())
        for name in value.keys() & shape.members.keys():
            yield from violations(shape.members[name], value[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from violations(shape.member, item, f"{where}[{index}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from violations(shape.key, key, f"{where} key")
            yield from violations(shape.value, item, f"{where}[{key}]")
    yield from outside_limits(shape, value, where)


def outside_limits(shape: Shape, value: Any, where: str) -> Iterator[str]:
    limits = shape.metadata
    if limits.get("enum") and value not in limits["enum"]:
        yield f"{where}: {value!r} is none of {limits['enum']}"
    if isinstance(value, str) and limits.get("pattern") and not fits_pattern(limits["pattern"], value):
        yield f"{where}: {value!r} does not match {limits['pattern']}"
    size = value if isinstance(value, int | float) else len(value)
    if shape.type_name != "blob" and not limits.get("min", size) <= size <= limits.get("max", size):
        yield f"{where}: {value!r} is not within {limits}"


def fits_pattern(pattern: str, value: str) -> bool:
    """Patterns of the models are Java's."""
    python = pattern.replace(r"\p{Z}", " \u00a0\u2000-\u200a\u3000")
    python = re.sub(r"\\p\{[A-Z]\w*\}", r"\\w", python).replace(r"\p{IsAlphabetic}", r"\w").replace("\\u00", "\\x")
    return re.fullmatch(python, value) is not None


def violations_of(call: Call) -> list[str]:
    return list(violations(call.model.input_shape, call.parameters, f"{call.service} {call.operation}"))

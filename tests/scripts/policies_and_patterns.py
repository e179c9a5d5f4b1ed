"""What the documents of AWS mean: whom a policy lets do what, and which events a pattern takes."""

import fnmatch
import json
from typing import Any


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def grants(policy: str) -> set[tuple[Any, ...]]:
    """(action, resource, conditions...) of everything that a policy allows, however it is written."""
    read = json.loads(policy)
    assert read["Version"] == "2012-10-17"
    found = set()
    for statement in read["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys()
        conditions = sorted(
            f"{operator} {key}={value}"
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
            for value in as_list(values)
        )
        for action in as_list(statement["Action"]):
            resources = [one for one in as_list(statement.get("Resource", "")) if is_for(action, one)]
            found |= {(action, resource, *conditions) for resource in resources}
    return found


def is_for(action: str, resource: str) -> bool:
    """A statement may name resources of several services; an action is only for those of its own."""
    return resource in ("", "*") or resource.split(":")[2] == action.split(":")[0]


def fits(operator: str, wanted: str, have: str) -> bool:
    """StringEquals compares as it is; the operators of ARNs take * and ?, in each of the six parts for itself."""
    if operator == "StringEquals":
        return have == wanted
    assert operator in ("ArnLike", "ArnEquals")
    parts = zip(have.split(":", 5), wanted.split(":", 5), strict=True)
    return all(fnmatch.fnmatchcase(one, other) for one, other in parts)


def matches(pattern: Any, event: Any) -> bool:
    """Whether an event fits a pattern of EventBridge: of each list one item, of each name its value."""
    if isinstance(pattern, dict):
        return all(name in event and matches(pattern[name], event[name]) for name in pattern)
    return any(fits_item(item, event) for item in pattern)


def fits_item(item: Any, value: str) -> bool:
    if isinstance(item, str):
        return item == value
    ((kind, given),) = item.items()
    if kind == "prefix":
        return value.startswith(given)
    if kind == "wildcard":
        return any(fnmatch.fnmatchcase(value, one.replace("[", "[[]")) for one in as_list(given))
    assert kind == "anything-but"
    return not any(fits_item(one, value) for one in as_list(given))

#!/usr/bin/env python3
"""An AWS CLI on a file: request metrics of a directory bucket, what CloudWatch counts by them, and one listing.

It counts the requests that the test has really made, each for all filters that were on by then and match its key, as
CloudWatch does (S3 User Guide, "Configuring request metrics for directory buckets").
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(os.environ["READS_STATE"])
ALWAYS = {
    "get-caller-identity": {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/u"},
    "get-function-configuration": {"FunctionName": "s3-to-s3express-sync-starter"},
}
COUNTED = {"GetRequests": lambda _: 1, "BytesDownloaded": lambda size: size}


def refuse(code: str, call: str, why: str) -> NoReturn:
    print(f"\nAn error occurred ({code}) when calling the {call} operation: {why}", file=sys.stderr)
    sys.exit(254)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def metric_data(state: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    results = []
    for query in given["MetricDataQueries"]:
        assert re.fullmatch(r"[a-z][A-Za-z0-9_]*", query["Id"])
        metric = query["MetricStat"]["Metric"]
        by_name = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
        assert (metric["Namespace"], by_name["BucketName"]) == ("AWS/S3", state["bucket"])
        prefix, since = state["ever"][by_name["FilterId"]]
        made = [size for key, size in state["requests"][since:] if key.startswith(prefix)]
        values = [COUNTED[metric["MetricName"]](size) for size in made]
        # Two pages of one result, as the AWS CLI joins them.
        results += [{"Id": query["Id"], "Values": part} for part in (values[:1], values[1:])]
    return {"MetricDataResults": results}


def answer(state: dict[str, Any], words: list[str]) -> Any:
    service, call = words[:2]
    if call in ALWAYS:
        return ALWAYS[call]
    if call == "get-metric-data":
        return metric_data(
            state, json.loads(Path(option(words, "--cli-input-json").removeprefix("file://")).read_text())
        )
    assert (service, option(words, "--bucket")) == ("s3api", state["bucket"])
    if call in state["denied"]:
        refuse("AccessDenied", call, "Access Denied")
    identity = option(words, "--id")
    if call == "list-bucket-metrics-configurations":
        names = sorted(state["filters"])
        first = int(option(words, "--continuation-token") or 0)
        more = {"NextContinuationToken": str(first + 2)} if first + 2 < len(names) else {}
        found = [{"Id": name, "Filter": {"Prefix": state["filters"][name]}} for name in names[first : first + 2]]
        return {"IsTruncated": bool(more), "MetricsConfigurationList": found, **more}
    if call == "put-bucket-metrics-configuration":
        if state["puts_left"] == 0:
            refuse("AccessDenied", "PutBucketMetricsConfiguration", "Access Denied")
        state["puts_left"] -= 1
        given = json.loads(option(words, "--metrics-configuration"))
        assert given["Id"] == identity
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", identity)
        state["filters"][identity] = given["Filter"]["Prefix"]
        state["ever"][identity] = given["Filter"]["Prefix"], len(state["requests"])
        return None
    if call == "delete-bucket-metrics-configuration":
        if identity not in state["filters"]:
            refuse("NoSuchConfiguration", "DeleteBucketMetricsConfiguration", "there is no such configuration")
        del state["filters"][identity]
        return None
    assert call == "list-objects-v2", words
    for key, (size, modified) in state["objects"].items():
        print(size, modified, key, sep="\t")
    return None


def main() -> None:
    words = sys.argv[1:]
    state = json.loads(STATE.read_text())
    if words == ["--version"]:
        print(f"aws-cli/{state['version']} Python/3.13")
        return
    while words[0].startswith("--"):
        del words[:2]
    state |= state["changes"].get(words[1], {})
    if found := answer(state, words):
        print(json.dumps(found))
    STATE.write_text(json.dumps(state))


if __name__ == "__main__":
    main()

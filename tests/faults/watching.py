"""Which tests can see a fault in which file, the cheapest first.

The slow ones are left out: deployments on an emulator (`account` of tests/scripts/conftest.py), the verbs on the local
cloud (test_local_verbs.py), tests/chain but for the local cloud itself, tests/docs but for the estimate, and chaos. So
a fault that only they notice counts as one that survives. What holds the code as it stands is left out as well: the
places of planted faults, the house, and the layout.
"""

Tests = tuple[str, ...]


def protocol(*names: str) -> Tests:
    return tuple(f"protocol/test_{name}.py" for name in names)


def worker(*names: str) -> Tests:
    return tuple(f"worker/test_{name}.py" for name in names)


def scripts(*names: str) -> Tests:
    return tuple(f"scripts/test_{name}.py" for name in names)


def chain(*names: str) -> Tests:
    return tuple(f"chain/test_{name}.py" for name in names)


RULES = protocol("rules", "verdict", "requests", "faults", "leases", "delta")
ORACLE = worker("readers_agree", "readers_stopped")
OPTIONS = protocol("options", "waits_and_events")
LISTINGS = (*protocol("slow_buckets"), *worker("walk", "wanted"))
LINES = (*worker("wanted"), *scripts("log_lines"))
STARTER = scripts("starter", "starter_audit", "starter_copying")
DOCUMENTS = scripts("documents")
RESOURCES = scripts("cleanup_parts", "lifecycle", "event_source", "checks", "plan", "base_image", "account_rules")
RESOURCES += scripts("version", "function_that_copies", "record", "prefixes", "reads", "generated", "policies")
POLICIES = scripts("policy_files")
VERBS = scripts("status", "sync", "verbs", "terminal")
RULES_OF_AWS = ("standin/test_rules_of_aws.py",)
ESTIMATE = ("docs/test_estimate.py",)

# Of the most specific path that a file begins with.
TESTS: dict[str, Tests] = {
    "mirror/protocol/": (*RULES, *worker("copies"), *protocol("queue", "interleavings", "histories")),
    "mirror/queue/": (*RULES, *protocol("queue", "tasks", "outage", "histories")),
    "mirror/queue/outage.py": protocol("outage", "leases", "tasks", "histories"),
    "mirror/readers/": (
        *ORACLE,
        *LISTINGS,
        *worker("completeness", "reconcile", "reading"),
    ),
    "mirror/readers/walk.py": (*ORACLE, *worker("walk", "reconcile")),
    "mirror/readers/reconcile.py": (*ORACLE, *worker("reconcile", "reading")),
    "mirror/readers/repairs.py": (*ORACLE, *protocol("queue"), *worker("reconcile")),
    "mirror/readers/listing.py": (
        *worker("progress"),
        *ORACLE,
        *LISTINGS,
        *worker("completeness", "reconcile", "reading"),
    ),
    "mirror/readers/wait.py": (*ORACLE, *worker("completeness", "reading")),
    "mirror/readers/measure.py": (*ORACLE, *worker("completeness", "reading")),
    "mirror/readers/completeness.py": (*ORACLE, *worker("completeness"), *OPTIONS),
    "mirror/options/": (*OPTIONS, *worker("markers_and_events", "metrics"), *protocol("readers")),
    "mirror/options/table": (*protocol("delta", "table_files", "table_readers"), *worker("tables")),
    "mirror/options/announcer.py": (*OPTIONS, *worker("markers_and_events")),
    "mirror/options/others.py": (*OPTIONS, *protocol("table_readers", "readers")),
    "mirror/options/metrics.py": (*worker("metrics"), *protocol("options")),
    "mirror/model/": (*RULES, *LINES, *protocol("outage"), *worker("copies"), *OPTIONS),
    "mirror/model/delta.py": protocol("delta", "table_files", "table_readers"),
    "mirror/model/log_lines.py": (*LINES, *worker("copies")),
    "mirror/model/selection.py": (
        *ORACLE,
        *worker("wanted"),
        *protocol("rules", "keeping"),
        *OPTIONS,
    ),
    "mirror/aws/": worker("signing", "wire", "credentials", "copies", "first_responder"),
    "mirror/": (*RULES, *LINES, *protocol("tasks"), *worker("processes", "copies", "first_responder")),
    "mirror/log_writer.py": worker("log_writer", "processes"),
    "mirror/function.py": (*worker("first_responder"), *protocol("function")),
    "launch/": (*STARTER, *scripts("guard", "starter_worlds"), *scripts("path")),
    "launch/guard.py": scripts("guard", "path", "starter"),
    "launch/path.py": scripts("guard", "path"),
    "lib/resources/": (*DOCUMENTS, *RESOURCES, *POLICIES),
    "lib/": (*scripts("settings", "checks", "log_lines", "cleanup_parts"), *DOCUMENTS, *VERBS, *POLICIES),
    "lib/cost.jq": (*scripts("cost_verb"), *ESTIMATE),
    "lib/estimate": ESTIMATE,
    "lib/reads": scripts("reads", "cost_verb"),
    "lib/explain.py": scripts("explain"),
    "lib/pack_function.py": scripts("function_that_copies"),
    "lib/verbs/": (*VERBS, *POLICIES),
    "lib/verbs/cost.sh": (*scripts("cost_verb"), *ESTIMATE, *POLICIES),
    "lib/verbs/explain.sh": (*scripts("explain", "verbs"), *POLICIES),
    "lib/verbs/verify.sh": (*scripts("verify"), *VERBS, *POLICIES),
    "lib/verify/": (*scripts("verify"), *VERBS, *POLICIES),
    "local/gaps/s3.py": (*RULES_OF_AWS, *chain("cloud", "cloud_events")),
    "local/gaps/sqs.py": (*RULES_OF_AWS, *chain("cloud")),
    "local/": chain("cloud_events", "local_start", "cloud", "cloud_functions"),
    "deploy.sh": (*scripts("settings", "checks"), *DOCUMENTS, *scripts("plan", "record", "terminal"), *POLICIES),
    "cleanup.sh": (*scripts("cleanup_parts", "settings"), *DOCUMENTS, *POLICIES),
    "sync.sh": (*scripts("sync"), *VERBS, *POLICIES),
}
TESTS |= {"worker.py": worker("processes", "copies", "reconcile"), "starter.py": TESTS["launch/"]}


def watching(file: str) -> Tests:
    return TESTS[max((start for start in TESTS if file.startswith(start)), key=len)]

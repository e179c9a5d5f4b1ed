"""Which tests can see a fault in which file, the cheapest first.

The slow ones are left out: deployments on an emulator, the verbs on the local cloud, tests/chain but for the local
cloud itself, tests/docs but for the estimate, and tests/bench. So a fault that only they notice counts as one that
survives. What holds the code as it stands is left out as well: the places of planted faults, the house, and the layout.
"""

from sample import PROJECT

LEFT_OUT = ("mutants", "alarms", "deploy", "interrupted", "layout", "local_verbs")
LEFT_OUT += ("side_by_side", "upgrade", "workflows")

RULES = ("protocol/test_rules.py", "protocol/test_verdict.py", "protocol/test_faults.py")
NAMES = ("scripts/test_log_lines.py", "scripts/test_prefixes.py")
# Of the first of these with which a file begins: the tests, as patterns below tests/.
TESTS = {
    "mirror/readers/": ("worker/test_readers*.py", "worker/test_*.py", "protocol/test_*.py"),
    "mirror/options/table": (
        "protocol/test_delta.py",
        "protocol/test_table_files.py",
        "protocol/test_*.py",
        "worker/test_*.py",
    ),
    "mirror/options/": (
        "protocol/test_options.py",
        "protocol/test_waits*.py",
        "protocol/test_*.py",
        "worker/test_*.py",
    ),
    "mirror/aws/": ("worker/test_wire.py", "worker/test_*.py"),
    "mirror/model/": (*RULES, *NAMES, "protocol/test_*.py", "worker/test_*.py"),
    "mirror/": (*RULES, "protocol/test_*.py", "worker/test_*.py"),
    "worker.py": ("worker/test_*.py",),
    "launch/": ("scripts/test_path.py", "scripts/test_starter*.py", "scripts/test_function*.py"),
    "starter.py": ("scripts/test_starter*.py",),
    "local/gaps/": ("standin/test_rules_of_aws.py", "chain/test_cloud*.py"),
    "local/": ("chain/test_cloud*.py", "chain/test_local_start.py"),
    "": ("scripts/test_*.py", "docs/test_estimate.py"),
}


def candidates(file: str) -> list[str]:
    patterns = next(tests for start, tests in TESTS.items() if file.startswith(start))
    found = [path for pattern in patterns for path in sorted((PROJECT / "tests").glob(pattern))]
    names = [path.relative_to(PROJECT / "tests").as_posix() for path in found]
    return [name for name in dict.fromkeys(names) if not any(f"test_{slow}" in name for slow in LEFT_OUT)]

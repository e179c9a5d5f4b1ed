"""The function with STARTER_COPIES: what its archive holds, its variables and rights, and in which order it changes."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from account import APP, PROJECT, REGION
from documents import Scripts, scripts_of_module
from paper_account import ARCHIVES, PaperAccount
from test_settings import TABLE, problems

PYTHON = "/usr/bin/python3.13"
MOST_VARIABLES, MOST_OF_A_POLICY = 4096, 10_240  # Lambda quotas, in bytes of JSON; IAM and AWS STS quotas

scripts = scripts_of_module()

# In Lambda the archive is there beside the runtime's own library; here only the archive is.
IMPORTS = """
import json, sys
sys.path.append(sys.argv[1])
import boto3, starter
from botocore import __version__
keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
names = "s3", "sqs", "ecs", "sts", "events", "lambda", "cloudwatch", "sns", "logs"
calls = [boto3.client(name, **keys).meta.service_model.service_name for name in names]
print(json.dumps([calls, boto3.__version__, __version__, [*sys.modules]]))
"""


def pack(
    archive: Path, copies: str = "true", umask: int = 0o022, python: str | Path = sys.executable, **environment: str
) -> list[str]:
    """What the packer prints: the sum, and whether there is bytecode. It takes `python` for its interpreter."""
    command = [python, PROJECT / "lib/pack_function.py", PROJECT, archive, copies]
    named = {"executable": sys.executable, "env": os.environ | environment, "umask": umask}
    done = subprocess.run(command, **named, capture_output=True, text=True, cwd=archive.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("archive") / "starter.zip"
    assert pack(found)[1] == "compiled"
    return found


def test_the_archive_is_the_same_in_each_run_and_folder(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    pack(again, umask=0o077, TMPDIR=str(tmp_path), PYTHONHASHSEED="7", TZ="Asia/Tokyo", PYTHONPATH=str(PROJECT))
    assert again.read_bytes() == archive.read_bytes()


def test_the_archive_alone_is_all_that_the_function_imports(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    for source in tmp_path.rglob("*.py"):
        source.write_text("raise ImportError('compiled at the start, as its bytecode was not taken')")
    command = [PYTHON, "-S", "-E", "-P", "-B", "-c", IMPORTS, tmp_path]
    answer = subprocess.run(command, env={"STARTER_COPIES": "true"}, cwd="/", capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    calls, boto3, botocore, modules = json.loads(answer.stdout)
    assert calls == ["s3", "sqs", "ecs", "sts", "events", "lambda", "cloudwatch", "sns", "logs"]
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line)
    assert (boto3, botocore) == (pins["boto3[crt]"], pins["botocore"])
    assert "mirror.function" in modules
    assert not [name for name in modules if name.startswith("awscrt")]


def test_the_archive_has_all_of_ours_and_no_library_that_nothing_calls(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
    data = {name.split("/")[2] for name in names if name.startswith("botocore/data/") and name.count("/") > 2}
    assert data == {"s3", "sqs", "sts", "ecs", "events", "lambda", "cloudwatch", "sns", "logs"}
    assert "botocore/data/endpoints.json" in names
    assert not [name for name in names if "dist-info" in name or name.startswith(("bin/", "awscrt", "boto3/examples"))]
    own = {
        str(path.relative_to(PROJECT)) for folder in ("launch", "mirror") for path in (PROJECT / folder).rglob("*.py")
    }
    assert own | {"starter.py"} <= names
    # AWS Lambda Developer Guide, "Lambda quotas": 50 MB for an upload; far from it, as each cold start unpacks it.
    assert archive.stat().st_size < 12_000_000


def test_a_function_that_does_not_copy_has_its_own_files_alone(tmp_path: Path) -> None:
    pack(tmp_path / "starter.zip", copies="false")
    with zipfile.ZipFile(tmp_path / "starter.zip") as file:
        launch = [f"launch/{path.name}" for path in (PROJECT / "launch").glob("*.py")]
        table = [
            "mirror/__init__.py",
            *(f"mirror/model/{name}" for name in ("__init__.py", "checks.py", "settings.table")),
        ]
        assert file.namelist() == sorted(["starter.py", *launch, *table])
        assert file.read("starter.py") == (PROJECT / "starter.py").read_bytes()
    pack(tmp_path / "again.zip", copies="false", umask=0o077)
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "starter.zip").read_bytes()


def test_an_archive_without_bytecode_has_a_line_that_says_so(archive: Path, tmp_path: Path, scripts: Scripts) -> None:
    older = tmp_path / "python3.12"
    older.write_text(f'#!/bin/sh\n[ "$1" != -c ] || exec echo cpython-312\nexec {sys.executable} "$@"\n')
    older.chmod(0o755)
    assert pack(tmp_path / "plain.zip", python=older, PATH=str(tmp_path))[1] == "plain"
    with zipfile.ZipFile(archive) as full, zipfile.ZipFile(tmp_path / "plain.zip") as plain:
        assert plain.namelist() == [name for name in full.namelist() if "__pycache__" not in name]
    for kind in ("plain", "compiled"):
        scripts.account = PaperAccount()
        scripts.archives["true"] = ARCHIVES["true"].replace(" compiled", f" {kind}")
        ran = scripts.step(f"ensure_role {APP}-starter-role", "ensure_function", STARTER_COPIES="true")
        assert ("this machine has no python3.13" in ran.output + ran.errors) == (kind == "plain")


# --- problems before the first write ------------------------------------------------------------------------------


def test_libraries_that_cannot_be_had_are_a_problem(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    (said,) = problems(tmp_path, STARTER_COPIES="true", **offline)
    assert "could not be packed with the libraries of requirements.txt: ERROR: Could not find" in said
    assert "let pip reach a package index, or set STARTER_COPIES=false" in said


def test_pip_is_needed_only_for_copying(tmp_path: Path) -> None:
    """Debian's python3 is one without pip."""
    no_pip = "[ \"$2\" != pip ] || { echo '/usr/bin/python3: No module named pip' >&2; exit 1; }"
    (tmp_path / "python3").write_text(f'#!/bin/sh\n{no_pip}\nexec /usr/bin/python3 "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    (said,) = problems(tmp_path, STARTER_COPIES="true")
    assert 'STARTER_COPIES=true needs pip, and python3 -m pip says "/usr/bin/python3: No module named pip"' in said
    assert problems(tmp_path) == []


# --- variables and rights within the limits, for test_prefixes.py ----------------------------------------------------

LARGEST = {name: str(row.limits[1]) for name, row in TABLE.items() if row.limits and name != "TASK_MEMORY"} | {
    "APP_NAME": "a" * 50,
    "REGION": "ap-southeast-1",
    "SRC_BUCKET": "b" * 63,
    "DST_BUCKET": "c" * 48 + "--apse1-az1--x-s3",
    "SRC_BUCKET_OWNER": "1" * 12,
    "DST_BUCKET_OWNER": "2" * 12,
    "LOG_LEVEL": "WARNING",
    "COPY_LAST": "g" * 500,
    "TABLES": "delta",
    "ANNOUNCE": "markers,failures",
    "EXCLUDE": "h" * 500,
    "ROLLBACKS": "false",
    "ASSIGN_PUBLIC_IP": "DISABLED",
    "SRC_KMS_KEY_ARN": ",".join([f"arn:aws:kms:ap-southeast-1:123456789012:key/mrk-{'e' * 32}"] * 50),
    "DST_KMS_KEY_ARN": f"arn:aws:kms:ap-southeast-1:123456789012:key/mrk-{'f' * 32}",
    "METRICS": "true",
    "ALARM_EMAIL": "you@example.com",
}


def largest(scripts: Scripts, **settings: str) -> tuple[int, int]:
    """Bytes of the function's variables and of its role's policy, with the largest of every other setting."""
    account = scripts.account = PaperAccount()
    given = LARGEST | settings
    role, function = (f"{kind} {LARGEST['APP_NAME']}-starter" for kind in ("role", "function"))
    scripts.step(f"ensure_{role}-role", "ensure_function", **given, STARTER_COPIES="true")
    (policy,) = account.kept[f"{role}-role"]["policies"].values()
    variables = account.kept[function]["Environment"]["Variables"] | {"PAUSED_SINCE": "2026-11-27T12:00:00Z"}
    variables |= {"SUBNETS": ",".join(["subnet-" + "0" * 17] * 16), "SECURITY_GROUPS": f"sg-{'0' * 17}"}
    variables["QUEUE_URL"] = variables["QUEUE_URL"].replace(REGION, LARGEST["REGION"])
    texts = [
        json.dumps(json.loads(one) if isinstance(one, str) else one, ensure_ascii=False, separators=(",", ":"))
        for one in (variables, policy)
    ]
    return len(texts[0].encode()), len(texts[1])

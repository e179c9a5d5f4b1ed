"""Deployments on the local cloud by both generations of the AWS CLI, whose words the account on paper only reads."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import boto3
from account import APP, CREDENTIALS, DIRECTORY, MIRROR, PROJECT, REGION, SOURCE, running_cli, running_local_cloud
from botocore.config import Config

# docker for a machine without one: a push puts a manifest into the local cloud's repository.
DOCKER = r"""#!/bin/bash
case "$1 $2" in
  "buildx version") echo "github.com/docker/buildx v0.13.1" ;;
  "buildx imagetools") echo sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ;;
  "version --format") echo 26.1.5 ;;
  "login "*) cat >/dev/null ;;
  "push "*)
    name=${2#*/}
    aws --region us-east-1 ecr put-image --repository-name "${name%:*}" --image-tag "${name#*:}" \
      --image-manifest '{"schemaVersion": 2, "layers": [], "config": {"digest": "d"},
      "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
    ;;
esac
"""
SETTINGS = {"REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "RETRY_PAUSE": "0.05", "EXCLUDE": "*.tmp"}
SETTINGS |= {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true", "TAGS": "team=ml,Cost Center=4 2"}
SETTINGS |= {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "7", "KEEP_DAYS": "30", "METRICS": "true"}


def make_buckets(url: str) -> None:
    config = Config(s3={"disable_s3_express_session_auth": True})
    keys = {name.lower(): value for name, value in CREDENTIALS.items()}
    s3 = boto3.client("s3", endpoint_url=url, region_name=REGION, config=config, **keys)
    s3.create_bucket(Bucket=SOURCE)
    s3.create_bucket(Bucket=MIRROR, CreateBucketConfiguration=DIRECTORY)


def test_what_the_older_cli_deploys_both_find_again_and_the_newer_knows_to_be_removed(
    tmp_path: Path,
) -> None:
    """In docs/test_commands.py and chain/test_chain.py, the newer one deploys and removes."""
    alone = {"LOCAL_TICK": "1000000", "DOCKER_HOST": "unix:///nonexistent.sock"}  # no rule fires, and no task runs
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running_local_cloud(tmp_path, **alone))
        make_buckets(url)
        (tmp_path / "docker").write_text(DOCKER)
        (tmp_path / "docker").chmod(0o755)
        tools = {}
        for cli in ("AWS_CLI_V1", "AWS_CLI_V2"):
            path = os.environ.get(cli) or shutil.which("aws")
            assert path, f"set {cli} to the path of an AWS CLI"
            (tmp_path / cli).mkdir()
            tools[cli] = stack.enter_context(running_cli(Path(path), tmp_path / cli))
        environment = {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": url} | CREDENTIALS | SETTINGS

        def run(cli: str, *command: str) -> str:
            command = (str(PROJECT / command[0]), *command[1:])
            given = environment | {"PATH": f"{tools[cli]}:{tmp_path}:{os.environ['PATH']}"}
            done = subprocess.run(command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def states(cli: str) -> set[str]:
            return set(re.findall(r"^\[\d+/\d+\] .+: (?!none, |left to )(.+)$", run(cli, "deploy.sh"), re.MULTILINE))

        assert states("AWS_CLI_V1") == {"created"}
        assert states("AWS_CLI_V1") == states("AWS_CLI_V2") == {"exists"}
        assert ": removed\n" in run("AWS_CLI_V1", "cleanup.sh", "--yes")
        assert run("AWS_CLI_V2", "cleanup.sh", "--yes").startswith(f"nothing of {APP} is left in account ")

"""Deployments on the local cloud by both generations of the AWS CLI, whose words the account on paper only reads."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest
from account import CREDENTIALS, DIRECTORY, MIRROR, PROJECT, REGION, SOURCE, running_cli, running_local_cloud
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
MAIL = {"ALARM_EMAIL": "ops@example.com", "CREATE_VPC_ENDPOINTS": "true"}
OPTIONS = {"EVENT_SOURCE": "eventbridge", "AUDIT_DAYS": "7", "KEEP_DAYS": "30", "METRICS": "true"}
OPTIONS |= {"TAGS": "team=ml,Cost Center=4 2", "EXCLUDE": "*.tmp"}


def make_buckets(url: str) -> None:
    config = Config(s3={"disable_s3_express_session_auth": True})
    keys = {name.lower(): value for name, value in CREDENTIALS.items()}
    s3 = boto3.client("s3", endpoint_url=url, region_name=REGION, config=config, **keys)
    s3.create_bucket(Bucket=SOURCE)
    s3.create_bucket(Bucket=MIRROR, CreateBucketConfiguration=DIRECTORY)


@pytest.mark.parametrize(("cli", "settings"), [("AWS_CLI_V1", MAIL), ("AWS_CLI_V2", MAIL | OPTIONS)])
def test_both_generations_of_the_cli_deploy_everything_find_it_again_and_remove_it(
    cli: str, settings: dict[str, str], tmp_path: Path
) -> None:
    path = os.environ.get(cli) or shutil.which("aws")
    assert path, f"set {cli} to the path of an AWS CLI"
    alone = {"LOCAL_TICK": "1000000", "DOCKER_HOST": "unix:///nonexistent.sock"}  # no rule fires, and no task runs
    with running_local_cloud(tmp_path, **alone) as url, running_cli(Path(path), tmp_path) as tools:
        make_buckets(url)
        (tools / "docker").write_text(DOCKER)
        (tools / "docker").chmod(0o755)
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path), "AWS_ENDPOINT_URL": url}
        environment |= {"REGION": REGION, "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "RETRY_PAUSE": "0.05"}

        def run(*command: str) -> str:
            command = (str(PROJECT / command[0]), *command[1:])
            given = environment | CREDENTIALS | settings
            done = subprocess.run(command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def states() -> set[str]:
            return set(re.findall(r"^\[\d+/\d+\] .+: (?!none, |left to )(.+)$", run("deploy.sh"), re.MULTILINE))

        assert states() == {"created"}
        assert states() == {"exists"}
        assert ": removed\n" in run("cleanup.sh", "--yes")
        assert run("cleanup.sh", "--yes").startswith("nothing of ")

"""Deployments at random, in any state, on a hostile account on paper: what holds for each of them.

Each case is a seed. To run one: GENERATED_SEEDS=SEED .venv/bin/pytest tests/scripts/test_generated.py
NIGHTLY=1 runs more of them.
"""

import copy
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from account import APP, MIRROR, SOURCE
from broken_links import BROKEN
from documents import Ran, Scripts, scripts_of_module, sourced_scripts
from generated import CASES, OTHERS, Case, crowd, drawn_case, more_subnets, spoil, theirs_that_are_gone
from hostile import Hostile, Hostility
from observers import Guarded, Seen
from operated import Verbs, verbs
from oracles import SAYS_WHAT, changed_things, errors_of_tools, faults, unlike_the_plan
from test_policy_files import TASK
from test_upgrade import unpack_release

__all__ = ["verbs"]
NAMED = {"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR, "RETRY_LIMIT": "60", "RETRY_PAUSE": "20"}
PLANNED = "PLAN_FORMAT=json; deploy_all"
DETAIL = ("--dry-run", "--json", "--detailed-exitcode")
# What a removal that may not read these says.
DENIED = [f"the {part} of {MIRROR} could not be read: " for part in ("lifecycle", "policy")]
DENIED += ["To have it removed, if deploy.sh made it, add this statement to a policy of your own identity"]
DENIED += ["because its tags could not be read", "grant yourself lambda:ListTags", "s3express:DeleteBucketPolicy"]
# What a run says that it waits for: the call, the error, and the words. The first row that fits counts.
WAITS = (
    ("CreateQueue", "QueueDeletedRecently", "the queue of this name was deleted less than 60 s ago"),
    ("CreateQueue", "Dead letter target", "SQS does not see the new dead-letter queue yet"),
    ("CreateCluster", "service linked role", "ECS cannot use its service-linked role yet"),
    ("DeleteCluster", "ClusterContainsTasks", "the last tasks are still ending"),
    ("CreateFunction", "assumed by Lambda", "Lambda cannot assume the new role yet"),
    ("CreateFunction", "CreateGrant", "KMS does not see the new role yet"),
    ("CreateFunction", "iam:PassRole", "the new role cannot be passed to Lambda yet, or you may not pass it"),
    ("RegisterTaskDefinition", "iam:PassRole", "the new role cannot be passed to ECS yet, or you may not pass it"),
    ("Function", "ResourceConflict", "the function is being changed"),
    ("PutBucketNotification", "Unable to validate", "S3 does not see the queue policy yet, or another notification"),
    ("CreateVpcEndpoint", "RouteAlreadyExists", "an endpoint that is being deleted still has the route"),
    ("DeleteSecurityGroup", "DependencyViolation", "the network interfaces of the last tasks are still there"),
    ("PutRolePolicy", "NoSuchEntity", "IAM does not see the new role yet"),
    ("DeleteRole", "DeleteConflict", "IAM does not see yet that the policies are gone"),
    ("Cluster", "UpdateInProgress", "the cluster is being changed"),
    ("LogGroup|Retention|Filter", "OperationAborted", "another change of the log group is in progress"),
    ("Bucket", "OperationAborted", "another change of the bucket is in progress"),
    ("", "change is in progress", "another change of it is in progress"),
    ("", "Rate exceeded", "AWS takes fewer calls at the moment"),
)


# Seeds of a night whose troubles no other one has: lists that are empty and missing, and an endpoint to be made.
FOUND = (88,)


def seeds() -> list[int]:
    chosen = os.environ.get("GENERATED_SEEDS")
    if chosen:
        return [int(seed) for seed in chosen.split(",")]
    return list(range(400)) if os.environ.get("NIGHTLY") == "1" else [*range(CASES), *FOUND]


scripts = scripts_of_module()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    project = unpack_release("1.2.0", tmp_path_factory.mktemp("release"))
    with sourced_scripts(tmp_path_factory.mktemp("older"), project=project) as found:
        yield found


class World:
    """An account in the state of a case, and the scripts that run on it."""

    looked: set[tuple[bool, str]] = set()  # noqa: RUF012 - ways of events, each with a trouble in which status saw it

    def __init__(self, case: Case, scripts: Scripts, verbs: Verbs, older: Scripts) -> None:
        self.case, self.scripts, self.verbs, self.older = case, scripts, verbs, older
        self.theirs = crowd(scripts.with_deployment(**OTHERS).kept) if case.hostility.crowded else {}
        self.account = Hostile(Hostility(), case.seed)
        for found in (scripts, verbs, older):
            found.account = self.account
        self.make()
        if case.hostility.crowded:
            ours = self.account.kept.get(f"notifications {SOURCE}", {})
            self.account.kept |= copy.deepcopy(self.theirs)
            both = self.account.kept[f"notifications {SOURCE}"]
            both["QueueConfigurations"] += ours.pop("QueueConfigurations", [])
            both |= ours
            self.account.subnets, self.account.route_tables = more_subnets()
        self.account.hostility = case.hostility
        self.account.status_of_refusals = 255 if case.hostility.old_cli else 254

    def deployed(self) -> dict[str, Any]:
        """What an account has after a deployment, when all went well."""
        scripts = self.older if self.case.state == "deployed by 1.2.0" else self.scripts
        kept = scripts.with_deployment(**self.case.before).kept
        scripts.account = self.account
        return kept

    def make(self) -> None:
        state, before = self.case.state, NAMED | self.case.before
        if state == "interrupted":
            self.account.is_made = self.case.seed % 2 == 0
            self.account.left_until_interrupted = self.case.step
            self.checked(self.scripts.deploy(status=None, **before))
        if state not in ("nothing", "interrupted"):
            self.account.kept = self.deployed()
            if self.case.seed % 3 == 0:
                self.account.kept["running t1"] = dict(TASK)
        if state == "broken":
            BROKEN[self.case.broken].breaks(self.account.kept)
        elif state == "spoiled":
            spoil(self.account.kept)
        elif state == "cleaned":
            self.account.hostility = Hostility(settling=self.case.hostility.settling)
            self.checked(self.scripts.clean_up(**before))
        elif state == "partly cleaned":
            self.account.left_until_interrupted = self.case.step % 25 + 1
            self.checked(self.scripts.clean_up(status=None, **before))
        if state in ("nothing", "spoiled") and self.case.seed % 2:  # all that an account has to keep unreserved
            self.account.kept["limit unreserved"] = 100
        self.account.left_until_interrupted = -1
        self.account.new.clear()

    def checked(self, ran: Ran) -> Ran:
        """Whatever the end of a run, no tool speaks for itself, and who fails says what."""
        assert errors_of_tools(ran) == [], ran.output + ran.errors
        if ran.status not in (0, 130):
            assert SAYS_WHAT.search(ran.errors + ran.output), ran.output + ran.errors
        assert ran.status or [said for said in self.waits() if f"waiting: {said}" not in ran.errors] == [], ran.errors
        self.account.refused.clear()
        return ran

    def waits(self) -> Iterator[str]:
        """What the last run is to have said, by the writes that were refused to it."""
        for refused in self.account.refused:
            fitting = [said for call, error, said in WAITS if re.search(f"(?:{call}).* .*{error}", refused)]
            yield from fitting[:1]

    def deploy(self) -> None:
        """By the plan; what AWS did not let be done is done by one run in calm. Then there is nothing to do."""
        dial, settings = self.case.hostility, NAMED | self.case.settings
        ran = self.checked(self.scripts.run(PLANNED, None if dial.lagging else 0, **settings))
        if ran.status == 0:
            assert unlike_the_plan(json.loads(ran.output), ran) == []
        self.account.calm()
        if dial.lagging or dial.denied:
            self.account.pass_time(3600)
            ran = self.checked(self.scripts.run(PLANNED, **settings))
        if json.loads(ran.output)["changes"] or ran.writes:  # otherwise this has been the second plan
            ran = self.scripts.deploy(*DETAIL, status=None, **settings)
            assert errors_of_tools(ran) == [], ran.output + ran.errors
            assert (json.loads(ran.output)["changes"], ran.status, ran.writes) == (0, 0, []), ran.output

    def faults_of_path(self) -> set[str]:
        """What the guard says of the path of events; and status, and so verify, which read it from the CLI, if that
        has not been seen in such a trouble before."""
        function = self.account.kept[f"function {APP}-starter"]
        assert function["Environment"]["Variables"]["GUARD"]
        self.account.is_confirmed = True
        found = set(Guarded(self.account, function).run())
        by_rule = f"rule {APP}-event-rule" in self.account.kept
        looks = {(by_rule, trouble) for trouble in str(self.account.hostility).split(", ")}
        if looks - self.looked:
            self.looked.update(looks)
            settings = {name: value for name, value in self.case.settings.items() if name.startswith("ROLE_PATH")}
            found |= {why for _, why in Seen(self.verbs, self.account, **NAMED | settings).faults}
        return found

    def clean_up(self) -> None:
        dial = self.account.hostility = self.case.hostility
        settings, may_fail = NAMED | self.case.settings, dial.lagging or dial.denied
        self.account.left.clear()
        ran = self.checked(self.scripts.clean_up(status=None if may_fail else 0, **settings))
        if dial.denied and not dial.lagging:
            assert [said for said in DENIED if said not in ran.errors] == []
            assert f"function {APP}-starter" in self.account.kept
        self.account.calm()
        if may_fail or dial.settling:
            ran = self.checked(self.scripts.clean_up(**settings))
            assert may_fail or ran.writes == [], "there is nothing left to remove"
        self.account.pass_time(3600)
        self.account.kept.pop("running t1", None)


@pytest.mark.parametrize("seed", seeds())
def test_a_deployment_at_random(seed: int, scripts: Scripts, verbs: Verbs, older: Scripts) -> None:
    case = drawn_case(seed)
    print(f"{case}\nGENERATED_SEEDS={seed} .venv/bin/pytest tests/scripts/test_generated.py")
    world = World(case, scripts, verbs, older)
    world.deploy()
    assert list(faults(world.account, case.settings)) == []
    assert case.state != "spoiled" or theirs_that_are_gone(world.account.kept) == []
    assert world.faults_of_path() == set()
    world.clean_up()
    assert changed_things(world.theirs, world.account.kept) == []

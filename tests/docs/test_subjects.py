"""What a reader of README.md may look for is there, or one click away, in both languages."""

import pytest
from pages import PAGES, anchors, chinese_of, in_chinese, links, place

README = "README.md"

# subject -> where it is: a chapter of README.md itself, or a link that stands in it.
SUBJECTS = {
    "why it is needed, and what for": "#s3-to-s3express-sync",
    "other ways, in short": "#why-not-something-else",
    "other ways, and when each is better": "docs/alternatives.md",
    "what it does not do": "#when-not-to-use-it",
    "how the parts work together": "#how-it-works",
    "the same as a picture": "docs/architecture.svg",
    "each step of the protocol, and why": "docs/design.md#how-it-stays-right",
    "what was proven, and what was not": "docs/guarantees.md#what-was-proven",
    "what is assumed of AWS, and who has seen it": "docs/evidence.md",
    "limits": "docs/guarantees.md#limits",
    "a try without AWS": "#try-it-on-one-machine",
    "what must be there first": "#what-you-need",
    "how both buckets are made": "#create-the-buckets",
    "how it is deployed": "#configure-and-deploy",
    "the settings": "docs/settings.md",
    "what a month costs": "#what-it-costs",
    "what it would cost": "docs/costs.md#what-it-would-cost-you",
    "how to pay less": "docs/costs.md#ways-to-pay-less",
    "settings for much, little, large and small": "docs/performance.md#tuning",
    "how it takes seconds": "docs/performance.md#seconds-from-idle",
    "a Spot interruption, an outage": "docs/operations.md#faults",
    "what runs now": "docs/operations.md#status",
    "the logs": "docs/operations.md#logs",
    "messages that failed": "docs/operations.md#failed-messages",
    "alarms": "docs/troubleshooting.md#alarms",
    "why one file is there or not": "docs/operations.md#explain",
    "a pause": "docs/operations.md#pause",
    "a file is not there": "docs/troubleshooting.md#a-file-was-not-synced",
    "it takes too long": "docs/troubleshooting.md#it-is-slow",
    "what a line of the log means": "docs/troubleshooting.md#lines-of-the-log",
    "how all is removed, and what stays": "#clean-up",
    "rights and roles": "docs/guarantees.md#security",
    "tables that queries read": "docs/recipes.md#tables-for-analytics",
    "a job that waits for its data": "docs/recipes.md#a-training-job-that-waits",
    "an upgrade": "docs/operations.md#upgrade",
    "which file does what": "CONTRIBUTING.md#the-house",
    "what has changed": "CHANGELOG.md",
    "the licence": "LICENSE",
    "how a vulnerability is reported": "SECURITY.md",
}

# AWS's own pages on what it is made of, by a part of their address.
SUBJECTS_OF_AWS = (
    "s3-express-one-zone",
    "EventNotifications",
    "mpuoverview",
    "AWSSimpleQueueService",
    "docs.aws.amazon.com/lambda",
    "eb-create-rule-schedule",
    "fargate-capacity-providers",
    "aws.amazon.com/fargate/pricing",
)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_is_in_the_readme_or_one_click_away(subject: str) -> None:
    target = SUBJECTS[subject]
    for page, wanted in ((README, place(README, target)), (chinese_of(README), in_chinese(README, target))):
        in_it = {f"{page}#{name}" for name in anchors(page)}
        clicks = {place(page, link.target) for link in links(page)}
        assert wanted in in_it | clicks


@pytest.mark.parametrize("page", [README, chinese_of(README)])
def test_the_pages_of_aws_are_one_click_away(page: str) -> None:
    addresses = [link.target for link in links(page) if link.target.startswith("https://")]
    assert [part for part in SUBJECTS_OF_AWS if not any(part in address for address in addresses)] == []


def test_every_page_has_a_subject() -> None:
    assert {page for page in PAGES if not any(place(README, t).startswith(page) for t in SUBJECTS.values())} == set()

"""A denial: what the operator can do about it, by the request that was denied and by the policy that decided.

Which errors are denials is in the table of errors.py. An answer to HeadObject has no body, so a denial is only a number
there: Buckets.explain() asks for the reason.
"""

from __future__ import annotations

UNEXPLAINED = ("400", "403")  # of a HEAD request
SSE_C = "an object encrypted with a customer-provided key (SSE-C) cannot be read by the worker"
READ = (
    "run deploy.sh, so that the task role may use s3:GetObject on the object and s3:ListBucket on the source bucket, "
    "and the KMS key; for other policies see docs/troubleshooting.md#denied"
)
BOTH = (
    "run deploy.sh, so that the task role may use s3:GetObject on the source and s3:ListBucket, "
    "s3express:CreateSession on the destination, and the KMS keys of both; "
    "for other policies see docs/troubleshooting.md#denied"
)
DEPLOY = "run deploy.sh with ANNOUNCE set, so that the role may use events:PutEvents"
# Words of AWS that name the policy which decided (IAM User Guide, "Troubleshoot access denied error messages"), and the
# advice that then takes the place of a row's; "" if that row is right. deploy.sh sets no other policy than the role's.
DENIED_BY = (
    ("no identity-based policy allows", ""),
    ("explicit deny in an identity-based policy", "somebody has added a policy to the role: change that"),
    ("resource-based policy", "change the policy of the bucket or the KMS key, of which deploy.sh changes none"),
    ("permissions boundary", "the permissions boundary of the role (ROLE_BOUNDARY_ARN) has to allow this: change that"),
    ("control policy", "a policy of your organization forbids this: ask those who manage it"),
)


def advice_on_denial(message: str) -> str:
    """By what AWS says last, because the key, which comes before that, may have any words in it."""
    at, advice = max((message.rfind(words), advice) for words, advice in DENIED_BY)
    return f"{advice}; see docs/troubleshooting.md#denied" if at >= 0 and advice else ""

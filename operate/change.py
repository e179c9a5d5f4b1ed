"""Changes a resource of the deployment, by a function of lib/ that deploy.sh and cleanup.sh share."""

from __future__ import annotations

import os

from operate.deployment import Deployment
from operate.scripts import output_of


def change(deployment: Deployment, function: str, *arguments: str) -> str:
    """What the function prints. A signal does not end a call of AWS that is in progress (run_change in
    lib/operate.sh)."""
    known = {
        **deployment.settings,
        "ACCOUNT": deployment.account,
        "VIA": deployment.via,
        "CLI_VERSION": deployment.cli_version,
    }
    words = [*(f"{name}={value}" for name, value in known.items()), "", function, *arguments]
    given = b"".join(os.fsencode(word) + b"\0" for word in words)
    return os.fsdecode(output_of(deployment.bash, "sync.sh", ["run_change"], given)).rstrip("\n")

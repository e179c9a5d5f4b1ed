"""Temporary credentials that ministack accepts."""

import secrets
import time

from ministack.services import sts


def temporary_credentials(arn, user_id, seconds):
    """Make credentials that ministack accepts for this principal; expiration in seconds since the epoch."""
    key_id, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(64)
    expires = time.time() + seconds
    session = {"SecretAccessKey": secret, "SessionToken": token, "Expiration": expires}
    sts.register_session(key_id, {"Arn": arn, "UserId": user_id, **session})
    return key_id, secret, token, expires

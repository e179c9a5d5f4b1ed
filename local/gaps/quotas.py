"""Service Quotas: the one quota that deploy.sh asks for."""

from __future__ import annotations

import json

from ministack import app
from ministack.core.responses import json_response


async def get_service_quota(_method, _path, _headers, body, _query):
    """Return the 6 vCPUs that a new account has for Fargate and for Fargate Spot, whatever quota is asked for."""
    return json_response({"Quota": {**json.loads(body), "Value": 6.0}})


app.SERVICE_HANDLERS["servicequotas"] = get_service_quota

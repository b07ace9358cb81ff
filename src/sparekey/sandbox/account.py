"""The Account Management service: the regions of an account and whether they are enabled."""

from typing import Any

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler


def list_regions(call: ApiCall) -> dict[str, Any]:
    """Regions with their opt-in status, filtered, paged by at most 50."""
    statuses = call.params.get("RegionOptStatusContains") or ["ENABLED", "ENABLED_BY_DEFAULT", "DISABLED"]
    known = [(name, "ENABLED_BY_DEFAULT") for name in call.company.regions]
    known += [(name, "DISABLED") for name in call.company.regions_off]
    regions = [
        {"RegionName": name, "RegionOptStatus": status} for name, status in known if status in statuses
    ]
    size = call.params.get("MaxResults", 50)
    start = call.params.get("NextToken") or "0"
    if not 1 <= size <= 50 or not start.isdecimal():
        raise ErrorReplyError(
            "ValidationException", "MaxResults must be from 1 to 50, and NextToken one of ours.", 400
        )
    end = int(start) + call.faults.page_size(call, size)
    return {"Regions": regions[int(start) : end]} | ({"NextToken": str(end)} if end < len(regions) else {})


ACTIONS: dict[str, Handler] = {"ListRegions": list_regions}

"""EC2, as far as it lists the regions of an account."""

from typing import Any

from sparekey.sandbox.request import ApiCall, Handler


def describe_regions(call: ApiCall) -> dict[str, Any]:
    """Enabled regions, all of them where AllRegions is true."""
    regions = [_region(name, "opt-in-not-required") for name in call.company.regions]
    if str(call.params.get("AllRegions", "false")).lower() == "true":
        regions += [_region(name, "not-opted-in") for name in call.company.regions_off]
    return {"regionInfo": regions}


def _region(name: str, status: str) -> dict[str, str]:
    return {"regionName": name, "regionEndpoint": f"ec2.{name}.amazonaws.com", "optInStatus": status}


ACTIONS: dict[str, Handler] = {"DescribeRegions": describe_regions}

"""AWS services that deliver files of their own beside CloudTrail's logs, and how their folders and files are named.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html lists services that deliver
logs to S3.
"""

import re

ACCOUNT = r"/AWSLogs/(?:o-[a-z0-9]+/)?(?:\d{12}|aws-account-id=\d{12})"
# Services that write to folders of their own below AWSLogs/ACCOUNT/, CloudTrail's other kinds of files included.
_SERVICES = (
    *("CloudTrail-Digest", "CloudTrail-Insight", "CloudTrail-Aggregated", "CloudTrail-Lake"),
    *("AmazonMQ", "BedrockModelInvocationLogs", "CloudFront", "Config", "GuardDuty", "MskConnect", "S3Logs"),
    *("SageMaker", "VpcLattice", "WAFLogs", "elasticloadbalancing", "globalaccelerator", "network-firewall"),
    *("redshift", "route53resolver", "ses", "vpcdnsquerylogs", "vpcflowlogs", "vpn", "verified-access"),
)
NAMES = "|".join(map(re.escape, _SERVICES))
_FOLDER = re.compile(rf"{ACCOUNT}/(?:{NAMES}|aws-service=(?!cloudtrail(?:/|$))[^/]+)(?:/|$)", re.IGNORECASE)


def delivering_service(folder: str) -> bool:
    """True where a folder (its whole path) belongs to another service, in the layout of AWS's own deliveries."""
    return _FOLDER.search(folder) is not None

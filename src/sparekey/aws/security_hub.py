"""Security Hub in one account: its findings read page by page, and findings brought in."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparekey.aws.client import AwsClient, Principal


class SecurityHub:
    """One account's Security Hub with that account's own credentials, as `report.asff` asks for it."""

    def __init__(self, client: AwsClient, principal: Principal) -> None:
        self._client = client
        self._principal = principal
        self.region = client.service("securityhub").region

    def get_findings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """One page of findings; raises AwsError.

        Source: https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
        """
        return self._client.call(self._principal, "securityhub", "GetFindings", params)

    def batch_import_findings(self, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """At most 100 findings in; raises AwsError.

        Source: https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
        """
        params = {"Findings": list(findings)}
        return self._client.call(self._principal, "securityhub", "BatchImportFindings", params)

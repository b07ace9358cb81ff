"""Bounded paging: a faulty endpoint may name a next page for ever, or repeat one."""

from sparekey.aws.errors import MalformedResponseError

# An account has 5,000 users at most, an organization some ten thousand accounts of 20 a page; pages may be short.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_MAX_PAGES = 20_000


class PageTokens:
    """The pages of one listing that were asked for."""

    def __init__(self, call: str) -> None:
        self._call = call
        self._seen: set[str] = set()

    def next_params(self, token: str) -> str:
        """The token of a page that was not asked for yet; raises BadAnswerError."""
        if token in self._seen:
            raise MalformedResponseError(f"the pages of {self._call} lead in a circle", action=self._call)
        if len(self._seen) >= _MAX_PAGES:
            raise MalformedResponseError(
                f"{self._call} continues after {_MAX_PAGES:,} pages", action=self._call
            )
        self._seen.add(token)
        return token

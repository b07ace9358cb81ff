"""An archive in S3: botocore finds out where the bucket is and by which rules, obstore fetches.

Fetching small S3 objects costs boto3 more than a millisecond of CPU each, and obstore a fifth of that. But only
botocore knows all that an AWS configuration may say: endpoints by every way of naming them, partitions, FIPS, dual
stack, the style of addressing, the bucket's own region. So it lists one key; obstore continues where that call went.
"""

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from botocore.utils import get_environ_proxies

from sparekey.aws.credential_chain import ChainCredentials, resolve
from sparekey.aws.credential_errors import CredentialSetup, explain
from sparekey.aws.errors import ErrorResponse, error_from_response
from sparekey.clock import SystemClock
from sparekey.errors import BadInputError, UnreadError
from sparekey.usage.archive.storage import FolderListing, Found
from sparekey.usage.bounds import LARGEST, TOO_LARGE

if TYPE_CHECKING:
    from obstore.store import S3Store

_PARALLEL_REQUESTS = 16
_RETRIES = timedelta(minutes=5)  # botocore renews what has to be renewed
_USERINFO = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True)
class BucketAddress:
    """Where botocore asks for a bucket: at a host of its own (`virtual`), or in the path of `endpoint`.

    `region` is the one to sign for.
    """

    endpoint: str
    virtual: bool
    region: str


@dataclass(frozen=True)
class S3Storage:
    """`s3://bucket/prefix`, with the credentials of the usual AWS chain (resolved where it is read)."""

    url: str
    profile: str | None = None
    region: str | None = None
    endpoint: str | None = None
    found: BucketAddress | None = field(default=None, repr=False, compare=False)
    single_file: ClassVar[None] = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process is given where the bucket is, and makes a connection of its own."""
        return S3Storage, (self.url, self.profile, self.region, self.endpoint, self.found or self._found)

    @property
    def root(self) -> str:
        """The URL."""
        return self.url.rstrip("/")

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def _prefix(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[2].strip("/")

    @cached_property
    def _session(self) -> Session:
        session = Session(profile=self.profile)
        # The AWS CLI reads AWS_REGION first; botocore does not read it at all.
        if region := self.region or os.environ.get("AWS_REGION"):
            session.set_config_variable("region", region)
        return session

    @cached_property
    def _credentials(self) -> ChainCredentials:
        try:
            session = self._session
            return resolve(session)
        except BotoCoreError as error:  # a profile that there is not
            raise explain(error, CredentialSetup(self.profile or "", (), os.environ)) from None

    @cached_property
    def _found(self) -> BucketAddress:
        """List one key by botocore, which follows a bucket to its region; raises UnreadError where S3 refuses."""
        asked: list[tuple[str, str]] = []

        def note(request: Any, region_name: str | None, **_: Any) -> None:
            signing = request.context.get("signing", {}).get("region") or region_name
            asked.append((request.url, signing or "us-east-1"))

        self._credentials.get_frozen_credentials()  # its failures are reported without what a helper printed
        try:
            client = self._session.create_client(
                "s3", endpoint_url=self.endpoint, config=Config(user_agent_extra="sparekey")
            )
            client.meta.events.register_last("before-sign.s3", note)
            prefix = f"{self._prefix}/" if self._prefix else ""
            client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1)
        except (BotoCoreError, ClientError, ValueError, OSError, RecursionError) as error:
            raise self._refused(error) from None  # botocore's own error may quote what a helper printed
        url, region = asked[-1]
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        virtual = not path.endswith(f"/{quote(self.bucket)}")
        if not virtual:
            path = path.removesuffix(f"/{quote(self.bucket)}")
        return BucketAddress(f"{parts.scheme}://{parts.netloc}{path}", virtual, region)

    def _refused(self, error: Exception) -> UnreadError:
        """What S3, or the network, answered to the listing."""
        if not isinstance(error, ClientError):
            translated = explain(error, self._credentials.setup, self._session)
            return UnreadError(f"{self.root} could not be listed: {translated.message}", translated.hint)
        answer = error.response.get("Error", {})
        meta = error.response.get("ResponseMetadata", {})
        code, status = str(answer.get("Code", "")), int(meta.get("HTTPStatusCode", 400))
        region = meta.get("HTTPHeaders", {}).get("x-amz-bucket-region") or answer.get("Region")
        if status in {301, 307} or code in {
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        }:
            where = f"region {region}" if region else "another region"
            return UnreadError(
                f"{self.root} could not be listed: the bucket is in {where} ({code or status})",
                f"Name it: --region {region}." if region else "Name the bucket's region: --region NAME.",
            )
        if code == "NoSuchBucket":
            return UnreadError(f"{self.root} could not be listed: there is no such bucket")
        translated = error_from_response(
            ErrorResponse(
                service="s3",
                action="ListObjectsV2",
                status=status,
                code=code,
                message=str(answer.get("Message", "")),
                request_id=str(meta.get("RequestId", "")),
            )
        )
        hint = "Reading an archive needs s3:ListBucket and s3:GetObject (and kms:Decrypt, if encrypted)."
        return UnreadError(
            f"{self.root} could not be listed: {translated.message} (HTTP {status} {code})", hint
        )

    @cached_property
    def _store(self) -> "S3Store":
        from obstore.store import S3Store  # noqa: PLC0415 - an extra

        credentials = self._credentials

        def provide() -> Any:
            frozen = credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": SystemClock().now() + _RETRIES,
            }

        address = self.found or self._found
        return S3Store(
            self.bucket,
            prefix=self._prefix or None,
            region=address.region,
            credential_provider=provide,
            client_options=self._transport(address.endpoint),
            virtual_hosted_style_request=address.virtual,
            # It comes before what obstore itself would take from the environment, which botocore may have ignored.
            aws_endpoint_url_s3=address.endpoint,
            skip_signature=False,
            s3_express=False,
        )

    def _transport(self, endpoint: str) -> Any:
        """Proxy and certificates as botocore takes them; obstore reads the proxy variables by rules of its own."""
        options: dict[str, Any] = {"allow_http": True} if endpoint.startswith("http://") else {}
        scheme = urlsplit(endpoint).scheme
        if proxy := get_environ_proxies(endpoint).get(scheme):
            options["proxy_url"] = proxy
        elif proxy := getproxies().get(scheme):
            options |= {"proxy_url": proxy, "proxy_excludes": urlsplit(endpoint).hostname or ""}
        bundle = self._session.get_config_variable("ca_bundle")
        if bundle and scheme == "https":
            try:
                options["root_certificate"] = Path(bundle).read_bytes()
            except OSError as error:
                raise BadInputError(
                    f"the certificates {bundle} could not be read: {error.strerror}", "See AWS_CA_BUNDLE."
                ) from error
        return options

    def identity(self, folder: str) -> object:
        """Its path: nothing links to it."""
        return folder

    def children(self, folder: str) -> FolderListing:
        """All pages of one folder; the empty object that stands for the folder itself is none of its files."""
        from obstore import list_with_delimiter  # noqa: PLC0415

        with _as_os_error():
            listing = list_with_delimiter(self._store, folder or None)
        files: list[Found] = [
            (item["path"], item["size"])
            for item in listing["objects"]
            if item["path"] != folder or item["size"]
        ]
        return FolderListing(sorted(listing["common_prefixes"]), sorted(files), [])

    def fetch(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        """Several at once, in order."""
        with ThreadPoolExecutor(_PARALLEL_REQUESTS) as threads:
            yield from threads.map(self._get, names)

    def _get(self, name: str) -> tuple[str, bytes | OSError]:
        from obstore import get  # noqa: PLC0415

        try:
            with _as_os_error():
                answer = get(self._store, name)
                if answer.meta["size"] > LARGEST:
                    return name, OSError(TOO_LARGE)
                return name, bytes(answer.bytes())
        except OSError as error:
            return name, error


@contextmanager
def _as_os_error() -> Iterator[None]:
    from obstore.exceptions import BaseError  # noqa: PLC0415

    try:
        yield
    except BaseError as error:
        text = _USERINFO.sub("//", str(error).partition("\n")[0])
        raise OSError(text[:300]) from error

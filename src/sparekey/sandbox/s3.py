"""Just enough S3 for an application that uses a key: list buckets, put, get and list objects.

Any bucket exists; objects live in memory.
"""

import base64
import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.protocols import OperationRequest, RawRequest, RawResponse, iso
from sparekey.sandbox.request import ApiCall

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_OPERATIONS = {
    ("GET", 0): "ListBuckets",
    ("GET", 1): "ListObjects",
    ("GET", 2): "GetObject",
    ("HEAD", 2): "HeadObject",
    ("PUT", 2): "PutObject",
}
_PAGE = 1000


def operation(request: RawRequest) -> OperationRequest:
    """The operation, from method and path; raises AwsError."""
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    parts = 2 if key else 1 if bucket else 0
    action = _OPERATIONS.get((request.method, parts))
    if action is None:
        raise ErrorReplyError("NotImplemented", "The sandbox's S3 does not know this operation.", 501)
    params = {"bucketName": bucket} if bucket else {}
    return OperationRequest("s3", action, params | ({"key": key} if key else {}))


def serve(call: ApiCall) -> RawResponse:
    """Answer; raises AwsError."""
    bucket, key = call.params.get("bucketName", ""), call.params.get("key", "")
    partition = call.company.partition
    if bucket:
        arns = [("AWS::S3::Object", f"arn:{partition}:s3:::{bucket}/{key}")] if key else []
        call.resources = (*arns, ("AWS::S3::Bucket", f"arn:{partition}:s3:::{bucket}"))
    objects = call.company.objects
    match call.operation.action:
        case "ListBuckets":
            return _xml(call, _buckets(call))
        case "ListObjects":
            return _xml(call, _listing(call, bucket))
        case "PutObject":
            body = _unchunked(call.request)
            objects[bucket, key] = body
            return _response(call, 200, b"", {"ETag": _etag(body)})
        case _:
            if (bucket, key) not in objects:
                raise ErrorReplyError("NoSuchKey", "The specified key does not exist.", 404)
            body = objects[bucket, key]
            kind = {"Content-Type": "binary/octet-stream", "ETag": _etag(body)}
            return _response(call, 200, body, kind)


def _unchunked(request: RawRequest) -> bytes:
    """The body without the framing of aws-chunked."""
    if not request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return request.body
    whole, rest = b"", request.body
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        try:
            size = int(head.partition(b";")[0], 16)
        except ValueError:
            raise ErrorReplyError(
                "IncompleteBody", "The request body is not chunked as it says", 400
            ) from None
        if size <= 0:
            break
        whole += rest[:size]
        rest = rest[size + 2 :]
    return whole


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _buckets(call: ApiCall) -> str:
    created = iso(call.account.joined)
    names = sorted({bucket for bucket, _ in call.company.objects})
    elements = "".join(
        f"<Bucket><Name>{escape(n)}</Name><CreationDate>{created}</CreationDate></Bucket>" for n in names
    )
    inner = f"<Owner><ID>{call.account.id}</ID></Owner><Buckets>{elements}</Buckets>"
    return f'<ListAllMyBucketsResult xmlns="{_NAMESPACE}">{inner}</ListAllMyBucketsResult>'


def _listing(call: ApiCall, bucket: str) -> str:
    query = {name: values[0] for name, values in parse_qs(call.request.query, keep_blank_values=True).items()}
    if query.get("list-type") != "2":
        raise ErrorReplyError("NotImplemented", "The sandbox's S3 lists by ListObjectsV2 only.", 501)
    prefix, token = query.get("prefix", ""), query.get("continuation-token", "")
    try:
        after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after", "")
        size = call.faults.page_size(call, min(int(query.get("max-keys", _PAGE)), _PAGE))
    except ValueError:
        raise ErrorReplyError(
            "InvalidArgument", "The continuation token or max-keys is not valid", 400
        ) from None
    keys = sorted(k for b, k in call.company.objects if b == bucket and k.startswith(prefix) and k > after)
    page, truncated = keys[:size], len(keys) > size
    more = ""
    if truncated:
        following = base64.urlsafe_b64encode(page[-1].encode()).decode()
        more = f"<NextContinuationToken>{following}</NextContinuationToken>"
    return (
        f'<ListBucketResult xmlns="{_NAMESPACE}"><Name>{escape(bucket)}</Name>'
        f"<Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{size}</MaxKeys>"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{more}"
        f"{''.join(_contents(call, bucket, page))}</ListBucketResult>"
    )


def _contents(call: ApiCall, bucket: str, keys: list[str]) -> Iterator[str]:
    for key in keys:
        body = call.company.objects[bucket, key]
        yield (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{iso(call.account.joined)}</LastModified>"
            f"<ETag>{escape(_etag(body))}</ETag><Size>{len(body)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


def _xml(call: ApiCall, body: str) -> RawResponse:
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
    return _response(call, 200, content, {"Content-Type": "application/xml"})


def _response(call: ApiCall, status: int, body: bytes, headers: dict[str, str]) -> RawResponse:
    return RawResponse(status=status, headers={"x-amz-request-id": call.request_id, **headers}, body=body)

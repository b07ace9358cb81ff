"""Findings and messages through our own client: moto in server mode stands at the other end."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.session import Session
from moto.server import ThreadedMotoServer

from sparekey import notify
from sparekey.aws.errors import AwsError
from sparekey.aws.gateway import AwsGateway
from sparekey.clock import SystemClock
from sparekey.report import asff
from support import sample_company as company

ACCOUNT = "123456789012"  # moto's own


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    made = Session()
    made.set_credentials("AKIATESTING000000001", "testing")
    yield made
    server.stop()


def client(session: Session, name: str, region: str) -> Any:
    return session.create_client(name, region_name=region)


def test_findings_reach_security_hub_and_change_there(session: Session) -> None:
    hub = client(session, "securityhub", "eu-central-1")
    hub.enable_security_hub()
    account = AwsGateway.connect(session=session, region="eu-central-1").own_account()
    spare = company.user(ACCOUNT, "etl", company.key(1, 3, 1), company.key(2, 4, 1))
    single = company.user(ACCOUNT, "etl", company.key(1, 3, 1))
    for user, status in ((spare, "FAILED"), (single, "PASSED")):
        audit = company.audit(company.account(ACCOUNT, user), rules=("two-active-keys",))
        (sent,) = asff.send(audit, lambda _: account.security_hub(), SystemClock())
        assert (sent.error, sent.refused, sent.imported) == ("", (), 1)
        (received,) = hub.get_findings()["Findings"]
        assert received["Compliance"]["Status"] == status
        assert (
            received["ProductArn"] == f"arn:aws:securityhub:eu-central-1:{ACCOUNT}:product/{ACCOUNT}/default"
        )
    hub.close()


def test_a_message_reaches_a_topic_in_its_own_region(session: Session) -> None:
    sns, sqs = client(session, "sns", "eu-west-1"), client(session, "sqs", "eu-west-1")
    topic = sns.create_topic(Name="ops")["TopicArn"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:eu-west-1:{ACCOUNT}:inbox")
    account = AwsGateway.connect(session=session, region="us-east-1").own_account()
    message = notify.of_run(company.run())
    assert notify.send([f"sns:{topic}"], message, notify.NotifySettings(publish=account.publish)) == ()
    (received,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    body = json.loads(received["Body"])
    assert (body["Subject"], body["Message"]) == (message.subject, message.text)
    (failed,) = notify.send([f"sns:{topic}-none"], message, notify.NotifySettings(publish=account.publish))
    assert "sns:Publish" in failed.why
    sns.close()
    sqs.close()


def test_an_error_of_security_hub_is_typed(session: Session) -> None:
    account = AwsGateway.connect(session=session, region="eu-central-1").own_account()
    with pytest.raises(AwsError, match="securityhub:GetFindings"):
        account.security_hub().get_findings({"MaxResults": 1000})

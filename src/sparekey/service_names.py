"""One AWS service's many names: IAM's last use has a namespace, CloudTrail an event source.

IAM reports a namespace of the Service Authorization Reference (`cloudwatch`, `tag`) or the name that a request
is signed for (`monitoring`, `execute-api`); CloudTrail's `eventSource` is a host (`monitoring.amazonaws.com`).
Two names are one service's where botocore's model of a service has both, or AWS's pages do (`_MORE`).
Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from collections import defaultdict
from functools import cache

# What botocore does not know: a namespace of IAM's or an event source of CloudTrail's beside botocore's names.
_MORE = (
    # https://docs.aws.amazon.com/autoscaling/application/userguide/logging-using-cloudtrail.html
    ("application-autoscaling", "autoscaling"),
    ("autoscaling-plans", "autoscaling"),
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
    ("iot-data", "iotdata", "iot"),
    # https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/security-logging-monitoring-cloudtrail.html
    ("mq", "amazonmq"),
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonresourcegrouptaggingapi.html
    ("tagging", "tag"),
)

# Written by tools/generate_service_names.py; a test holds it against botocore.
_TABLE = """\
a2i-runtime.sagemaker=sagemaker=sagemaker-a2i-runtime access-analyzer=accessanalyzer account account-access
account-access=account-access-runtime acm acm-pca aco-automation=compute-optimizer-automation
admin.wickr=wickr agent-registry agent-registry=agent-registry-control
agreement-marketplace=aws-marketplace=marketplace-agreement aidevops=devops-agent aiops
airflow-serverless=mwaa-serverless airflow=mwaa amp=aps amplify amplifybackend amplifyuibuilder
aoss=opensearchserverless api-gateway=apigateway api.detective=detective api.ecr-public=ecr-public api.ecr=ecr
api.iotdeviceadvisor=iotdeviceadvisor
api.iotmanagedintegrations=iot-managed-integrations=iotmanagedintegrations
api.iotwireless=iot-wireless=iotwireless api.mediatailor=mediatailor api.pricing=pricing
api.sagemaker=sagemaker api.tunneling.iot=iotsecuredtunneling=iotsecuretunneling apigateway=apigatewayv2
apigatewaymanagementapi=execute-api app-integrations=appintegrations app-mesh=appmesh appconfig
appconfig=appconfigdata appfabric appflow application-auto-scaling=application-autoscaling
application-cost-profiler=applicationcostprofiler application-discovery-service=discovery
application-insights=applicationinsights application-signals apprunner appstream=appstream2 appsync
arc-region-switch arc-zonal-shift artifact athena auditmanager auto-scaling-plans=autoscaling-plans
auto-scaling=autoscaling aws-marketplace=catalog.marketplace=marketplace-catalog
aws-marketplace=deployment-marketplace=marketplace-deployment
aws-marketplace=discovery-marketplace=marketplace-discovery
aws-marketplace=entitlement.marketplace=marketplace-entitlement=marketplace-entitlement-service
aws-marketplace=marketplace-metering=metering.marketplace=meteringmarketplace
aws-marketplace=marketplace-reporting=reporting-marketplace awsssoportal=portal.sso=sso b2bi backup
backup-gateway backup-search=backupsearch batch bcm-dashboards bcm-data-exports bcm-pricing-calculator
bcm-recommended-actions bedrock bedrock-agentcore bedrock-agentcore=bedrock-agentcore-control
bedrock=bedrock-agent bedrock=bedrock-agent-runtime bedrock=bedrock-data-automation
bedrock=bedrock-data-automation-runtime bedrock=bedrock-runtime billing billingconductor braket budgets
cases=connectcases cassandra=cassandra-streams=keyspacesstreams cassandra=keyspaces ce=cost-explorer chatbot
chime chime=chime-sdk-identity=identity-chime chime=chime-sdk-media-pipelines=media-pipelines-chime
chime=chime-sdk-meetings=meetings-chime chime=chime-sdk-messaging=messaging-chime
chime=chime-sdk-voice=voice-chime cleanrooms cleanrooms-ml=cleanroomsml cloud9 cloudcontrol=cloudcontrolapi
clouddirectory cloudformation cloudfront cloudfront-keyvaluestore cloudhsm cloudhsm=cloudhsm-v2=cloudhsmv2
cloudsearch cloudsearch=cloudsearch-domain=cloudsearchdomain cloudtrail cloudtrail-data cloudwatch-logs=logs
cloudwatch=cloudwatch-omni=cloudwatchomni cloudwatch=monitoring codeartifact codebuild codecatalyst codecommit
codeconnections codedeploy codeguru-profiler=codeguruprofiler codeguru-reviewer codeguru-security codepipeline
codestar-connections codestar-notifications cognito-identity cognito-identity-provider=cognito-idp
cognito-sync comprehend comprehendmedical compute-optimizer config=config-service connect
connect-campaigns=connectcampaigns connect-campaigns=connectcampaignsv2
connect=connect-contact-lens=contact-lens connect=connectscheduling connecthealth=health-agent
connectparticipant=execute-api=participant.connect continuum controlcatalog
controlplane.payment-cryptography=payment-cryptography controltower cost-and-usage-report-service=cur
cost-optimization-hub customer-profiles=profile data-ats.iot=iot-data=iot-data-plane=iotdata
data-pipeline=datapipeline data-signer=signer=signer-data data.jobs.iot=iot-jobs-data=iot-jobs-data-plane
data.mediastore=mediastore=mediastore-data data.qapps=qapps database-migration-service=dms databrew
dataexchange dataplane.payment-cryptography=payment-cryptography=payment-cryptography-data datasync datazone
dax deadline device-farm=devicefarm devops-guru direct-connect=directconnect directory-service-data=ds-data
directory-service=ds dlm docdb-elastic docdb=rds drs dsql dynamodb
dynamodb=dynamodb-streams=dynamodbstreams=streams.dynamodb ebs ec2 ec2-instance-connect ecs
edge.sagemaker=sagemaker=sagemaker-edge efs=elasticfilesystem eks eks-auth elastic-beanstalk=elasticbeanstalk
elastic-load-balancing-v2=elasticloadbalancing=elbv2 elastic-load-balancing=elasticloadbalancing=elb
elasticache elasticmapreduce=emr elasticsearch-service=es elemental-inference=elementalinference
email=pinpoint-email=ses email=ses email=ses=sesv2 emr-containers emr-serverless
end-user-messaging=endusermessaging entityresolution es=opensearch eventbridge=events
eventbridgev2=events=eventsv2 evs featurestore-runtime.sagemaker=sagemaker=sagemaker-featurestore-runtime
firehose fis fms forecast forecast=forecastquery frauddetector freetier fsx gamelift gameliftstreams geo-maps
geo-places geo-routes geo=location glacier global-accelerator=globalaccelerator glue grafana greengrass
greengrass=greengrassv2 groundstation guardduty health healthlake iam iam=iam-toolbox identitystore
imagebuilder importexport inferencerouter-runtime.sagemaker=sagemaker=sagemaker-inference-router-runtime
ingest.timestream=timestream=timestream-write inspector inspector-scan inspector2 interconnect internetmonitor
invoicing iot iotfleetwise iotsitewise iotthingsgraph iottwinmaker ivs ivs=ivs-realtime=ivsrealtime ivschat
job-runtime.sagemaker=sagemaker=sagemakerjobruntime kafka kafkaconnect kendra kendra-ranking kinesis
kinesis-analytics-v2=kinesisanalytics=kinesisanalyticsv2 kinesis-analytics=kinesisanalytics
kinesis-video-archived-media=kinesisvideo kinesis-video-media=kinesisvideo
kinesis-video-signaling=kinesisvideo kinesis-video-webrtc-storage=kinesisvideo kinesis-video=kinesisvideo kms
lakeformation lambda lambda=lambda-core lambda=lambda-microvms lambda=lambda-web launch-wizard=launchwizard
lex=lex-model-building-service=lex-models=models.lex lex=lex-models-v2=lexv2-models=models-v2-lex
lex=lex-runtime-v2=lexv2-runtime=runtime-v2-lex lex=lex-runtime=lex-runtime-service=runtime.lex
license-manager license-manager-linux-subscriptions license-manager-user-subscriptions lightsail
lookoutequipment m2 machine-learning=machinelearning macie2 mail-manager=mailmanager=ses managedblockchain
managedblockchain-query marketplace-commerce-analytics=marketplacecommerceanalytics mediaconnect mediaconvert
medialive mediapackage mediapackage-vod mediapackagev2 mediastore medical-imaging memory-db=memorydb
metrics.sagemaker=sagemaker=sagemaker-metrics mgh=migration-hub mgh=migrationhub-config mgn
migration-hub-refactor-spaces=refactor-spaces migrationhub-orchestrator=migrationhuborchestrator
migrationhub-strategy=migrationhubstrategy mobiletargeting=pinpoint mpa mq mturk=mturk-requester
neptune-db=neptunedata neptune-graph neptune=rds network-firewall network-security-manager networkflowmonitor
networkmanager networkmonitor notifications notifications-contacts=notificationscontacts nova-act oam
observabilityadmin odb oidc=sso-oauth=sso-oidc omics opensearchmemory=osm organizations osis outposts
partnercentral-account partnercentral-benefits partnercentral-channel partnercentral-selling
partnercentral=partnercentral-prm=partnercentral-revenue-measurement pca-connector-ad pca-connector-scep pcs
personalize personalize=personalize-events personalize=personalize-runtime pi pinpoint-sms-voice-v2=sms-voice
pinpoint-sms-voice=sms-voice=sms-voice.pinpoint pipes polly pricing-plan-manager=pricingplanmanager proton
qbusiness qconnect=wisdom query.timestream=timestream=timestream-query quicksight ram rbin rds rds-data
redshift redshift-data redshift-serverless rekognition repostspace resiliencehub resiliencehub=resiliencehubv2
resource-explorer-2 resource-groups resource-groups-tagging-api=resourcegroupstaggingapi=tagging rolesanywhere
route-53-domains=route53domains route-53=route53 route53-recovery-cluster route53-recovery-control-config
route53-recovery-readiness route53globalresolver route53profiles route53resolver rtbfabric rum
runtime.sagemaker=sagemaker=sagemaker-runtime s3 s3-outposts=s3outposts s3=s3-control=s3control s3files
s3tables s3vectors sagemaker-geospatial
sagemaker=sagemakertrainingsessionruntime=training-session-runtime.sagemaker savingsplans scheduler schemas
scn=supplychain sdb=simpledb sdb=simpledbv2 secrets-manager=secretsmanager security-ir securityagent
securityhub securitylake serverlessapplicationrepository=serverlessrepo
service-catalog-appregistry=servicecatalog=servicecatalog-appregistry service-catalog=servicecatalog
service-quotas=servicequotas servicediscovery sfn=states=stepfunctions shield signer signin
snow-device-management snowball sns social-messaging=socialmessaging sqs ssm ssm-contacts ssm-guiconnect
ssm-incidents ssm-quicksetup ssm-sap sso=sso-admin storage-gateway=storagegateway sts support
support-app=supportapp supportauthz sustainability swf synthetics tax=taxsettings textract
thinclient=workspaces-thin-client timestream-influxdb transcribe transfer translate trustedadvisor uxc
verifiedpermissions voice-id=voiceid vpc-lattice waf waf-regional wafv2 wellarchitected wisdom workdocs
workmail workmailmessageflow workspaces workspaces-instances workspaces-web xray
"""


def same_service(first: str, second: str) -> bool:
    """Whether two names are names of one service."""
    first, second = first.lower(), second.lower()
    return first == second or bool(_services().get(first, frozenset()) & _services().get(second, frozenset()))


def is_known(name: str) -> bool:
    """Whether any service is known by the name: what is unknown can only be compared letter by letter."""
    return name.lower() in _services()


@cache
def _services() -> dict[str, frozenset[int]]:
    """The numbers of the services that go by each name."""
    by_name: dict[str, set[int]] = defaultdict(set)
    for number, names in enumerate([*(word.split("=") for word in _TABLE.split()), *_MORE]):
        for name in names:
            by_name[name].add(number)
    return {name: frozenset(numbers) for name, numbers in by_name.items()}

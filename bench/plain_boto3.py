"""What people write first: every user, then each user's keys, one call after the other."""

import boto3

iam = boto3.client("iam")
spare = 0
for page in iam.get_paginator("list_users").paginate():
    for user in page["Users"]:
        pages = iam.get_paginator("list_access_keys").paginate(UserName=user["UserName"])
        keys = [key for page in pages for key in page["AccessKeyMetadata"] if key["Status"] == "Active"]
        if len(keys) > 1:
            spare += 1
            for key in keys:
                iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
print(spare)

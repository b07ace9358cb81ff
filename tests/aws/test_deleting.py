"""Deleting a key against the sandbox: a user's own way in and out, and a member account's root user."""

import pytest
from aws.sandboxed import Sandboxed

from sparekey.aws.client import Principal
from sparekey.aws.deleting import Deleter
from sparekey.aws.errors import NotFoundError


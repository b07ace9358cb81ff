"""One working access key per AWS IAM user."""

__version__ = "0.1.0"

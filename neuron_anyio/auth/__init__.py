"""Where tokens come from: sources to pass as `auth=`, and the enrolment that they need."""

from __future__ import annotations

from ._wire import TokenRequestFailed
from .client_auth import BadKey, ClientAuthenticator, client_secret_post, private_key_jwt
from .credentials import (
    BadCredentialFile,
    Credential,
    default_credential_path,
    read_credential,
    write_credential,
)
from .discovery import Endpoints, discover_endpoints
from .enrolment import Approval, Enrollment, EnrollmentFailed, enroll
from .minting import ClientCredentials, client_credentials
from .tokenfile import token_file

__all__ = [
    "Approval",
    "BadCredentialFile",
    "BadKey",
    "ClientAuthenticator",
    "ClientCredentials",
    "Credential",
    "Endpoints",
    "Enrollment",
    "EnrollmentFailed",
    "TokenRequestFailed",
    "client_credentials",
    "client_secret_post",
    "default_credential_path",
    "discover_endpoints",
    "enroll",
    "private_key_jwt",
    "read_credential",
    "token_file",
    "write_credential",
]

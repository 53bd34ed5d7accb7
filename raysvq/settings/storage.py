"""`storage` and `ray`: where images and results are, and which cluster works."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from raysvq.settings.section import Section


class StorageSettings(Section):
    """How object stores are opened. Applied by raysvq.storage.configure; never stored with a run."""

    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@?]+/?$",
        description="URL of an S3 store other than AWS; none: AWS_ENDPOINT_URL, else AWS.",
    )
    region: str | None = Field(None, description="Region of the buckets; none: AWS_REGION.")
    access_key_id: SecretStr | None = Field(
        None, description="Key id for S3; none: AWS_ACCESS_KEY_ID, else the machine's role."
    )
    secret_access_key: SecretStr | None = Field(
        None, description="Secret for access_key_id; none: AWS_SECRET_ACCESS_KEY, else the machine's role."
    )
    session_token: SecretStr | None = Field(
        None, description="Token of temporary keys, set with both. None: AWS_SESSION_TOKEN beside such keys."
    )
    ca_bundle: str | None = Field(
        None,
        min_length=1,
        description="PEM file, on every node, of the authorities that sign the store's certificate; none:"
        " AWS_CA_BUNDLE, else those of the system.",
    )
    retry_s: float = Field(
        60.0, ge=0, le=3600, description="How long a request is tried again without progress, seconds."
    )

    @model_validator(mode="after")
    def _both_keys(self) -> StorageSettings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together; set both or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token goes with access_key_id and secret_access_key; set all three")
        return self


class RaySettings(Section):
    """Which Ray cluster does the work."""

    address: str | None = Field(
        None, description="Cluster to join; none: the job's own cluster, else one started on this machine."
    )
    cpus: int | None = Field(None, ge=2, description="Logical CPUs of a cluster started on this machine.")
    object_store_mib: int = Field(
        1024, ge=128, description="Object store of a cluster started on this machine."
    )

//! Sessions of roles, each made only to fetch one token
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>,
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).

use aws_sdk_ecr::config::{Credentials, Region as AwsRegion, SharedCredentialsProvider};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types::Tag;
use zeroize::Zeroizing;

use super::explain::explain;
use super::{AwsEcr, Service};
use crate::core::identity::{Role, Source};
use crate::core::one_line;
use crate::core::registry::Region;
use crate::ecr::{MintError, MintErrorKind};

/// The shortest session that STS gives.
const SECONDS: i32 = 900;

impl AwsEcr {
    /// A session of a role under a policy, in the controller's region if that is of the role's partition, else in
    /// `region`.
    pub(super) async fn assume(
        &self,
        role: &Role,
        policy: Option<String>,
        region: &str,
    ) -> Result<SharedCredentialsProvider, MintError> {
        let home = self.region().filter(|home| home.partition() == role.arn.partition());
        let client = self.sts(home.as_ref().map_or(region, Region::as_str));
        let credentials = match &role.source {
            Source::Controller => {
                let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
                let tags = role.tags.iter().map(tag).collect::<Result<Vec<_>, _>>();
                let tags =
                    tags.map_err(|_| MintError::new(MintErrorKind::Other, "a session tag is empty"))?;
                let call = client
                    .assume_role()
                    .role_arn(role.arn.as_str())
                    .role_session_name(&role.session_name)
                    .duration_seconds(SECONDS)
                    .set_external_id(role.external_id.clone())
                    .set_tags((!tags.is_empty()).then_some(tags))
                    .set_policy(policy);
                call.send().await.map_err(|error| refused(role, &error))?.credentials
            }
            Source::WebIdentity(path) => {
                // Read each time: the kubelet rotates it.
                let token = tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|error| {
                    let message =
                        format!("the web identity token {} cannot be read: {error}", path.display());
                    MintError::new(MintErrorKind::Credentials, one_line(&message))
                })?;
                let call = client
                    .assume_role_with_web_identity()
                    .role_arn(role.arn.as_str())
                    .role_session_name(&role.session_name)
                    .web_identity_token(token.trim())
                    .duration_seconds(SECONDS)
                    .set_policy(policy);
                call.send().await.map_err(|error| refused(role, &error))?.credentials
            }
        };
        let given = credentials
            .ok_or_else(|| MintError::new(MintErrorKind::Malformed, "STS answered without credentials"))?;
        let session = Some(given.session_token);
        let credentials =
            Credentials::new(given.access_key_id, given.secret_access_key, session, None, "role");
        Ok(SharedCredentialsProvider::new(credentials))
    }

    fn sts(&self, region: &str) -> aws_sdk_sts::Client {
        let endpoint = self.endpoint(Service::Sts, region).map(str::to_owned);
        let own = !self.is_custom(Service::Sts, endpoint.as_deref());
        let mut config = aws_sdk_sts::config::Builder::from(&self.config)
            .region(AwsRegion::new(region.to_owned()))
            .use_fips(own && self.config.use_fips() == Some(true))
            .use_dual_stack(own && self.config.use_dual_stack() == Some(true));
        if let Some(endpoint) = endpoint {
            config.set_endpoint_url(Some(endpoint));
        }
        aws_sdk_sts::Client::from_conf(config.build())
    }
}

/// What STS refused, with what to look at.
fn refused<E, R>(role: &Role, error: &SdkError<E, R>) -> MintError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let MintError { kind, message } = explain(error);
    let (kind, hint) = match code {
        "AccessDenied" | "AccessDeniedException" => (
            MintErrorKind::RoleRefused,
            "the role's trust policy has to name the controller's principal (and the external ID, if it asks for one), \
             and that principal's own policy has to allow sts:AssumeRole on the role",
        ),
        "InvalidIdentityToken" | "IDPRejectedClaim" => (
            MintErrorKind::RoleRefused,
            "the role's trust policy has to name the cluster's OIDC provider, and the audience and subject of the token",
        ),
        "ExpiredTokenException" if matches!(role.source, Source::WebIdentity(_)) => (
            MintErrorKind::Credentials,
            "the web identity token in the file has expired: it has to be projected anew",
        ),
        "PackedPolicyTooLarge" => (
            MintErrorKind::PolicyTooLarge,
            "name fewer or shorter repository patterns, or fewer accounts and session tags",
        ),
        "RegionDisabledException" => {
            (MintErrorKind::RoleRefused, "STS is not activated in this region for the role's account")
        }
        _ => (kind, ""),
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    MintError::new(kind, format!("role {}: {message}{hint}", role.arn))
}

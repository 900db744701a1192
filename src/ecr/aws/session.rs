//! Sessions of roles, each for a single token
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>,
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).

use std::path::Path;

use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types::{Credentials as SessionCredentials, Tag};
use zeroize::Zeroizing;

use super::explain::explain;
use super::http::ReplyDate;
use super::{Apis, Service};
use crate::core::aws::Region;
use crate::core::grants::{CredentialSource, Role, Session};
use crate::core::one_line;
use crate::core::secret::{TokenError, TokenErrorKind};

/// The shortest session that STS grants.
const SESSION_SECONDS: i32 = 900;

impl Apis {
    /// The credentials of a new session. The request is sent to STS in the controller's region if that belongs to the
    /// role's partition, otherwise in `region`.
    pub(super) async fn assume_role(
        &self,
        session: &Session,
        region: &str,
    ) -> Result<SharedCredentialsProvider, TokenError> {
        let date = ReplyDate::default();
        self.credentials(session, region, &date).await.map_err(|error| error.at(date.get()))
    }

    async fn credentials(
        &self,
        session: &Session,
        region: &str,
        date: &ReplyDate,
    ) -> Result<SharedCredentialsProvider, TokenError> {
        let role = &session.role;
        let own = self.region.as_ref().filter(|own| own.partition() == role.arn.partition());
        let region = own.map_or(region, Region::as_str);
        let fips = self.config().use_fips() == Some(true);
        let config = self.service_config(Service::Sts, region, fips, false).build();
        let config = aws_sdk_sts::config::Builder::from(&config).interceptor(date.clone()).build();
        let client = aws_sdk_sts::Client::from_conf(config);
        let credentials = match &role.source {
            CredentialSource::Controller => {
                let call = client
                    .assume_role()
                    .role_arn(role.arn.as_str())
                    .role_session_name(&session.name)
                    .duration_seconds(SESSION_SECONDS)
                    .set_external_id(role.external_id.clone())
                    .set_tags(tags(role)?)
                    .policy(&session.policy);
                call.send().await.map_err(|error| explain_sts_error(role, &error))?.credentials
            }
            CredentialSource::WebIdentity(path) => {
                let token = read_web_identity_token(path).await?;
                with_web_identity(&client, session, token.trim()).await?
            }
            CredentialSource::Token(token) => with_web_identity(&client, session, token.as_str()).await?,
        };
        let credentials = credentials.ok_or_else(|| {
            let message =
                "unexpected response from STS: it contains no credentials; check the configured endpoints";
            TokenError::new(TokenErrorKind::InvalidResponse, message)
        })?;
        Ok(SharedCredentialsProvider::new(Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            None,
            "role",
        )))
    }
}

async fn with_web_identity(
    client: &aws_sdk_sts::Client,
    session: &Session,
    token: &str,
) -> Result<Option<SessionCredentials>, TokenError> {
    let call = client
        .assume_role_with_web_identity()
        .role_arn(session.role.arn.as_str())
        .role_session_name(&session.name)
        .web_identity_token(token)
        .duration_seconds(SESSION_SECONDS)
        .policy(&session.policy);
    Ok(call.send().await.map_err(|error| explain_sts_error(&session.role, &error))?.credentials)
}

/// The session tags; `None` if there are none.
fn tags(role: &Role) -> Result<Option<Vec<Tag>>, TokenError> {
    let tags = role.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let tags: Vec<Tag> = tags
        .collect::<Result<_, _>>()
        .map_err(|_| TokenError::new(TokenErrorKind::Other, "invalid session tag: check sessionTags"))?;
    Ok(Some(tags).filter(|tags| !tags.is_empty()))
}

/// Reads the file for each session, because the kubelet rotates the token.
async fn read_web_identity_token(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|error| {
        let message = format!(
            "cannot read the web identity token {}: {error}; check webIdentityTokenFile and the projected volume",
            path.display()
        );
        TokenError::new(TokenErrorKind::Credentials, one_line(&message))
    })
}

/// Classifies an error of STS, with a message that names the role and the remedy.
fn explain_sts_error<E, R>(role: &Role, error: &SdkError<E, R>) -> TokenError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let TokenError { kind, message, .. } = explain(error);
    let (kind, remedy) = match code {
        "AccessDenied" | "AccessDeniedException" if matches!(role.source, CredentialSource::Token(_)) => (
            TokenErrorKind::AssumeRoleDenied,
            "the role's trust policy must name the cluster's OIDC provider, the audience of the kubelet's configuration, and \
             this service account as the subject",
        ),
        "AccessDenied" | "AccessDeniedException" => (
            TokenErrorKind::AssumeRoleDenied,
            "the role's trust policy must name the controller's principal (and the external ID, if the policy requires \
             one), and the principal's own policy must allow sts:AssumeRole on the role",
        ),
        "InvalidIdentityToken" | "IDPRejectedClaim" => (
            TokenErrorKind::AssumeRoleDenied,
            "the role's trust policy must name the cluster's OIDC provider, and the audience and subject of the token",
        ),
        "ExpiredTokenException" if matches!(role.source, CredentialSource::Token(_)) => (
            TokenErrorKind::Credentials,
            "the token of the service account has expired: check the clocks of the node and of the API server",
        ),
        "ExpiredTokenException" if matches!(role.source, CredentialSource::WebIdentity(_)) => (
            TokenErrorKind::Credentials,
            "the web identity token in the file has expired: check the projected volume that renews it",
        ),
        "PackedPolicyTooLarge" => (
            TokenErrorKind::PolicyTooLarge,
            "configure fewer or shorter repository patterns, or fewer accounts and session tags",
        ),
        "RegionDisabledException" => (
            TokenErrorKind::AssumeRoleDenied,
            "STS is not activated in this region for the role's account: activate it there",
        ),
        _ => return TokenError::new(kind, format!("role {}: {message}", role.arn)),
    };
    TokenError::new(kind, format!("role {}: {message}; {remedy}", role.arn))
}

//! The principal, the roles, the tokens and the clock of AWS.

use super::registries;
use crate::commands::check::facts::{AwsFacts, Clocks, Facts, TokenFact};
use crate::commands::check::finding::{Category, Finding, Link};
use crate::core::aws::skew;
use crate::core::grants::CredentialSource;
use crate::core::secret::{TokenError, TokenErrorKind};
use crate::core::whole_seconds;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(aws) = &facts.aws else {
        let message = "not checked without a valid configuration";
        return vec![Finding::skipped(Category::AwsIdentity, message)];
    };
    let mut findings = vec![caller(aws)];
    findings.extend(aws.clock.map(clock));
    findings.extend(aws.tokens.iter().filter_map(role));
    findings.extend(aws.tokens.iter().filter_map(token));
    findings.extend(aws.untested.iter().map(|reason| Finding::skipped(Category::Tokens, reason)));
    findings.extend(aws.registries.iter().map(registries::judge));
    findings
}

fn caller(aws: &AwsFacts) -> Finding {
    let category = Category::AwsIdentity;
    match &aws.caller {
        Ok(Some(arn)) => Finding::ok(category, format!("AWS is called as {arn}")),
        Ok(None) => Finding::skipped(category, "not checked without a region"),
        Err(_) if aws.needs_no_credentials() => {
            Finding::skipped(category, "not needed: each identity has a web identity token")
        }
        Err(error) => caller_error(error, aws.tokens.iter().any(|fact| fact.result.is_ok())),
    }
}

/// With tokens, the credentials are valid. In a closed network, the endpoint of STS may be missing, and only roles need it.
fn caller_error(error: &TokenError, has_token: bool) -> Finding {
    let category = Category::AwsIdentity;
    let remedy = match error.kind {
        TokenErrorKind::Credentials => {
            "set the AWS_* variables, mount a profile, or give the service account a role; replace an access key that AWS \
             rejects: it is wrong, inactive or deleted"
        }
        TokenErrorKind::Timeout | TokenErrorKind::Unreachable => {
            "check the network, DNS, HTTPS_PROXY and network policies: sts.REGION.amazonaws.com, port 443"
        }
        _ => "check the credentials and AWS_ENDPOINT_URL",
    };
    if has_token {
        return Finding::warning(category, format!("STS: {error}"), Link::Credentials, remedy);
    }
    Finding::failed(category, error.to_string(), Link::Credentials, remedy)
}

impl AwsFacts {
    /// Whether no token was requested with the controller's own credentials.
    fn needs_no_credentials(&self) -> bool {
        let is_web_identity =
            |fact: &TokenFact| matches!(&fact.role, Some((_, CredentialSource::WebIdentity(_))));
        !self.tokens.is_empty() && self.tokens.iter().all(is_web_identity)
    }
}

fn clock(Clocks { server, local }: Clocks) -> Finding {
    match skew(server, local) {
        None => {
            let apart = server.duration_since(local).abs().as_secs();
            Finding::ok(Category::Clock, format!("AWS's clock differs by {apart} s"))
        }
        Some(apart) => {
            let apart = apart.as_secs();
            let message = format!(
                "AWS's clock differs from this machine's by {apart} s: AWS refuses signatures above 300 s"
            );
            Finding::failed(
                Category::Clock,
                message,
                Link::Clock,
                "synchronize the clock, for example with NTP",
            )
        }
    }
}

/// Whether the role was assumed. Later errors show that it was.
fn role(fact: &TokenFact) -> Option<Finding> {
    let category = Category::Identities;
    let (arn, source) = fact.role.as_ref()?;
    let identity = &fact.identity;
    let error = match &fact.result {
        Err(error)
            if error.message.starts_with(&format!("role {arn}:")) || is_of_source(error.kind, source) =>
        {
            error
        }
        _ => return Some(Finding::ok(category, format!("identity {identity:?} assumed {arn}"))),
    };
    let remedy = match error.kind {
        TokenErrorKind::AssumeRoleDenied => {
            "correct the role's trust policy, and sts:AssumeRole of the controller's principal; with an external ID, \
             identities[].externalId"
        }
        TokenErrorKind::PolicyTooLarge => {
            "list fewer or shorter repositories, or fewer accounts and session tags"
        }
        TokenErrorKind::Credentials if matches!(source, CredentialSource::WebIdentity(_)) => {
            "check webIdentityTokenFile and the projected volume of the pod"
        }
        _ => "see the finding about the AWS identity",
    };
    let message = format!("identity {identity:?} ({}): {error}", fact.endpoint);
    Some(Finding::failed(category, message, Link::Identities, remedy))
}

/// Whether the credentials with which a role is assumed are missing.
fn is_of_source(kind: TokenErrorKind, source: &CredentialSource) -> bool {
    kind == TokenErrorKind::Credentials && matches!(source, CredentialSource::WebIdentity(_))
}

fn token(fact: &TokenFact) -> Option<Finding> {
    let category = Category::Tokens;
    let TokenFact { identity, endpoint, result, .. } = fact;
    let error = match result {
        Ok(expires_at) => {
            let at = whole_seconds(*expires_at);
            return Some(Finding::ok(
                category,
                format!("{endpoint}, identity {identity:?}: a token until {at}"),
            ));
        }
        Err(error) => error,
    };
    if role(fact).is_some_and(|finding| finding.hint.is_some()) {
        return None;
    }
    let remedy = match error.kind {
        TokenErrorKind::AccessDenied => {
            "allow ecr:GetAuthorizationToken; for public ECR also ecr-public:GetAuthorizationToken and \
             sts:GetServiceBearerToken"
        }
        TokenErrorKind::Credentials => "check the credentials of the controller, and the clock",
        TokenErrorKind::Timeout | TokenErrorKind::Unreachable => {
            "check the region, the network, DNS, HTTPS_PROXY and network policies: api.ecr.REGION.amazonaws.com, port 443"
        }
        TokenErrorKind::Throttled => "lower refresh.tokensPerSecond, and run the check again",
        TokenErrorKind::ExpiredToken | TokenErrorKind::InvalidResponse => "check the configured endpoints",
        _ => "run the check again; if it persists, see the status of AWS",
    };
    let message = format!("{endpoint}, identity {identity:?}: {error}");
    Some(Finding::failed(category, message, Link::Tokens, remedy))
}

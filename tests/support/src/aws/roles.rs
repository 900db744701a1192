//! Assuming a role, by signature or by web identity.

use std::time::Duration;

use serde_json::Value;

use super::behaviour::Fault;
use super::form::Form;
use super::operations::Asked;
use super::replies::{self, Failure, Reply};
use super::state::{Principal, State, later};

fn invalid(message: &str) -> Failure {
    Failure::new(400, "ValidationError", message)
}

/// Whether the one request that is not signed carries a token that is accepted.
pub(super) fn check_web_identity(state: &State, form: &Form) -> Result<(), Failure> {
    let token = form.given("WebIdentityToken");
    let token =
        token.ok_or_else(|| invalid("1 validation error detected: Value at 'webIdentityToken' failed"))?;
    if !state.trusts(form.get("RoleArn").unwrap_or_default(), token) {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
        return Err(Failure::new(403, "AccessDenied", message));
    }
    if state.accepts_web_identity(token) {
        return Ok(());
    }
    let message = "The web identity token that was passed could not be validated by AWS.";
    Err(Failure::new(400, "InvalidIdentityToken", message))
}

/// The error of a fault that happens only where a role is assumed.
pub(super) fn failure(fault: Fault, account: &str) -> Option<Failure> {
    Some(match fault {
        Fault::PackedPolicyTooLarge => {
            let message = "Packed policy consumes 112% of allotted space, please use smaller policy.";
            Failure::new(400, "PackedPolicyTooLarge", message)
        }
        Fault::RegionDisabled => {
            let message = format!(
                "STS is not activated in this region for account:{account}. Your account administrator can \
                 activate STS in this region using the IAM Console."
            );
            Failure::new(403, "RegionDisabledException", message)
        }
        Fault::ExpiredWebIdentity => {
            let message = "Token expired: current date/time must be before the expiration date/time";
            Failure::new(400, "ExpiredTokenException", message)
        }
        _ => return None,
    })
}

/// The reply to both operations that assume a role.
pub(super) fn assume(state: &mut State, asked: &Asked<'_>) -> Result<Reply, Failure> {
    let form = asked.form;
    let role = form
        .given("RoleArn")
        .ok_or_else(|| invalid("Value null at 'roleArn' failed to satisfy constraint"))?;
    let session =
        form.given("RoleSessionName").ok_or_else(|| invalid("Value null at 'roleSessionName' failed"))?;
    let policy = form.given("Policy");
    policy.map_or(Ok(()), check_policy)?;
    let seconds = form.given("DurationSeconds").map_or(Ok(3600), str::parse);
    let seconds = seconds.ok().filter(|seconds| (900..=43_200).contains(seconds));
    let seconds =
        seconds.ok_or_else(|| invalid("Value at 'durationSeconds' failed to satisfy constraint"))?;
    let principal = Principal {
        arn: session_arn(role, session)?,
        role: Some(role.to_owned()),
        policy: policy.map(str::to_owned),
    };
    let lifetime = state.own_lifetime(asked.operation, role).unwrap_or(Duration::from_secs(seconds));
    let expires = later(asked.date, lifetime);
    let credentials = state.issue(principal, expires);
    let result = replies::assumed(&credentials, asked.behaviour.expires_at, asked.told(expires));
    Ok(replies::xml_reply(asked.operation.name(), &result))
}

fn session_arn(role: &str, session: &str) -> Result<String, Failure> {
    let ["arn", partition, "iam", "", account, path] = role.splitn(6, ':').collect::<Vec<_>>()[..] else {
        return Err(invalid(&format!("{role} is invalid")));
    };
    let Some(("role", name)) = path.split_once('/') else {
        return Err(invalid(&format!("{role} is invalid")));
    };
    let name = name.rsplit('/').next().unwrap_or(name);
    Ok(format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}"))
}

fn check_policy(policy: &str) -> Result<(), Failure> {
    if policy.len() > 2048 {
        return Err(invalid(
            "Value at 'policy' failed to satisfy constraint: Member must have length <= 2048",
        ));
    }
    if serde_json::from_str::<Value>(policy).is_err() {
        return Err(Failure::new(400, "MalformedPolicyDocument", "This policy contains invalid Json"));
    }
    Ok(())
}

//! Session policies, which restrict tokens. A token has the permissions of the principal that requested it
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>), and a session has the
//! intersection of its role's policies and its session policy
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session>).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::identity::{Identity, Role};
use super::pattern::Pattern;
use crate::core::aws::{Endpoint, Region};
use crate::core::digest;
use crate::core::request::ScopeFingerprint;

/// The longest session policy that STS accepts, in characters
/// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).
pub const MAX_POLICY_LEN: usize = 2_048;

/// The actions of a pull
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_id-based-policy-examples.html>).
const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"];

/// The further actions that fill a pull-through cache
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html>).
const PULL_THROUGH: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// The further action for a list of tags
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>).
const LIST_TAGS: &str = "ecr:ListImages";

/// The actions for a token of public ECR
/// (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
const PUBLIC: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];

/// Returns the session policy with which `identity`, which has this role, requests a token for repositories of these
/// patterns.
///
/// The policy names the one region of the endpoint, because a token is useless in another, and every account that the
/// identity serves there.
pub fn session_policy(
    identity: &Identity,
    role: &Role,
    endpoint: &Endpoint,
    repositories: &[Pattern],
) -> String {
    let statements = match endpoint {
        Endpoint::Public => vec![allow(&json!(PUBLIC), &json!("*"))],
        Endpoint::Private(region) | Endpoint::Fips(region) => {
            let partition = role.arn.partition().name();
            let resources = resources(identity, partition, region, repositories);
            let mut actions = PULL.to_vec();
            if identity.pull_through_cache {
                actions.extend(PULL_THROUGH);
            }
            if identity.list_tags {
                actions.push(LIST_TAGS);
            }
            vec![
                allow(&json!("ecr:GetAuthorizationToken"), &json!("*")),
                allow(&json!(actions), &json!(resources)),
            ]
        }
    };
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn allow(actions: &Value, resources: &Value) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn resources(identity: &Identity, partition: &str, region: &Region, repositories: &[Pattern]) -> Vec<String> {
    let accounts: BTreeSet<_> = identity.registries.iter().filter_map(|p| p.account_in(region)).collect();
    // `*` includes the others.
    let accounts = if accounts.contains("*") { BTreeSet::from(["*".to_owned()]) } else { accounts };
    let of = |account: String| {
        let arn =
            move |pattern: &Pattern| format!("arn:{partition}:ecr:{region}:{account}:repository/{pattern}");
        repositories.iter().map(arn)
    };
    accounts.into_iter().flat_map(of).collect()
}

/// The fingerprint of a token's permissions and of its maximum age.
pub fn scope(identity: &Identity, policy: Option<&str>) -> ScopeFingerprint {
    let mut hash = Sha256::new();
    hash.update(identity.role.as_ref().map_or(identity.name.as_str(), |role| role.arn.as_str()));
    hash.update([0]);
    hash.update(policy.unwrap_or_default());
    let longest = identity.role.as_ref().and_then(|role| role.max_token_age);
    hash.update(longest.map_or(0, |longest| longest.as_secs()).to_be_bytes());
    ScopeFingerprint(digest::head(hash))
}

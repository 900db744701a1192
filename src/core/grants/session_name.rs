//! The names of sessions, by which `CloudTrail` tells who used a token
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#ck_rolesessionname>).

use super::identity::Role;

const DEFAULT: &str = "ecr-pull-secrets";
/// The longest name that STS accepts. The name of a namespace is shorter.
const MAX_LEN: usize = 64;

/// The configured name, or one that ends with the namespace whose own the token is.
///
/// Namespaces that share a token have one name, because the session does not tell which of them caused the request.
pub fn session_name(role: &Role, namespace: Option<&str>) -> String {
    if let Some(name) = &role.session_name {
        return name.clone();
    }
    let Some(namespace) = namespace else { return DEFAULT.to_owned() };
    let left = MAX_LEN.saturating_sub(namespace.len() + 1);
    let prefix = &DEFAULT[..left.min(DEFAULT.len())];
    format!("{prefix}.{namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::role;

    #[test]
    fn a_session_is_named_after_the_namespace_whose_own_its_token_is() {
        let name = |namespace: Option<&str>| session_name(&role(), namespace);
        assert_eq!(name(None), "ecr-pull-secrets");
        assert_eq!(name(Some("team-a")), "ecr-pull-secrets.team-a");
        let long = "n".repeat(63);
        let long_name = name(Some(&long));
        assert!(long_name.ends_with(&long) && long_name.len() <= MAX_LEN, "{long_name}");
        let configured = Role { session_name: Some("cluster-one".to_owned()), ..role() };
        assert_eq!(session_name(&configured, Some("team-a")), "cluster-one");
    }
}

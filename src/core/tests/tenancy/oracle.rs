//! The oracle: what is granted to which namespace, computed from strings only.

use super::*;

/// An identity of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) arn: Option<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) registries: Vec<String>,
    pub(super) repositories: Vec<String>,
    pub(super) pull_through_cache: bool,
    pub(super) list_tags: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) specs: Vec<Spec>,
    pub(super) default: bool,
}

pub(super) fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub(super) fn controller() -> Spec {
    Spec {
        name: "controller".into(),
        arn: None,
        namespaces: strings(&["*"]),
        registries: strings(&["*", "public.ecr.aws"]),
        repositories: vec![],
        pull_through_cache: false,
        list_tags: false,
    }
}

pub(super) fn glob(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Whether `bound` matches everything that `narrower` matches, tried with a few names.
pub(super) fn includes(bound: &str, narrower: &str) -> bool {
    match narrower.strip_suffix('*') {
        None => glob(bound, narrower),
        Some(prefix) => ["", "-", "/", "0", "z/z"].iter().all(|rest| glob(bound, &format!("{prefix}{rest}"))),
    }
}

pub(super) fn is_public(host: &str) -> bool {
    host == "public.ecr.aws" || host == "ecr-public.aws.com"
}

/// Account and region of a private host.
pub(super) fn parts(host: &str) -> (&str, &str) {
    let labels: Vec<&str> = host.split('.').collect();
    if labels[1] == "dkr" { (labels[0], labels[3]) } else { (labels[0], labels[2]) }
}

pub(super) fn partition(region: &str) -> &'static str {
    let word = |n: usize| region.split('-').nth(n).unwrap_or_default();
    match (word(0), word(1)) {
        ("cn", _) => "aws-cn",
        ("eusc", _) => "aws-eusc",
        ("us", "gov") => "aws-us-gov",
        ("us", "iso") => "aws-iso",
        ("us", "isob") => "aws-iso-b",
        ("eu", "isoe") => "aws-iso-e",
        ("us", "isof") => "aws-iso-f",
        _ => "aws",
    }
}

pub(super) fn endpoint(target: &str) -> String {
    if target == "default" {
        return HOME.to_owned();
    }
    if is_public(target) {
        return "public ECR".to_owned();
    }
    let fips = target.contains(".dkr.ecr-fips.") || target.contains(".dkr-ecr-fips.");
    format!("{}{}", parts(target).1, if fips { " (FIPS)" } else { "" })
}

pub(super) fn target_partition(target: &str) -> &'static str {
    match target {
        "default" => partition(HOME),
        public if is_public(public) => "aws",
        host => partition(parts(host).1),
    }
}

impl Spec {
    pub(super) fn granted(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| glob(pattern, namespace))
    }

    pub(super) fn called(&self, text: &str) -> bool {
        self.name == text || self.arn.as_deref() == Some(text)
    }

    pub(super) fn partition(&self) -> Option<&str> {
        self.arn.as_deref().map(|arn| arn.split(':').nth(1).expect("a partition"))
    }

    pub(super) fn account(&self) -> Option<&str> {
        self.arn.as_deref().map(|arn| arn.split(':').nth(4).expect("an account"))
    }

    /// The accounts that it serves in a region, as ARNs contain them.
    pub(super) fn accounts(&self, region: &str) -> BTreeSet<String> {
        if self.registries.iter().any(|pattern| pattern == "*") {
            return BTreeSet::from(["*".to_owned()]);
        }
        let private = self.registries.iter().filter_map(|pattern| pattern.split_once('/'));
        private.filter(|(_, regions)| glob(regions, region)).map(|(account, _)| account.to_owned()).collect()
    }

    pub(super) fn serves(&self, target: &str) -> bool {
        let of = |account: Option<&str>, region: &str| {
            let accounts = self.accounts(region);
            // The controller's region is known, its account is not.
            accounts.contains("*") || account.map_or(!accounts.is_empty(), |known| accounts.contains(known))
        };
        match target {
            "default" => of(self.account(), HOME),
            public if is_public(public) => self.registries.iter().any(|pattern| pattern == "public.ecr.aws"),
            host => {
                let (account, region) = parts(host);
                of(Some(account), region)
            }
        }
    }

    /// The repository patterns that it grants to a namespace.
    pub(super) fn repository_patterns(&self, namespace: &str) -> Vec<String> {
        let all = self.repositories.iter().map(|template| template.replace("{namespace}", namespace));
        all.filter(|pattern| pattern.len() <= 256).collect()
    }

    /// The patterns of its token; `None` for the whole scope.
    pub(super) fn patterns(
        &self,
        namespace: &str,
        target: &str,
        narrowed: &[String],
    ) -> Option<BTreeSet<String>> {
        self.arn.as_ref()?;
        if is_public(target) {
            return Some(BTreeSet::from(["*".to_owned()]));
        }
        let bounds = self.repository_patterns(namespace);
        let within = |pattern: &&String| bounds.iter().any(|bound| includes(bound, pattern));
        let wanted: BTreeSet<String> = narrowed.iter().filter(within).cloned().collect();
        let patterns = if narrowed.is_empty() { bounds.into_iter().collect() } else { wanted };
        Some(if patterns.contains("*") { BTreeSet::from(["*".to_owned()]) } else { patterns })
    }

    pub(super) fn fits(&self, namespace: &str, target: &str, narrowed: &[String]) -> bool {
        self.serves(target)
            && self.partition().is_none_or(|own| own == target_partition(target))
            && match self.patterns(namespace, target, narrowed) {
                None => narrowed.is_empty(),
                Some(patterns) => !patterns.is_empty(),
            }
    }
}

impl Model {
    pub(super) fn config(&self) -> Config {
        let of = |spec: &Spec| IdentityConfig {
            name: spec.name.clone(),
            role_arn: spec.arn.clone(),
            namespaces: spec.namespaces.clone(),
            registries: spec.registries.clone(),
            repositories: spec.repositories.clone(),
            pull_through_cache: spec.pull_through_cache,
            list_tags: spec.list_tags,
            ..IdentityConfig::default()
        };
        let mut config = Config::default();
        let identity = if self.default { DefaultIdentity::Controller } else { DefaultIdentity::None };
        config.defaults.identity = Some(identity);
        config.identities = self.specs.iter().map(of).collect();
        config
    }

    pub(super) fn settings(&self) -> Settings {
        self.config().settings(Some(HOME.parse().expect("a region")), None, JITTER).expect("a configuration")
    }

    /// The identities that a namespace may use, in order; `None` if one of `roles` is not granted.
    pub(super) fn candidates(&self, namespace: &str, roles: &[String]) -> Option<Vec<Spec>> {
        let default = self.default.then(controller);
        let granted: Vec<Spec> = self.specs.iter().filter(|spec| spec.granted(namespace)).cloned().collect();
        let known: Vec<Spec> = granted.iter().chain(&default).cloned().collect();
        let mut chosen = if roles.is_empty() { granted } else { vec![] };
        for role in roles {
            chosen.push(known.iter().find(|spec| spec.called(role))?.clone());
        }
        chosen.extend(default);
        (!chosen.is_empty()).then_some(chosen)
    }

    /// The identity of each served registry; `None` if the request is not granted.
    pub(super) fn expected(&self, namespace: &str, request: &Request) -> Option<Vec<(String, Spec)>> {
        let candidates = self.candidates(namespace, &request.role)?;
        for pattern in &request.repositories {
            let bounded = |spec: &&Spec| spec.arn.is_some();
            let within = |spec: &Spec| {
                spec.repository_patterns(namespace).iter().any(|bound| includes(bound, pattern))
            };
            let valid_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._/-".contains(c);
            let valid = pattern.strip_suffix('*').unwrap_or(pattern).chars().all(valid_char);
            if !valid || !candidates.iter().filter(bounded).any(within) {
                return None;
            }
        }
        let choice = |target: &Target| {
            let target = target.to_string();
            let fits = |spec: &&Spec| spec.fits(namespace, &target, &request.repositories);
            Some((target.clone(), candidates.iter().find(fits)?.clone()))
        };
        let served: Vec<_> = request.registries.iter().filter_map(choice).collect();
        (!served.is_empty()).then_some(served)
    }

    pub(super) fn spec(&self, name: &str) -> Spec {
        let found = self.specs.iter().find(|spec| spec.name == name).cloned();
        found.or_else(|| (self.default && name == "controller").then(controller)).expect("a known identity")
    }
}

pub(super) fn identity<'a>(settings: &'a Settings, name: &str) -> &'a Identity {
    let grants = &settings.grants;
    let mut all = grants.identities.iter().chain(&grants.default_identity);
    all.find(|identity| identity.name.as_str() == name).expect("a known identity")
}

/// The session policy of an assignment, which is also the one that its token is requested with.
pub(super) fn policy_of(settings: &Settings, assignment: &Assignment) -> Option<String> {
    let key = &assignment.request.key;
    let identity = identity(settings, key.identity.as_str());
    let policy = match (&identity.role, &key.restriction) {
        (Some(role), Restriction::Pull(patterns)) => {
            Some(session_policy(identity, role, &key.endpoint, patterns))
        }
        (None, Restriction::Unrestricted) => None,
        other => panic!("{other:?}"),
    };
    let session = assignment.request.session.as_ref();
    assert_eq!(session.map(|session| &session.policy), policy.as_ref(), "{assignment:?}");
    assert_eq!(session.map(|session| &session.role), identity.role.as_ref(), "{assignment:?}");
    policy
}

/// The reach of a token: the role, or the identity without a role, and the session policy.
pub(super) fn reach(settings: &Settings, assignment: &Assignment) -> (String, Option<String>) {
    let identity = identity(settings, assignment.request.key.identity.as_str());
    let who = identity.role.as_ref().map_or(identity.name.as_str(), |role| role.arn.as_str());
    (who.to_owned(), policy_of(settings, assignment))
}

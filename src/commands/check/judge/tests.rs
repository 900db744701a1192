//! Planted faults: each is one change of sound facts, and each is found, with its remedy, and nothing else is.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::judge;
use crate::commands::check::facts::*;
use crate::commands::check::finding::{Category, Finding, Outcome};
use crate::commands::configuration::Unused;
use crate::commands::status::{ProblemRow, Row, State};
use crate::core::grants::CredentialSource;
use crate::core::plan::{Obstacle, Owner, refusal};
use crate::core::secret::{TokenError, TokenErrorKind};
use crate::core::testing::{HOST, HOUR, at, wall};
use crate::ecr::registry::{RegistryError, RegistryResponse};

const USER: &str = "system:serviceaccount:ecr-pull-secrets:ecr-pull-secrets";
const ROLE: &str = "arn:aws:iam::222222222222:role/own";

fn right(verb: &'static str, resource: &'static str, name: Option<&str>, needed: bool) -> RightFact {
    let name = name.map(str::to_owned);
    let right = Right { verb, group: "", resource, name, namespace: None, needed };
    RightFact { right, allowed: needed }
}

fn cluster() -> ClusterFacts {
    let own = Some("ecr-pull");
    ClusterFacts {
        version: Ok(Version { major: 1, minor: 36, text: "v1.36.0".to_owned() }),
        clock: Some(Clocks { server: wall(0), local: wall(0) }),
        namespace: "ecr-pull-secrets".to_owned(),
        single: None,
        subject: Subject::Own { user: USER.to_owned() },
        unused_configuration: None,
        rights: Ok(vec![
            right("list", "namespaces", None, true),
            right("get", "secrets", own, true),
            right("patch", "secrets", own, true),
            right("create", "events", None, true),
            right("get", "secrets", Some("another-secret"), false),
            right("list", "secrets", None, false),
        ]),
        policy: Some(PolicyFacts::Objects(vec![policy()])),
        lease: Some(Ok(Some(LeaseFacts {
            holder: Some("pod-1".to_owned()),
            renewed_at: Some(wall(-3)),
            duration_seconds: 15,
        }))),
        namespaces: Some(Ok(namespaces_with(vec![row(State::Ready)]))),
        adoption: Some(Ok(AdoptionFacts { secrets: vec![], more: 0 })),
    }
}

fn policy() -> PolicyObject {
    PolicyObject {
        name: "ecr-pull-secrets-secrets".to_owned(),
        failure_policy: "Fail".to_owned(),
        bindings: vec![vec!["Deny".to_owned(), "Audit".to_owned()]],
        missing_names: vec![],
    }
}

fn row(state: State) -> Row {
    let problem = (state != State::Ready).then(|| ProblemRow {
        reason: "InvalidAnnotation".to_owned(),
        message: "\"nonsense\" is not an Amazon ECR registry".to_owned(),
    });
    Row {
        namespace: "team-a".into(),
        state,
        secret: None,
        registries: vec![],
        expires_at: None,
        renews_at: None,
        problem,
    }
}

fn sound() -> Facts {
    let role = Some((ROLE.to_owned(), CredentialSource::Controller));
    let token = TokenFact {
        identity: "own".to_owned(),
        endpoint: "eu-central-1".to_owned(),
        role,
        result: Ok(wall(12 * HOUR)),
    };
    let registry = |path| RegistryFact {
        registry: HOST.parse().expect("a host"),
        identity: "own".to_owned(),
        path,
        result: Ok(RegistryResponse { status: 200, body: String::new() }),
    };
    let paths = [
        RegistryPath::Base,
        RegistryPath::Tags("team-a/app".to_owned()),
        RegistryPath::Manifest("team-a/app".to_owned(), "1".to_owned()),
    ];
    Facts {
        now: at(0),
        pre: false,
        configuration: Ok(ConfigurationFacts {
            file: Some("config.yaml".to_owned()),
            instance: "ecr-pull-secrets".to_owned(),
            secret_names: vec!["ecr-pull".to_owned()],
            shares_controller: false,
            has_identities: true,
            unused_identities: vec![],
        }),
        region: Ok("eu-central-1".parse().ok()),
        cluster: Some(Ok(cluster())),
        aws: Some(AwsFacts {
            caller: Ok(Some("arn:aws:sts::123456789012:assumed-role/ecr/pod".to_owned())),
            clock: Some(Clocks { server: wall(1), local: wall(0) }),
            tokens: vec![token],
            registries: paths.map(registry).into(),
            untested: vec![],
        }),
    }
}

fn bad(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.outcome >= Outcome::Warning).collect()
}

#[test]
fn sound_facts_have_no_failure_and_no_warning_in_any_category() {
    let findings = judge(&sound());
    assert!(bad(&findings).is_empty(), "{findings:?}");
    let mut categories: Vec<_> = findings.iter().map(|finding| finding.category).collect();
    categories.dedup();
    let all = <Category as strum::IntoEnumIterator>::iter();
    assert_eq!(categories, all.collect::<Vec<_>>(), "each category once, in order");
}

/// A change of sound facts, and the one finding that it must cause: outcome, category, parts of message and remedy.
type Fault = (fn(&mut Facts), Outcome, Category, &'static str, &'static str);

fn cluster_of(facts: &mut Facts) -> &mut ClusterFacts {
    facts.cluster.as_mut().and_then(|cluster| cluster.as_mut().ok()).expect("a cluster")
}

fn aws_of(facts: &mut Facts) -> &mut AwsFacts {
    facts.aws.as_mut().expect("AWS")
}

fn deny(facts: &mut Facts, verb: &str) {
    let rights = cluster_of(facts).rights.as_mut().expect("rights");
    rights
        .iter_mut()
        .filter(|fact| fact.right.verb == verb && fact.right.needed)
        .for_each(|fact| fact.allowed = false);
}

fn policy_with(facts: &mut Facts, change: impl FnOnce(&mut PolicyObject)) {
    let mut object = policy();
    change(&mut object);
    cluster_of(facts).policy = Some(PolicyFacts::Objects(vec![object]));
}

fn lease_with(facts: &mut Facts, holder: Option<&str>, renewed: i64) {
    cluster_of(facts).lease = Some(Ok(Some(LeaseFacts {
        holder: holder.map(str::to_owned),
        renewed_at: Some(wall(renewed)),
        duration_seconds: 15,
    })));
}

fn namespaces_with(rows: Vec<Row>) -> NamespacesFacts {
    NamespacesFacts { rows, absent: vec![], unread: vec![], secrets_denied: None }
}

fn single(facts: &mut Facts) {
    let namespaces = vec!["team-a".to_owned()];
    cluster_of(facts).single = Some(SingleNamespaceMode { namespaces, writes_service_accounts: false });
}

fn token_fails(facts: &mut Facts, kind: TokenErrorKind, message: &str) {
    let aws = aws_of(facts);
    aws.tokens[0].result = Err(TokenError::new(kind, message));
    aws.registries.clear();
}

fn registry_replies(facts: &mut Facts, index: usize, status: u16, body: &str) {
    let response = RegistryResponse { status, body: body.to_owned() };
    aws_of(facts).registries[index].result = Ok(response);
}

fn registry_fails(facts: &mut Facts, error: RegistryError) {
    let aws = aws_of(facts);
    aws.registries.truncate(1);
    aws.registries[0].result = Err(error);
}

fn namespace_is(facts: &mut Facts, state: State) {
    cluster_of(facts).namespaces = Some(Ok(namespaces_with(vec![row(state)])));
}

const EXPIRED: &str = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
const DENIED: &str =
    r#"{"errors":[{"code":"DENIED","message":"User: x is not authorized to perform: ecr:BatchGetImage"}]}"#;

const FAULTS: &[Fault] = {
    use Category::*;
    use Outcome::{Failed, Warning};
    &[
        (
            |f| f.configuration.as_mut().expect("valid").shares_controller = true,
            Warning,
            Configuration,
            "with the controller's whole scope",
            "defaults.identity",
        ),
        (
            |f| f.configuration.as_mut().expect("valid").unused_identities.push("idle".to_owned()),
            Warning,
            Configuration,
            "identity \"idle\" is granted to no namespace",
            "identities[].namespaces",
        ),
        (
            |f| {
                let [namespace, name] = ["pull", "ecr-pull-secrets"].map(str::to_owned);
                cluster_of(f).unused_configuration = Some(Unused { namespace, name });
            },
            Warning,
            Configuration,
            "the controller uses ConfigMap pull/ecr-pull-secrets",
            r"kubectl get configmap -n pull ecr-pull-secrets -o 'jsonpath={.data.config\.yaml}' > config.yaml,",
        ),
        (|f| f.region = Ok(None), Failed, Region, "the region is unknown", "set AWS_REGION"),
        (
            |f| f.region = Err("AWS_REGION: \"x\" is not".to_owned()),
            Failed,
            Region,
            "\"x\"",
            "such as eu-central-1",
        ),
        (
            |f| f.cluster = Some(Err("kubeconfig: no file".to_owned())),
            Failed,
            ApiServer,
            "kubeconfig: no file",
            "--kubeconfig",
        ),
        (
            |f| cluster_of(f).version = Err("connection refused".to_owned()),
            Failed,
            ApiServer,
            "does not respond: connection refused",
            "whether the API server runs",
        ),
        (
            |f| cluster_of(f).version = Ok(Version { major: 1, minor: 29, text: "v1.29.4".to_owned() }),
            Failed,
            ApiServer,
            "v1.29.4 of the API server is too old",
            "upgrade",
        ),
        (|f| deny(f, "list"), Failed, Rights, "may not list namespaces", "deploy/rbac.yaml"),
        (
            |f| deny(f, "patch"),
            Failed,
            Rights,
            "may not patch secrets named \"ecr-pull\"",
            "deploy/rbac.yaml",
        ),
        (|f| deny(f, "create"), Failed, Rights, "may not create events", "deploy/rbac.yaml"),
        (
            |f| cluster_of(f).rights.as_mut().expect("rights")[4].allowed = true,
            Failed,
            Rights,
            "too wide: it may get secrets named \"another-secret\"",
            "roles of deploy/rbac.yaml only",
        ),
        (
            |f| cluster_of(f).rights.as_mut().expect("rights")[5].allowed = true,
            Failed,
            Rights,
            "too wide: it may list secrets, in every namespace",
            "clusterrolebindings",
        ),
        (
            |f| cluster_of(f).subject = Subject::ServiceAccount { user: USER.to_owned(), exists: false },
            Failed,
            Rights,
            "does not exist",
            "--service-account",
        ),
        (
            |f| cluster_of(f).policy = Some(PolicyFacts::Objects(vec![])),
            Failed,
            AdmissionPolicy,
            "no ValidatingAdmissionPolicy for secrets matches",
            "deploy/admission-policy.yaml",
        ),
        (
            |f| cluster_of(f).policy = Some(PolicyFacts::DryRun(DryRun::Accepted)),
            Failed,
            AdmissionPolicy,
            "a secret of another type was accepted",
            "deploy/admission-policy.yaml",
        ),
        (
            |f| policy_with(f, |policy| policy.bindings.clear()),
            Failed,
            AdmissionPolicy,
            "has no binding",
            "contains the bindings",
        ),
        (
            |f| policy_with(f, |policy| policy.bindings = vec![vec!["Audit".to_owned()]]),
            Failed,
            AdmissionPolicy,
            "does not deny",
            "validationActions: [Deny, Audit]",
        ),
        (
            |f| policy_with(f, |policy| policy.missing_names.push("other".to_owned())),
            Failed,
            AdmissionPolicy,
            "does not allow the secrets named other",
            "same secretNames",
        ),
        (
            |f| policy_with(f, |policy| policy.failure_policy = "Ignore".to_owned()),
            Warning,
            AdmissionPolicy,
            "failurePolicy Ignore",
            "failurePolicy: Fail",
        ),
        (
            |f| {
                deny(f, "patch");
                single(f);
            },
            Failed,
            Rights,
            "may not patch secrets named \"ecr-pull\"",
            "a Role in each namespace of namespaces.only",
        ),
        (
            |f| {
                cluster_of(f).rights.as_mut().expect("rights")[5].allowed = true;
                single(f);
            },
            Failed,
            Rights,
            "too wide: it may list secrets",
            "Roles of the chart only",
        ),
        (
            |f| {
                cluster_of(f).policy = Some(PolicyFacts::Objects(vec![]));
                single(f);
            },
            Warning,
            AdmissionPolicy,
            "single-namespace mode, in team-a: no ValidatingAdmissionPolicy is known",
            "accept the risk",
        ),
        (
            |f| {
                policy_with(f, |policy| policy.bindings.clear());
                single(f);
            },
            Failed,
            AdmissionPolicy,
            "has no binding",
            "contains the bindings",
        ),
        (
            |f| {
                let absent = vec!["team-b".to_owned()];
                let namespaces = NamespacesFacts { absent, ..namespaces_with(vec![row(State::Ready)]) };
                cluster_of(f).namespaces = Some(Ok(namespaces));
            },
            Warning,
            Namespaces,
            "team-b is in namespaces.only, but does not exist",
            "create the namespace",
        ),
        (
            |f| {
                let unread = vec!["team-b".to_owned()];
                let namespaces = NamespacesFacts { unread, ..namespaces_with(vec![row(State::Ready)]) };
                cluster_of(f).namespaces = Some(Ok(namespaces));
            },
            Warning,
            Namespaces,
            "team-b cannot be read, so its annotations do not count",
            "allow get on the Namespace",
        ),
        (
            |f| {
                cluster_of(f).lease = Some(Ok(None));
                cluster_of(f).namespaces = Some(Ok(namespaces_with(vec![])));
            },
            Failed,
            Lease,
            "there is no Lease",
            "--controller-namespace",
        ),
        (
            |f| cluster_of(f).lease = Some(Ok(None)),
            Warning,
            Lease,
            "without leader election",
            "--leader-election",
        ),
        (|f| lease_with(f, None, -3), Failed, Lease, "no controller holds the Lease", "kubectl get pods"),
        (
            |f| lease_with(f, Some("pod-1"), -31),
            Failed,
            Lease,
            "\"pod-1\" has not renewed the Lease since",
            "start",
        ),
        (
            |f| {
                cluster_of(f).clock = Some(Clocks { server: wall(60), local: wall(0) });
                lease_with(f, Some("pod-1"), 57);
            },
            Warning,
            Clock,
            "API server's clock differs from this machine's by 60 s",
            "NTP",
        ),
        (
            |f| aws_of(f).clock = Some(Clocks { server: wall(301), local: wall(0) }),
            Failed,
            Clock,
            "by 301 s: AWS refuses signatures",
            "NTP",
        ),
        (
            |f| {
                aws_of(f).tokens.clear();
                aws_of(f).registries.clear();
                aws_of(f).caller = Err(TokenError::new(TokenErrorKind::Credentials, "no AWS credentials"));
            },
            Failed,
            AwsIdentity,
            "no AWS credentials",
            "mount a profile",
        ),
        (
            |f| {
                aws_of(f).tokens.clear();
                aws_of(f).registries.clear();
                aws_of(f).caller = Err(TokenError::new(TokenErrorKind::Unreachable, "cannot connect to AWS"));
            },
            Failed,
            AwsIdentity,
            "cannot connect to AWS",
            "HTTPS_PROXY",
        ),
        (
            |f| {
                aws_of(f).caller =
                    Err(TokenError::new(TokenErrorKind::Timeout, "STS did not respond in time"));
            },
            Warning,
            AwsIdentity,
            "STS did not respond in time",
            "network policies",
        ),
        (
            |f| {
                token_fails(
                    f,
                    TokenErrorKind::AssumeRoleDenied,
                    &format!("role {ROLE}: AWS returned AccessDenied"),
                );
            },
            Failed,
            Identities,
            "AWS returned AccessDenied",
            "trust policy",
        ),
        (
            |f| token_fails(f, TokenErrorKind::PolicyTooLarge, &format!("role {ROLE}: PackedPolicyTooLarge")),
            Failed,
            Identities,
            "PackedPolicyTooLarge",
            "fewer or shorter repositories",
        ),
        (
            |f| {
                token_fails(f, TokenErrorKind::Credentials, "cannot read the web identity token /nowhere");
                let source = CredentialSource::WebIdentity(PathBuf::from("/nowhere"));
                aws_of(f).tokens[0].role = Some((ROLE.to_owned(), source));
            },
            Failed,
            Identities,
            "cannot read the web identity token",
            "projected volume",
        ),
        (
            |f| token_fails(f, TokenErrorKind::AccessDenied, "AWS returned AccessDeniedException"),
            Failed,
            Tokens,
            "AccessDeniedException",
            "ecr:GetAuthorizationToken",
        ),
        (
            |f| token_fails(f, TokenErrorKind::Timeout, "AWS did not respond in time"),
            Failed,
            Tokens,
            "did not respond",
            "network policies",
        ),
        (
            |f| token_fails(f, TokenErrorKind::ExpiredToken, "the token had expired"),
            Failed,
            Tokens,
            "had expired",
            "configured endpoints",
        ),
        (
            |f| registry_replies(f, 0, 403, EXPIRED),
            Failed,
            Registries,
            "token has expired",
            "check the clock",
        ),
        (|f| registry_replies(f, 0, 401, ""), Failed, Registries, "HTTP 401: no message", "denied the token"),
        (|f| registry_replies(f, 1, 403, DENIED), Warning, Registries, "tags: HTTP 403", "ecr:ListImages"),
        (|f| registry_replies(f, 1, 404, ""), Failed, Registries, "tags: HTTP 404", "does not exist"),
        (
            |f| registry_replies(f, 2, 403, DENIED),
            Failed,
            Registries,
            "ecr:BatchGetImage",
            "repository policy",
        ),
        (|f| registry_replies(f, 2, 404, ""), Warning, Registries, "app:1: HTTP 404", "NAME:TAG"),
        (
            |f| registry_fails(f, RegistryError::UnknownHost("dns error".to_owned())),
            Failed,
            Registries,
            "the host is unknown",
            "private DNS",
        ),
        (
            |f| registry_fails(f, RegistryError::Certificate("invalid peer certificate".to_owned())),
            Failed,
            Registries,
            "invalid peer certificate",
            "SSL_CERT_FILE",
        ),
        (
            |f| registry_fails(f, RegistryError::Timeout),
            Failed,
            Registries,
            "no response within 10 s",
            "port 443",
        ),
        (
            |f| namespace_is(f, State::Expired),
            Failed,
            Namespaces,
            "team-a is Expired",
            "log of the controller",
        ),
        (
            |f| namespace_is(f, State::Blocked),
            Failed,
            Namespaces,
            "team-a is Blocked: InvalidAnnotation",
            "-n team-a",
        ),
        (|f| namespace_is(f, State::Degraded), Warning, Namespaces, "team-a is Degraded", "correct"),
        (|f| namespace_is(f, State::Ignored), Warning, Namespaces, "team-a did not opt in", "correct"),
    ]
};

#[test]
fn each_of_more_than_forty_planted_faults_is_the_one_finding_and_names_the_remedy() {
    assert!(FAULTS.len() > 40);
    for (plant, outcome, category, message, remedy) in FAULTS {
        let mut facts = sound();
        plant(&mut facts);
        let findings = judge(&facts);
        let found = bad(&findings);
        let [finding] = found.as_slice() else { panic!("{message}: {found:?}") };
        assert_eq!((finding.outcome, finding.category), (*outcome, *category), "{finding:?}");
        assert!(finding.message.contains(message), "{message}: {}", finding.message);
        let hint = finding.hint.as_ref().unwrap_or_else(|| panic!("{message} has no remedy"));
        assert!(hint.remedy.contains(remedy), "{remedy}: {}", hint.remedy);
        assert!(hint.link.starts_with("docs/"));
    }
}

#[test]
fn an_invalid_configuration_is_the_only_failure_and_the_rest_is_skipped() {
    let configuration = Err("configuration: refresh.at: 1.5: expected 0.1 to 0.8".to_owned());
    let facts = Facts { configuration, cluster: None, aws: None, ..sound() };
    let findings = judge(&facts);
    let found = bad(&findings);
    assert!(matches!(found.as_slice(), [one] if one.message.contains("refresh.at: 1.5")), "{found:?}");
}

#[test]
fn without_rights_to_look_a_check_is_skipped_and_not_failed() {
    let mut facts = sound();
    let forbidden = || "forbidden".to_owned();
    let cluster = cluster_of(&mut facts);
    cluster.rights = Err(forbidden());
    cluster.policy = Some(PolicyFacts::Unreadable(forbidden()));
    cluster.lease = Some(Err(forbidden()));
    cluster.namespaces = Some(Err(forbidden()));
    let findings = judge(&facts);
    assert!(bad(&findings).is_empty(), "{findings:?}");
    let skipped = findings.iter().filter(|finding| finding.outcome == Outcome::Skipped).count();
    assert_eq!(skipped, 4);
}

#[test]
fn an_administrator_is_not_accused_of_rights_that_are_too_wide() {
    let mut facts = sound();
    let cluster = cluster_of(&mut facts);
    cluster.subject = Subject::Own { user: "admin".to_owned() };
    cluster.rights.as_mut().expect("rights").iter_mut().for_each(|fact| fact.allowed = true);
    assert!(bad(&judge(&facts)).is_empty());
}

#[test]
fn the_age_of_the_lease_is_measured_by_the_clock_of_the_cluster() {
    let mut facts = sound();
    // The cluster is an hour ahead.
    cluster_of(&mut facts).clock = Some(Clocks { server: wall(HOUR), local: wall(0) });
    lease_with(&mut facts, Some("pod-1"), HOUR - 3);
    let findings = judge(&facts);
    let lease = findings.iter().find(|finding| finding.category == Category::Lease).expect("a finding");
    assert_eq!(lease.outcome, Outcome::Ok, "{}", SignedDuration::from_secs(HOUR));
    lease_with(&mut facts, Some("pod-1"), 0);
    let findings = judge(&facts);
    let lease = findings.iter().find(|finding| finding.category == Category::Lease).expect("a finding");
    assert_eq!(lease.outcome, Outcome::Failed);
}

#[test]
fn identities_with_web_identity_tokens_need_no_credentials_of_the_controller() {
    let mut facts = sound();
    let aws = aws_of(&mut facts);
    aws.caller = Err(TokenError::new(TokenErrorKind::Credentials, "no AWS credentials"));
    aws.tokens[0].role = Some((ROLE.to_owned(), CredentialSource::WebIdentity(PathBuf::from("/token"))));
    let findings = judge(&facts);
    assert!(bad(&findings).is_empty(), "{findings:?}");
}

#[test]
fn a_role_with_a_token_for_each_of_two_endpoints_is_listed_once() {
    let mut facts = sound();
    let aws = aws_of(&mut facts);
    let role = aws.tokens[0].role.clone();
    let result = Ok(wall(HOUR));
    aws.tokens.push(TokenFact { identity: "own".to_owned(), endpoint: "us-east-1".to_owned(), role, result });
    let findings = judge(&facts);
    let count = |category| findings.iter().filter(|finding| finding.category == category).count();
    assert_eq!((count(Category::Identities), count(Category::Tokens)), (1, 2));
}

#[test]
fn secrets_of_other_tools_beyond_the_limit_are_counted_and_those_that_cannot_be_read_are_skipped() {
    let mut facts = sound();
    let unread = ForeignSecret {
        namespace: "team-a".to_owned(),
        name: "regcred".to_owned(),
        assignments: None,
        static_hosts: vec![],
        refusal: None,
        content: Err("forbidden".to_owned()),
    };
    let refusal = refusal("team-a", "regcred", &Owner::NotAdoptable(Obstacle::Type));
    let refused = ForeignSecret { refusal, content: Err(String::new()), ..unread.clone() };
    let secrets = vec![unread, refused];
    cluster_of(&mut facts).adoption = Some(Ok(AdoptionFacts { secrets, more: 7 }));
    let findings = judge(&facts);
    let of_adoption = findings.iter().filter(|finding| finding.category == Category::Adoption);
    let found: Vec<_> = of_adoption.map(|finding| (finding.outcome, finding.message.as_str())).collect();
    assert_eq!(
        found,
        [
            (Outcome::Skipped, "secret \"regcred\" in namespace \"team-a\" cannot be read: forbidden"),
            (
                Outcome::Warning,
                "namespace \"team-a\": secret \"regcred\" cannot be adopted, because its type is not \
                 kubernetes.io/dockerconfigjson, and a type never changes, and is not changed"
            ),
            (Outcome::Skipped, "7 more secrets of other tools match a rule under adopt; they were not read"),
        ]
    );
}

#[test]
fn many_namespaces_in_trouble_are_counted() {
    let mut facts = sound();
    let blocked = |n: usize| Row { namespace: format!("team-{n}").into(), ..row(State::Blocked) };
    let rows = (0..30).map(blocked).collect();
    cluster_of(&mut facts).namespaces = Some(Ok(namespaces_with(rows)));
    let findings = judge(&facts);
    assert_eq!(bad(&findings).len(), 21);
    assert!(findings.iter().any(|finding| finding.message == "trouble in 10 more namespaces"));
}

#[test]
fn only_namespaces_that_are_ready_pass() {
    use State::{Blocked, Due, Pending, Ready};
    let others = "; ecr-pull-secrets status -A shows the others";
    for (states, outcome, message) in [
        (&[Ready][..], Outcome::Ok, "1 of 1 namespace ready".to_owned()),
        (&[Ready, Ready, Blocked], Outcome::Ok, "2 of 3 namespaces ready".to_owned()),
        (&[Pending], Outcome::Skipped, format!("0 of 1 namespace ready{others}")),
        (&[Ready, Due], Outcome::Skipped, format!("1 of 2 namespaces ready{others}")),
    ] {
        let mut facts = sound();
        let rows = states.iter().map(|state| row(*state)).collect();
        cluster_of(&mut facts).namespaces = Some(Ok(namespaces_with(rows)));
        let findings = judge(&facts);
        let mut found = findings.iter().filter(|finding| finding.category == Category::Namespaces);
        assert_eq!(found.next_back().map(|it| (it.outcome, &it.message)), Some((outcome, &message)));
    }
}

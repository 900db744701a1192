//! The policies of `deploy/iam`: they allow to pull and nothing else, and only to whom they mean.
//!
//! What AWS makes of them is not tested here: no AWS was there.

mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam");

/// Have no resource: AWS takes them on `*` only.
const WITHOUT_RESOURCE: [&str; 3] =
    ["ecr:GetAuthorizationToken", "ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];
const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
const FILL_A_CACHE: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// What stands for each placeholder, in each partition of AWS. No placeholder is part of another.
const PARTITIONS: [[(&str, &str); 7]; 3] =
    [with("aws", "eu-central-1"), with("aws-cn", "cn-north-1"), with("aws-us-gov", "us-gov-west-1")];

const fn with(partition: &'static str, region: &'static str) -> [(&'static str, &'static str); 7] {
    [
        ("PARTITION", partition),
        ("REGION", region),
        ("ACCOUNT", "111111111111"),
        ("OTHER", "222222222222"),
        ("CACHE", "quay"),
        ("ISSUER", "oidc.example.com/id/1"),
        ("EXTERNAL-ID", "cluster-7"),
    ]
}

/// All files with their texts.
fn files() -> BTreeMap<String, String> {
    let files: BTreeMap<_, _> = fs::read_dir(FOLDER)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    assert!(files.len() >= 10, "{:?}", files.keys());
    files
}

/// Its statements; every key of the document and of each statement is one that only allows.
fn statements(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).expect("JSON");
    let keys: BTreeSet<&str> = document.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["Statement", "Version"]));
    assert_eq!(document["Version"], "2012-10-17");
    let statements = document["Statement"].as_array().expect("a list").clone();
    assert!(!statements.is_empty());
    for statement in &statements {
        assert_eq!(statement["Effect"], "Allow");
        for key in statement.as_object().expect("an object").keys() {
            // NotAction, NotResource and NotPrincipal are wildcards by another name.
            let known =
                ["Sid", "Effect", "Action", "Resource", "Principal", "Condition"].contains(&key.as_str());
            assert!(known, "{key}");
        }
    }
    statements
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().map(|item| item.as_str().expect("text")).collect(),
        Value::Null => Vec::new(),
        other => panic!("neither text nor list: {other}"),
    }
}

fn is_trust(name: &str) -> bool {
    name.starts_with("trust-")
}

/// The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
fn arn(text: &str) -> [&str; 5] {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", rest @ ..] = parts.as_slice() else { panic!("no ARN: {text}") };
    rest.try_into().unwrap_or_else(|_| panic!("no ARN: {text}"))
}

/// Calls `check` with the name and the statements of each file in each partition.
fn in_each_partition(mut check: impl FnMut(&str, &str, Value)) {
    for (name, text) in files() {
        for values in PARTITIONS {
            let filled = values.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
            for statement in statements(&filled) {
                check(&name, values[0].1, statement);
            }
        }
    }
}

#[test]
fn only_what_pulling_takes_is_allowed() {
    in_each_partition(|name, _, statement| {
        let actions = texts(&statement["Action"]);
        assert!(!actions.is_empty(), "{name}");
        for action in actions {
            let allowed = if is_trust(name) {
                ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession"].contains(&action)
            } else {
                ["sts:AssumeRole", "sts:TagSession"].contains(&action) && name == "assume-roles.json"
                    || FILL_A_CACHE.contains(&action) && name == "pull-through-cache.json"
                    || action == "ecr:ListImages" && name == "list-tags.json"
                    || PULL.contains(&action)
                    || WITHOUT_RESOURCE.contains(&action)
            };
            assert!(allowed, "{name}: {action}");
        }
    });
}

#[test]
fn what_has_a_resource_is_never_allowed_on_all_of_them() {
    in_each_partition(|name, partition, statement| {
        let actions = texts(&statement["Action"]);
        let resources = texts(&statement["Resource"]);
        if is_trust(name) || name == "repository-policy.json" {
            assert!(resources.is_empty(), "{name}: belongs to a resource, and names none");
            return;
        }
        assert!(!resources.is_empty(), "{name}");
        if actions.iter().all(|action| WITHOUT_RESOURCE.contains(action)) {
            assert_eq!(resources, ["*"], "{name}");
            return;
        }
        for resource in resources {
            let [of, service, region, account, path] = arn(resource);
            assert_eq!(of, partition, "{name}: {resource}");
            assert!(account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()), "{name}: {resource}");
            if actions.contains(&"sts:AssumeRole") {
                assert_eq!((service, region, path), ("iam", "", "role/ecr-pull"), "{name}");
                continue;
            }
            assert!(service == "ecr" && region.contains('-'), "{name}: {resource}");
            let pattern = path.strip_prefix("repository/").expect("a repository");
            let wildcards = pattern.matches(['*', '?', '$']).count();
            assert!(wildcards == 0 || wildcards == 1 && pattern.ends_with('*'), "{name}: {resource}");
            if actions.iter().any(|action| FILL_A_CACHE.contains(action)) {
                assert_ne!(pattern, "*", "{name}: would create any repository");
            }
        }
    });
}

/// The session tags of EKS Pod Identity are transitive: <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html>.
#[test]
fn both_sides_of_a_second_role_allow_the_session_tags_of_pod_identity() {
    for name in ["assume-roles.json", "trust-controller.json"] {
        for statement in statements(&files()[name]) {
            assert_eq!(texts(&statement["Action"]), ["sts:AssumeRole", "sts:TagSession"], "{name}");
        }
    }
}

#[test]
fn every_permission_to_pull_comes_with_that_for_a_token() {
    for (name, text) in files() {
        let statements = statements(&text);
        let actions: BTreeSet<&str> = statements.iter().flat_map(|one| texts(&one["Action"])).collect();
        if name.starts_with("pull-") {
            assert!(PULL.iter().all(|action| actions.contains(action)), "{name}");
            assert!(actions.contains("ecr:GetAuthorizationToken"), "{name}");
        }
    }
}

#[test]
fn trust_is_in_one_principal_and_under_a_condition() {
    in_each_partition(|name, partition, statement| {
        let principal = statement["Principal"].as_object();
        assert_eq!(principal.is_some(), is_trust(name) || name == "repository-policy.json", "{name}");
        let Some(principal) = principal else { return };
        let [(kind, who)] = principal.iter().collect::<Vec<_>>()[..] else { panic!("{name}: {principal:?}") };
        let who = who.as_str().expect("one principal");
        assert!(!who.contains('*'), "{name}: {who}");
        if kind == "Service" {
            assert_eq!(who, "pods.eks.amazonaws.com", "{name}");
        } else {
            assert_eq!(arn(who)[..3], [partition, "iam", ""], "{name}: {who}");
        }
        let condition = &statement["Condition"]["StringEquals"];
        let keys: Vec<&str> =
            condition.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let expected: &[&str] = match name {
            "trust-controller.json" => &["sts:ExternalId"],
            "trust-pod-identity.json" => {
                &["aws:RequestTag/kubernetes-namespace", "aws:RequestTag/kubernetes-service-account"]
            }
            "trust-web-identity.json" => &["oidc.example.com/id/1:aud", "oidc.example.com/id/1:sub"],
            "repository-policy.json" => &[],
            other => panic!("say here what {other} has as its condition"),
        };
        assert_eq!(keys, expected, "{name}");
        assert!(keys.iter().all(|key| condition[*key].as_str().is_some_and(|value| !value.contains('*'))));
    });
}

#[test]
fn the_readme_names_every_file_and_every_placeholder() {
    let readme = fs::read_to_string(format!("{FOLDER}/README.md")).expect("text");
    let files = files();
    for name in files.keys() {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} has no row");
    }
    for (placeholder, _) in PARTITIONS[0] {
        assert!(readme.contains(&format!("| `{placeholder}` |")), "{placeholder} has no row");
        assert!(files.values().any(|text| text.contains(placeholder)), "{placeholder} stands nowhere");
    }
}

#[test]
fn no_placeholder_is_unknown() {
    for (name, text) in files() {
        let filled = PARTITIONS[0].iter().fold(text, |text, (from, to)| text.replace(from, to));
        let capitals = filled.split(|c: char| !c.is_ascii_uppercase()).find(|word| word.len() > 3);
        assert_eq!(capitals, None, "{name}");
    }
}

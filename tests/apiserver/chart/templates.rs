//! What each value renders, and what is rendered without it.

use serde_json::{Value, json};
use testing::tools;

use super::{CHART, all, one, render};

async fn with(values: &str) -> Vec<Value> {
    render(&["--set-json", values]).await.unwrap_or_else(|said| panic!("{values}: {said}"))
}

#[tokio::test]
async fn each_conditional_object_is_rendered_only_if_its_value_is_set() {
    let files = ["least", "default", "everything"].map(|name| format!("{CHART}/ci/{name}-values.yaml"));
    let mut rendered = vec![];
    for file in &files {
        rendered.push(render(&["--values", file]).await.unwrap_or_else(|said| panic!("{file}: {said}")));
    }
    for (kind, counts) in [
        ("ServiceAccount", [0, 1, 2]),
        ("ClusterRole", [0, 1, 2]),
        ("ClusterRoleBinding", [0, 1, 2]),
        ("Role", [0, 1, 2]),
        ("RoleBinding", [0, 1, 2]),
        ("ValidatingAdmissionPolicy", [0, 3, 5]),
        ("ValidatingAdmissionPolicyBinding", [0, 3, 5]),
        ("PodDisruptionBudget", [0, 1, 1]),
        ("NetworkPolicy", [0, 0, 1]),
        ("Service", [0, 1, 1]),
        ("ServiceMonitor", [0, 0, 0]),
        ("Pod", [0, 1, 1]),
        ("Job", [0, 0, 1]),
        ("ConfigMap", [1, 1, 4]),
        ("Deployment", [1, 1, 1]),
    ] {
        let found: Vec<_> = rendered.iter().map(|objects| all(objects, kind).len()).collect();
        assert_eq!(found, counts, "{kind}");
    }
    for (values, kind, count) in [
        (r"serviceMonitor={}", "ServiceMonitor", 0),
        (r#"serviceMonitor={"enabled":true}"#, "ServiceMonitor", 1),
        (r#"podMonitor={"enabled":true}"#, "PodMonitor", 1),
        (r"enabled=false", "Deployment", 1),
        (r"replicaCount=1", "PodDisruptionBudget", 0),
        (r"admissionPolicy.enabled=false", "ValidatingAdmissionPolicy", 0),
        (r#"admissionPolicy={"enabled":null}"#, "ValidatingAdmissionPolicy", 3),
        (r"admissionPolicy.enabled=false,cleanupOnUninstall=true", "ValidatingAdmissionPolicy", 0),
        (r"cleanupOnUninstall=true", "ValidatingAdmissionPolicy", 4),
        (r"metrics.service.enabled=false", "Pod", 0),
        (r"metrics.service.enabled=false,hostNetwork=true", "Pod", 1),
    ] {
        assert_eq!(all(&with(values).await, kind).len(), count, "{kind} with {values}");
    }
}

/// The API server adds it within a list, where tools that compare Git with the cluster see a difference.
#[tokio::test]
async fn each_rule_of_a_policy_has_the_scope_that_the_api_server_would_add() {
    let file = format!("{CHART}/ci/everything-values.yaml");
    let objects = render(&["--values", &file]).await.unwrap_or_else(|said| panic!("{file}: {said}"));
    let mut rules = 0;
    for object in &objects {
        for rule in object["spec"]["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
            assert_eq!(rule["scope"], "*", "{}", object["metadata"]["name"]);
            rules += 1;
        }
    }
    assert!(rules >= 5, "{rules} rules");
}

#[tokio::test]
async fn the_pod_with_all_values_and_the_pod_with_as_few_as_possible() {
    let pod = async |name: &str| {
        let file = format!("{CHART}/ci/{name}-values.yaml");
        let objects = render(&["--values", &file]).await.unwrap_or_else(|said| panic!("{file}: {said}"));
        one(&objects, "Deployment")["spec"]["template"]["spec"].clone()
    };
    let full = pod("everything").await;
    let image = format!("mirror.example:5000/aws/ecr-pull-secrets@sha256:{}", "0".repeat(64));
    assert_eq!(full["containers"][0]["image"], image);
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    // AWS_REGION is in extraEnv, too: a variable that is set twice is refused.
    let token = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "HTTPS_PROXY", "AWS_REGION"];
    assert_eq!(variables(&full), [&["POD_NAME"][..], &keys, &token].concat());
    assert_eq!(full["initContainers"][0]["image"], image);
    let selected = &full["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"];
    assert_eq!(selected["app.kubernetes.io/name"], "pull", "a constraint without a selector");
    assert_eq!(full["volumes"].as_array().expect("volumes").len(), 3);
    assert_eq!(full["containers"].as_array().expect("containers").len(), 2);
    for key in ["imagePullSecrets", "priorityClassName", "tolerations", "topologySpreadConstraints"] {
        assert!(!full[key].is_null(), "{key}");
    }
    let least = pod("least").await;
    assert_eq!(least["serviceAccountName"], "there-already");
    for key in ["livenessProbe", "readinessProbe", "resources"] {
        assert!(least["containers"][0][key].is_null(), "{key}");
    }
}

/// The names of the first container's variables, in their order.
fn variables(pod: &Value) -> Vec<String> {
    let all = pod["containers"][0]["env"].as_array().expect("variables");
    all.iter().map(|variable| variable["name"].as_str().expect("a name").to_owned()).collect()
}

/// `helm template` knows no API server.
#[tokio::test]
async fn the_policies_are_rendered_unless_a_value_disables_them() {
    let policies = async |args: &[&str]| {
        let text =
            tools::run("helm", &[&["template", "x", CHART], args].concat(), &[]).await.expect("it renders");
        text.matches("kind: ValidatingAdmissionPolicy\n").count()
    };
    assert_eq!(policies(&[]).await, 3);
    assert_eq!(policies(&["--set", "admissionPolicy.enabled=false"]).await, 0);
}

#[tokio::test]
async fn each_denial_is_forbidden_and_audited() {
    let values = r#"admissionPolicy={"allowedMetadata":["a.example/*"]},cleanupOnUninstall=true"#;
    let objects = with(values).await;
    for policy in all(&objects, "ValidatingAdmissionPolicy") {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        for validation in policy["spec"]["validations"].as_array().expect("validations") {
            assert_eq!(validation["reason"], "Forbidden", "{validation}");
        }
    }
    for binding in all(&objects, "ValidatingAdmissionPolicyBinding") {
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny", "Audit"]));
    }
}

/// `fields.yaml` has what each value sets, and the field's value without it.
#[tokio::test]
async fn each_conditional_field_is_rendered_only_if_its_value_is_set() {
    type Row = (String, String, String, Value, Value);
    let rows: Vec<Row> = serde_saphyr::from_str(include_str!("fields.yaml")).expect("rows of five");
    assert!(rows.len() > 35);
    let defaults = render(&[]).await.expect("the defaults");
    for (values, kind, pointer, without, expected) in rows {
        let rendered = with(&values).await;
        let at = |objects: &[Value]| {
            let first = all(objects, &kind).into_iter().next().unwrap_or_else(|| panic!("no {kind}"));
            first.pointer(&pointer).cloned().unwrap_or_default()
        };
        assert_eq!(at(&defaults), without, "{kind} {pointer} without {values}");
        assert_eq!(at(&rendered), expected, "{kind} {pointer} with {values}");
    }
}

#[tokio::test]
async fn optional_parts_of_an_object_are_rendered_from_their_values() {
    let ingress =
        async |values: &str| one(&with(values).await, "NetworkPolicy")["spec"]["ingress"][0]["from"].clone();
    assert_eq!(ingress(r#"networkPolicy={"enabled":true}"#).await, json!(null));
    let from = r#"networkPolicy={"enabled":true,"ingressFrom":[{"podSelector":{}}]}"#;
    assert_eq!(ingress(from).await, json!([{"podSelector": {}}]));
    let egress = async |values: &str| one(&with(values).await, "NetworkPolicy")["spec"]["egress"].clone();
    let rules = egress(r#"networkPolicy={"enabled":true}"#).await;
    let allows = |port: u16, to: Value| {
        let rules = rules.as_array().into_iter().flatten();
        rules
            .filter(|rule| rule["to"] == to)
            .any(|rule| rule["ports"].to_string().contains(&format!(r#""port":{port},"#)))
    };
    let services_of_the_node =
        json!([{"ipBlock": {"cidr": "169.254.0.0/16"}}, {"ipBlock": {"cidr": "fd00:ec2::/32"}}]);
    assert!(
        allows(80, services_of_the_node) && !allows(80, Value::Null),
        "Pod Identity, instance metadata: {rules}"
    );
    for port in [53, 5353, 443, 6443] {
        assert!(allows(port, Value::Null), "{port}: {rules}");
    }
    let lists = r#"networkPolicy={"enabled":true,"ingress":[{"from":[]}],"egress":[{"to":[]}]}"#;
    let policy = one(&with(lists).await, "NetworkPolicy");
    assert_eq!(
        (&policy["spec"]["ingress"], &policy["spec"]["egress"]),
        (&json!([{"from": []}]), &json!([{"to": []}]))
    );

    let extra = with(r#"extraObjects=[{"kind":"A","name":"{{ .Release.Name }}"},"kind: B\nname: {{ .Release.Namespace }}"]"#).await;
    assert_eq!(
        (&one(&extra, "A")["name"], &one(&extra, "B")["name"]),
        (&json!("ecr-pull-secrets"), &json!("ecr-pull-secrets"))
    );

    let other =
        tools::run("helm", &["template", "rel", CHART], &[]).await.expect("a release of another name");
    assert!(
        other.contains("name: rel-ecr-pull-secrets\n"),
        "a release whose name does not contain the chart's"
    );
}

#[tokio::test]
async fn the_containers_variables_are_those_of_the_values_in_this_order() {
    let env =
        async |values: &str| variables(&one(&with(values).await, "Deployment")["spec"]["template"]["spec"]);
    assert_eq!(env("aws={}").await, ["POD_NAME"]);
    assert_eq!(env(r#"aws={"region":"eu-central-1"}"#).await, ["POD_NAME", "AWS_REGION"]);
    let keys = ["POD_NAME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    assert_eq!(env(r#"aws={"credentialsSecret":"aws"}"#).await, keys);
    let token = ["POD_NAME", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    assert_eq!(env(r#"aws={"webIdentity":{"roleArn":"arn:x"}}"#).await, token);
    assert_eq!(env(r#"extraEnv=[{"name":"HTTPS_PROXY","value":"x"}]"#).await, ["POD_NAME", "HTTPS_PROXY"]);
}

#[tokio::test]
async fn the_cleanup_has_the_rights_that_it_needs_and_no_more() {
    let rules = async |values: &str| {
        let objects = with(&format!("cleanupOnUninstall=true,{values}")).await;
        let roles = all(&objects, "ClusterRole");
        roles.iter().find(|role| role["metadata"]["name"] == "ecr-pull-secrets-cleanup").expect("a role")
            ["rules"]
            .clone()
    };
    let secrets = |names: Value| json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["list", "delete"]});
    assert_eq!(rules(r"config={}").await, json!([secrets(json!(["ecr-pull"]))]));
    let names =
        r#"config={"secretNames":["a"],"retiredSecretNames":["b"],"serviceAccounts":{"enabled":true}}"#;
    let accounts =
        json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "patch"]});
    assert_eq!(rules(names).await, json!([secrets(json!(["a", "b"])), accounts]));
    let objects = with("cleanupOnUninstall=true").await;
    let all_roles = all(&objects, "Role");
    let role =
        all_roles.iter().find(|role| role["metadata"]["name"] == "ecr-pull-secrets-cleanup").expect("a role");
    let lease = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "resourceNames": ["ecr-pull-secrets"], "verbs": ["get", "create", "update", "delete"]});
    assert_eq!(role["rules"], json!([lease]), "it holds the Lease and deletes it");
    let job = async |values: &str| one(&with(&format!("cleanupOnUninstall=true,{values}")).await, "Job");
    let container = |job: &Value| job["spec"]["template"]["spec"]["containers"][0].clone();
    let plain = container(&job("resources=null").await);
    assert_eq!(plain["resources"], json!(null));
    let args = ["cleanup", "--config=/etc/ecr-pull-secrets/config.yaml", "--yes", "--timeout=120s"];
    assert_eq!(plain["args"], json!(args));
    assert_eq!(container(&job(r#"extraEnv=[{"name":"a","value":"b"}]"#).await)["env"][0]["name"], "a");
}

#[tokio::test]
async fn a_change_of_the_configuration_rolls_the_pods_and_nothing_else_does() {
    let sum = async |values: &str| {
        let deployment = one(&with(values).await, "Deployment");
        deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_eq!(sum("replicaCount=2").await, sum("replicaCount=3").await);
    assert_ne!(sum("replicaCount=2").await, sum("config.refresh.writesPerSecond=10").await);
}

/// A Service that does not select the pods, and a Deployment that does not, are silent faults.
#[tokio::test]
async fn labels_of_values_replace_all_but_those_that_select_the_pods() {
    let values = r#"commonLabels={"app.kubernetes.io/name":"x","app.kubernetes.io/version":"9","team":"a"},podLabels={"app.kubernetes.io/instance":"y","team":"b"}"#;
    let objects = with(values).await;
    let deployment = one(&objects, "Deployment");
    let pod = &deployment["spec"]["template"]["metadata"]["labels"];
    for (label, expected) in [
        ("app.kubernetes.io/name", "ecr-pull-secrets"),
        ("app.kubernetes.io/instance", "ecr-pull-secrets"),
        ("app.kubernetes.io/version", "9"),
        ("team", "b"),
    ] {
        assert_eq!(pod[label], expected, "{label}");
    }
    for selector in
        [&deployment["spec"]["selector"]["matchLabels"], &one(&objects, "Service")["spec"]["selector"]]
    {
        for (label, value) in selector.as_object().expect("a selector") {
            assert_eq!(pod[label], *value, "{label}");
        }
    }
}

#[tokio::test]
async fn common_labels_and_annotations_are_on_every_object_and_pod() {
    let values = r#"commonLabels={"team":"a"},commonAnnotations={"owner":"b"},cleanupOnUninstall=true,networkPolicy={"enabled":true},serviceMonitor={"enabled":true},config={"serviceAccounts":{"enabled":true}}"#;
    for object in with(values).await {
        let template = Some(&object["spec"]["template"]["metadata"]).filter(|template| !template.is_null());
        for metadata in [&object["metadata"]].into_iter().chain(template) {
            assert_eq!(
                (&metadata["labels"]["team"], &metadata["annotations"]["owner"]),
                (&json!("a"), &json!("b")),
                "{object}"
            );
        }
    }
}

#[tokio::test]
async fn with_an_existing_config_map_the_chart_renders_none_and_every_pod_mounts_it() {
    let objects = with(r#"existingConfigMap="mine",cleanupOnUninstall=true"#).await;
    assert!(all(&objects, "ConfigMap").is_empty());
    for kind in ["Deployment", "Job"] {
        let spec = &one(&objects, kind)["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"][0]["configMap"]["name"], "mine", "{kind}");
    }
}

#[tokio::test]
async fn fields_without_a_value_are_merged_into_the_pods() {
    let objects = with(r#"podSpecExtra={"preemptionPolicy":"Never","securityContext":{"fsGroup":1}}"#).await;
    let spec = &one(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(
        (&spec["preemptionPolicy"], &spec["securityContext"]["fsGroup"]),
        (&json!("Never"), &json!(1))
    );
    assert_eq!(spec["securityContext"]["runAsUser"], 65532);
    assert_eq!(spec["containers"][0]["name"], "controller");
}

#[tokio::test]
async fn on_openshift_the_cluster_assigns_the_ids() {
    let ids = async |mode: &str, args: &[&str]| {
        let set = format!("global.compatibility.openshift.adaptSecurityContext={mode}");
        let objects = render(&[&["--set", &set, "--set", "cleanupOnUninstall=true"], args].concat())
            .await
            .expect("it renders");
        let contexts = ["Deployment", "Job"]
            .map(|kind| one(&objects, kind)["spec"]["template"]["spec"]["securityContext"].clone());
        assert_eq!(contexts[0], contexts[1]);
        assert_eq!(contexts[0]["runAsNonRoot"], true);
        ["runAsUser", "runAsGroup", "fsGroup"].iter().filter(|key| !contexts[0][**key].is_null()).count()
    };
    let openshift = "--api-versions=security.openshift.io/v1";
    assert_eq!(ids("auto", &[]).await, 3);
    assert_eq!(ids("auto", &[openshift]).await, 0);
    assert_eq!(ids("force", &[]).await, 0);
    assert_eq!(ids("disabled", &[openshift]).await, 3);
}

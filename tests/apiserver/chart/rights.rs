//! Rights follow the configuration.

use serde_json::{Value, json};

use super::{one, render};

#[tokio::test]
async fn its_rights_name_the_secrets_of_the_configuration() {
    let rules = async |set: &str| {
        let objects = render(&["--set-json", set]).await.expect(set);
        one(&objects, "ClusterRole")["rules"].as_array().expect("rules").clone()
    };
    let names = |rules: &[Value]| -> Vec<Value> {
        rules.iter().filter(|rule| rule["resources"] == json!(["secrets"])).cloned().collect()
    };
    let secrets = names(&rules(r#"config={"secretNames":["a","b"],"retiredSecretNames":["c"]}"#).await);
    assert_eq!(secrets[0]["resourceNames"], json!(["a", "b"]));
    assert_eq!(
        (&secrets[1]["resourceNames"], &secrets[1]["verbs"]),
        (&json!(["c"]), &json!(["get", "list", "watch", "delete"]))
    );
    let default = rules(r"config={}").await;
    assert_eq!(names(&default)[0]["resourceNames"], json!(["ecr-pull"]), "as the program has it");
    let every = |rule: &Value| rule["resourceNames"].is_null() && rule["resources"] == json!(["secrets"]);
    assert!(!default.iter().any(every));
    let accounts = |rules: &[Value]| rules.iter().any(|rule| rule["resources"] == json!(["serviceaccounts"]));
    assert!(!accounts(&default) && accounts(&rules(r#"config={"serviceAccounts":{"enabled":true}}"#).await));
}

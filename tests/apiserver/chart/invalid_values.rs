//! Invalid values.

use std::path::Path;

use serde_json::Value;

use super::render;

#[tokio::test]
async fn unknown_and_wrong_values_are_rejected_with_their_names() {
    for (set, said) in [
        ("replicas=2", "'replicas' not allowed"),
        ("image.name=x", "'name' not allowed"),
        ("config.secretName=x", "'secretName' not allowed"),
        ("config.refresh.att=0.5", "'att' not allowed"),
        ("image.digest=x", "/image/digest"),
        ("admissionPolicy.allowedMetadata={*}", "/admissionPolicy/allowedMetadata/0"),
        ("admissionPolicy.allowedMetadata={a*b}", "/admissionPolicy/allowedMetadata/0"),
        ("metrics.service.port=0", "/metrics/service/port"),
        ("serviceAccount.create=false", "serviceAccount.name: name an existing service account"),
        ("mutatingAdmissionPolicy.enabled=true", "set config.serviceAccounts.enabled=true too"),
        (
            "mutatingAdmissionPolicy.enabled=true,config.serviceAccounts.enabled=true,config.namespaces.only={a}",
            "not valid with config.namespaces.only",
        ),
        ("serviceMonitor.enabled=true,metrics.service.enabled=false", "set metrics.service.enabled=true"),
    ] {
        let error = render(&["--set", set]).await.expect_err(set);
        assert!(error.contains(said), "{set}: {error}");
    }
}

#[test]
fn the_schema_of_the_values_has_that_of_the_configuration() {
    let read = |path: &str| -> Value {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
        serde_json::from_str(&text).expect(path)
    };
    let (values, config) =
        (read("charts/ecr-pull-secrets/values.schema.json"), read("docs/config.schema.json"));
    assert_eq!(values["$defs"]["Config"]["properties"], config["properties"]);
    for (name, definition) in config["$defs"].as_object().expect("definitions") {
        assert_eq!(values["$defs"][name], *definition, "{name}");
    }
}

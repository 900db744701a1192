//! What Helm says after an installation.

use super::{CHART, helm};

async fn notes(values: &[&str]) -> String {
    let args = ["install", "ecr-pull-secrets", CHART, "--dry-run=client"];
    let said = helm(&[&args[..], values].concat()).await.expect("a dry run");
    said.split_once("NOTES:").expect("notes").1.to_owned()
}

#[tokio::test]
async fn they_say_the_next_command_and_what_is_missing() {
    const REGION: &str = "--set aws.region=REGION";
    const CREDENTIALS: &str = "No credentials for AWS are among the values";
    const NO_POLICY: &str = "No ValidatingAdmissionPolicy holds";
    let plain = notes(&[]).await;
    assert!(
        plain.contains("kubectl annotate namespace NAMESPACE ecr-pull-secrets.dev/registries="),
        "{plain}"
    );
    assert!(plain.contains("[{name: ecr-pull}]"), "{plain}");
    assert!(plain.contains(REGION) && plain.contains(CREDENTIALS), "{plain}");
    let named = notes(&["--set", "aws.region=eu-central-1,config.secretNames={mine}"]).await;
    assert!(!named.contains(REGION) && named.contains("[{name: mine}]"), "{named}");
    for set in ["aws.credentialsSecret=a", "aws.webIdentity.roleArn=a", "serviceAccount.annotations.a=b"] {
        assert!(!notes(&["--set", set]).await.contains(CREDENTIALS), "{set}");
    }
    assert!(notes(&["--set", "admissionPolicy.enabled=false"]).await.contains(NO_POLICY));
    assert!(!notes(&["--set", "admissionPolicy.enabled=true"]).await.contains(NO_POLICY));
}

//! What Helm prints after an installation.

use testing::tools;

use super::{CHART, RELEASE, install};
use crate::harness::cluster_test;

async fn notes(values: &[&str]) -> String {
    let args = ["install", "ecr-pull-secrets", CHART, "--dry-run=client"];
    let said = tools::run("helm", &[&args[..], values].concat(), &[]).await.expect("a dry run");
    said.split_once("NOTES:").expect("notes").1.to_owned()
}

#[tokio::test]
async fn they_name_the_next_command_and_what_is_missing() {
    const REGION: &str = "--set aws.region=REGION";
    const CREDENTIALS: &str = "No credentials for AWS are among the values";
    const NO_POLICY: &str = "No ValidatingAdmissionPolicy restricts";
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
    // A dry run on the client knows no kinds of the operator.
    let skipped =
        notes(&["--set", "serviceMonitor.enabled=true,serviceMonitor.renderMode=skipIfMissing"]).await;
    assert!(skipped.contains("serviceMonitor.enabled had no effect"), "{skipped}");
    assert!(!notes(&["--set", "serviceMonitor.enabled=true"]).await.contains("had no effect"));
    assert!(notes(&["--set", "admissionPolicy.enabled=false"]).await.contains(NO_POLICY));
    assert!(!notes(&["--set", "admissionPolicy.enabled=true"]).await.contains(NO_POLICY));
}

#[test]
fn after_an_upgrade_that_drops_a_name_they_name_the_secrets_that_stay_and_the_remedy() {
    const STAY: &str = "are no longer managed, and remain";
    cluster_test(async |cluster| {
        install(cluster, &["--set", "config.secretNames={one,two}"]).await;
        let kubeconfig = cluster.control_plane.admin_kubeconfig().display().to_string();
        let upgrade = async |set: &str| {
            let args = ["upgrade", "--install", RELEASE, CHART, "--namespace", RELEASE, "--dry-run=server"];
            // Nothing of the installation before is a release of Helm.
            let more = ["--take-ownership", "--kubeconfig", &kubeconfig, "--set", set];
            tools::run("helm", &[&args[..], &more].concat(), &[])
                .await
                .expect("a dry run")
                .split_once("NOTES:")
                .expect("notes")
                .1
                .to_owned()
        };
        let dropped = upgrade("config.secretNames={one}").await;
        assert!(dropped.contains("Secrets named two are") && dropped.contains(STAY), "{dropped}");
        assert!(dropped.contains("config.retiredSecretNames={two}"), "{dropped}");
        let retired = upgrade("config.secretNames={one},config.retiredSecretNames={two}").await;
        assert!(!retired.contains(STAY), "{retired}");
    });
}

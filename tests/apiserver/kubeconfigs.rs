//! Kubeconfigs, certificates and tokens that change while the controller runs.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::clock::Clock;
use testing::folder;
use testing::tenants::{INSTANCE, USER};
use testing::{Authority, Certificate};
use tokio::time::{Instant, sleep};

use crate::harness::{TestCluster, cluster_test};

const NAME: &str = "certificate";
const WARNING: &str = "cannot use the changed kubeconfig";

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The fields of a user whose certificate is in the kubeconfig.
fn inline(certificate: &Certificate) -> Value {
    json!({
        "client-certificate-data": base64(&certificate.certificate),
        "client-key-data": base64(&certificate.key),
    })
}

/// A certificate of the controller that expires after so many seconds.
fn issue(cluster: &TestCluster, seconds: u64) -> Certificate {
    cluster.control_plane.client_certificate(USER, Duration::from_secs(seconds))
}

/// Replaces certificate and key at once, by a link, as the kubelet does.
fn write(folder: &Path, certificate: &Certificate) {
    let pair = TempDir::new_in(folder).expect("a temporary folder").keep();
    folder::replace(&pair.join("tls.crt"), &certificate.certificate);
    folder::replace(&pair.join("tls.key"), &certificate.key);
    symlink(pair, folder.join("new")).expect("a link");
    std::fs::rename(folder.join("new"), folder.join("pair")).expect("the link is put in place");
}

fn warnings(cluster: &TestCluster) -> usize {
    cluster.log().lines().filter(|line| line.contains(WARNING)).count()
}

/// The fields of a user whose certificate and key are files.
fn in_files(folder: &Path) -> Value {
    let pair = folder.join("pair");
    json!({"client-certificate": pair.join("tls.crt"), "client-key": pair.join("tls.key")})
}

/// The fields of a user whose credentials are the output of a command with this file.
fn plugin(command: &str, file: &Path) -> Value {
    json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command,
        "args": [file],
        "interactiveMode": "Never",
    }})
}

/// The first two certificates expire within the test.
#[test]
fn a_client_certificate_is_rotated_in_its_file_and_in_the_kubeconfig() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        write(folder.path(), &issue(cluster, 30));
        cluster.kubeconfig = cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &in_files(folder.path()));
        cluster.run_controller().await;
        cluster.opt_in("first").await;
        cluster.wait_for_secret("first").await;

        write(folder.path(), &issue(cluster, 54));
        sleep(Duration::from_secs(31)).await;
        cluster.opt_in("second").await;
        cluster.wait_for_secret("second").await;

        let third = inline(&issue(cluster, 3_600));
        let third = cluster.control_plane.kubeconfig_of("third", INSTANCE, &third);
        std::fs::rename(third, &cluster.kubeconfig).expect("the kubeconfig is put in place");
        sleep(Duration::from_secs(24)).await;
        cluster.opt_in("third").await;
        cluster.wait_for_secret("third").await;
        assert_eq!(warnings(cluster), 0);
        assert!(!cluster.log().contains("Unauthorized"), "no request was refused");
    });
}

#[test]
fn an_invalid_certificate_or_kubeconfig_replaces_nothing() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let issue = || cluster.control_plane.client_certificate(USER, Duration::from_hours(1));
        let (first, second) = (issue(), issue());
        write(folder.path(), &first);
        let kubeconfig = cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &in_files(folder.path()));
        let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
        cluster.kubeconfig = kubeconfig.clone();
        cluster.run_controller().await;
        // The key is that of another certificate.
        folder::replace(&folder.path().join("pair/tls.crt"), &second.certificate);
        cluster.wait_until("a warning", async || warnings(cluster) == 1).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        write(folder.path(), &second);
        let changed = async || cluster.log().contains("connecting with the new credentials");
        cluster.wait_until("the new certificate", changed).await;

        folder::replace(&kubeconfig, "users: [{user: {token: hunter2, token: [hunter2");
        cluster.wait_until("a second warning", async || warnings(cluster) == 2).await;
        sleep(Duration::from_secs(11)).await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
        folder::replace(&kubeconfig, text);
        assert_eq!(warnings(cluster), 2, "one for each invalid file");
        let named = |line: &str| line.contains(WARNING) && line.contains("certificate.kubeconfig");
        assert!(cluster.log().lines().any(named), "the warning names the file");
        assert!(!cluster.log().contains("hunter2"), "the log quotes the file");
    });
}

#[test]
fn a_rotated_ca_is_trusted_and_one_that_the_api_server_does_not_use_replaces_nothing() {
    cluster_test(async |cluster| {
        let ca = cluster.control_plane.ca_file();
        let used = std::fs::read_to_string(&ca).expect("a CA");
        cluster.run_controller().await;
        std::fs::write(&ca, Authority::new("not in use").pem()).expect("a file");
        cluster.wait_until("a warning", async || warnings(cluster) > 0).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        std::fs::write(&ca, used).expect("a file");

        cluster.rotate_authority().await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
    });
}

/// The certificate from the start expires within the test, as the plugin announces.
#[test]
fn a_credential_plugin_is_run_again_before_its_certificate_expires() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let reply = folder.path().join("reply.json");
        let issue = |seconds| {
            let lifetime = Duration::from_secs(seconds);
            let certificate = cluster.control_plane.client_certificate(USER, lifetime);
            let until = Timestamp::now().checked_add(lifetime).expect("a time");
            let credential = json!({
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": {
                    "clientCertificateData": certificate.certificate,
                    "clientKeyData": certificate.key,
                    "expirationTimestamp": until.to_string(),
                },
            });
            credential.to_string()
        };
        folder::replace(&reply, issue(32));
        let kubeconfig = cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &plugin("cat", &reply));
        cluster.kubeconfig = kubeconfig;
        let longer = issue(3_600);
        cluster.run_controller().await;
        folder::replace(&reply, longer);
        sleep(Duration::from_secs(33)).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        assert!(!cluster.log().contains("Unauthorized"), "no request was refused");
    });
}

/// N72: kube keeps the token of a plugin that does not say when it ends.
#[test]
fn a_credential_plugin_is_run_again_when_its_token_is_refused() {
    cluster_test(async |cluster| {
        let folder = TempDir::new().expect("a temporary folder");
        let reply = folder.path().join("reply.json");
        let credential = |token: &str| {
            let (version, kind) = ("client.authentication.k8s.io/v1", "ExecCredential");
            json!({"apiVersion": version, "kind": kind, "status": {"token": token}}).to_string()
        };
        let token = cluster.control_plane.token_for(INSTANCE, INSTANCE).await;
        std::fs::write(&reply, credential(&token)).expect("a file");
        cluster.kubeconfig = cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &plugin("cat", &reply));
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;

        // The token belongs to the former service account. The API server accepts a token for 10 s after it checked it.
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.control_plane.admin(), INSTANCE);
        accounts.delete(INSTANCE, &DeleteParams::default()).await.expect("it is deleted");
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(INSTANCE.to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        accounts.create(&PostParams::default(), &account).await.expect("it is created");
        let token = cluster.control_plane.token_for(INSTANCE, INSTANCE).await;
        folder::replace(&reply, credential(&token));
        sleep(Duration::from_secs(25)).await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
    });
}

/// N48: kube runs the plugin as a part of a request, and the one for the Lease ends first.
#[test]
fn a_credential_plugin_that_takes_longer_than_a_request_for_the_lease_is_waited_for() {
    cluster_test(async |cluster| {
        let token = cluster.control_plane.token_for(INSTANCE, INSTANCE).await;
        let folder = TempDir::new().expect("a temporary folder");
        let script = folder.path().join("login.sh");
        // The first token is given at once, and counts as expired after 15 seconds.
        let text = format!(
            r#"[ -e {marker} ] && sleep 6; touch {marker}
            until=$(date -u -d '+75 seconds' +%Y-%m-%dT%H:%M:%SZ)
            printf '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "{token}", "expirationTimestamp": "%s"}}}}' "$until""#,
            marker = folder.path().join("marker").display(),
        );
        std::fs::write(&script, text).expect("a file");
        let user = json!({ "token": token });
        cluster.kubeconfig = cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &user);
        cluster.run_controller_with(&["--leader-election"]).await;
        cluster.wait_until_leader("controller").await;
        cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &plugin("sh", &script));
        let changed = async || cluster.log().matches("connecting with the new credentials").count() >= 2;
        cluster.wait_until("both connections use the plugin", changed).await;
        sleep(Duration::from_secs(40)).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
    });
}

/// N49: kube reads a token file again after a minute by the wall clock.
#[test]
fn a_token_file_is_read_again_although_the_clock_was_ahead_when_it_was_read_before() {
    cluster_test(async |cluster| {
        let (folder, clock) = (TempDir::new().expect("a temporary folder"), Clock::new());
        let file = folder.path().join("token");
        std::fs::write(&file, cluster.control_plane.token_for(INSTANCE, INSTANCE).await).expect("a file");
        cluster.kubeconfig =
            cluster.control_plane.kubeconfig_of(NAME, INSTANCE, &json!({ "tokenFile": file }));
        cluster.aws_env.extend(clock.env());
        clock.set_ahead(10 * 3_600);
        cluster.run_controller().await;
        clock.set_ahead(0);
        let admin = std::fs::read_to_string(cluster.control_plane.admin_kubeconfig()).expect("a kubeconfig");
        let admin: Value = serde_json::from_str(&admin).expect("JSON");
        folder::replace(&file, admin["users"][0]["user"]["token"].as_str().expect("a token"));
        let mut opted_in = 0;
        let start = Instant::now();
        while cluster.control_plane.requests("admin", "patch", "secrets").is_empty() {
            assert!(start.elapsed() < Duration::from_mins(1), "the other token is not used");
            cluster.opt_in(&format!("team-{opted_in}")).await;
            opted_in += 1;
            sleep(Duration::from_secs(2)).await;
        }
    });
}

/// `kubectl config use-context` changes the file for everyone, and a controller must not follow to another cluster.
#[test]
fn another_current_context_or_api_server_is_not_followed() {
    cluster_test(async |cluster| {
        let file = cluster.kubeconfig.clone();
        let text = std::fs::read_to_string(&file).expect("a kubeconfig");
        let write = |value: &Value| folder::replace(&file, value.to_string());
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        let elsewhere = json!({"server": "https://127.0.0.1:1"});
        let cluster_of_it = json!({"name": "elsewhere", "cluster": elsewhere});
        value["clusters"].as_array_mut().expect("clusters").push(cluster_of_it);
        let mut context = value["contexts"][0].clone();
        (context["name"], context["context"]["cluster"]) = (json!("elsewhere"), json!("elsewhere"));
        value["contexts"].as_array_mut().expect("contexts").push(context);
        write(&value);
        cluster.run_controller().await;

        value["current-context"] = json!("elsewhere");
        write(&value);
        sleep(Duration::from_secs(12)).await;
        cluster.opt_in("team-a").await;
        cluster.wait_for_secret("team-a").await;
        assert_eq!(warnings(cluster), 0);

        value["clusters"][0]["cluster"] = elsewhere;
        write(&value);
        cluster.wait_until("a warning", async || warnings(cluster) > 0).await;
        cluster.opt_in("team-b").await;
        cluster.wait_for_secret("team-b").await;
        assert!(cluster.log().contains("names another API server"));
    });
}

#[test]
fn a_kubeconfig_that_switches_off_the_verification_of_certificates_is_warned_about() {
    cluster_test(async |cluster| {
        let text = std::fs::read_to_string(&cluster.kubeconfig).expect("a kubeconfig");
        let mut kubeconfig: Value = serde_saphyr::from_str(&text).expect("YAML");
        let server = kubeconfig["clusters"][0]["cluster"].as_object_mut().expect("a cluster");
        server.retain(|field, _| !field.starts_with("certificate-authority"));
        server.insert("insecure-skip-tls-verify".to_owned(), json!(true));
        let folder = TempDir::new().expect("a temporary folder");
        cluster.kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&cluster.kubeconfig, kubeconfig.to_string()).expect("a file");
        cluster.run_controller().await;
        for warning in ["(insecure-skip-tls-verify)", "Server cert bypassed"] {
            let is_warned = |line: &str| line.contains("WARN") && line.contains(warning);
            assert!(cluster.log().lines().any(is_warned), "{warning}");
        }
    });
}

//! The SDK as configured here against the stub of AWS. Each test starts its own process, whose environment determines the
//! source of the credentials.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testing::aws::{Fault, Stub};
use testing::credentials::ContainerEndpoint;
use testing::leaks;
use testing::process::Process;

use super::*;
use crate::core::grants::{IdentityName, Restriction, Session, TokenKey};
use crate::core::testing::role;
use crate::telemetry::logs::testing::Log;

/// The variable with the job of [`helper`], which does nothing without it.
const JOB: &str = "ECR_PULL_SECRETS_AWS_TEST_JOB";
const SESSIONS: usize = 200;
const LONG: Duration = Duration::from_hours(6);

fn request(session: Option<Arc<Session>>) -> TokenRequest {
    let region: Region = Stub::REGION.parse().expect("a region");
    let key = TokenKey {
        identity: IdentityName::new("a"),
        endpoint: Endpoint::Private(region),
        restriction: Restriction::Unrestricted,
    };
    TokenRequest { key, dual_stack: false, session }
}

fn session() -> Arc<Session> {
    Arc::new(Session { role: Arc::new(role()), policy: "{}".to_owned(), name: "test".to_owned() })
}

/// Runs a job of [`helper`] with these variables, and returns what it printed.
async fn run(job: &str, env: &[(String, String)], aws: &Stub) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", "ecr::aws::tests::helper", "--nocapture"]).env(JOB, job);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let mut process = Process::spawn("aws", &command, folder.path());
    let code = process.wait(Duration::from_mins(1)).await;
    let log = process.log();
    assert_eq!(code, Some(0), "{log}");
    leaks::assert_none(&log, &aws.secrets());
    log
}

#[tokio::test]
async fn helper() {
    let Ok(job) = std::env::var(JOB) else { return };
    let log = Log::default();
    let _guard = log.capture();
    let aws = AwsEcr::load(Endpoints::new()).await.expect("a valid region");
    if job == "sessions" {
        for _ in 0..SESSIONS {
            aws.fetch_token(&request(Some(session()))).await.expect("a token");
        }
        return;
    }
    if job == "caller" {
        let told = async {
            while !log.text().contains("calling AWS as this principal") {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("the log names the principal");
        println!("{}", log.text());
        return;
    }
    if job == "revoked" {
        let mut outcomes = vec![];
        // A success, a refusal, a success.
        while outcomes.len() < 3 {
            let result = aws.fetch_token(&request(None)).await.map(|_| ()).map_err(|error| error.kind);
            if outcomes.last() != Some(&result) {
                outcomes.push(result);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(outcomes, [Ok(()), Err(TokenErrorKind::Credentials), Ok(())]);
        return;
    }
    match aws.fetch_token(&request(None)).await {
        Ok(_) => println!("a token"),
        Err(error) => println!("{:?}: {}", error.kind, error.message),
    }
}

#[tokio::test]
async fn sessions_of_roles_do_not_push_the_controllers_credentials_out_of_the_cache() {
    let aws = Stub::start().await;
    let source = ContainerEndpoint::start(&aws, LONG).await;
    // Which entry a full cache drops depends on the hashes of the process.
    for process in 1..=3 {
        run("sessions", &source.env(), &aws).await;
        assert_eq!((aws.count("AssumeRole"), aws.minted().len()), (process * SESSIONS, process * SESSIONS));
        assert_eq!(source.count(), process, "loads of the controller's credentials");
    }
}

/// A proxy would get the token of the pod, and could return other credentials.
#[tokio::test]
async fn services_of_the_node_are_never_requested_through_a_proxy() {
    let aws = Stub::start().await;
    let source = ContainerEndpoint::start(&aws, LONG).await;
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    proxy.set_nonblocking(true).expect("a socket");
    let mut env = source.env();
    env.retain(|(name, _)| name.to_lowercase() != "no_proxy");
    let url = format!("http://{}", proxy.local_addr().expect("an address"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        env.push((name.to_owned(), url.clone()));
    }
    let said = run("token", &env, &aws).await;
    assert!(said.contains("a token"), "{said}");
    assert!(proxy.accept().is_err(), "the proxy was asked");
}

/// As when a profile names the endpoint of one service, which is only known when it is called.
#[tokio::test]
async fn no_request_leaves_the_node_unencrypted() {
    let aws = Stub::start().await;
    let mut env = without_keys(&aws);
    env.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), "http://metadata.example".to_owned()));
    env.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    let said = run("token", &env, &aws).await;
    assert_no_credentials(&said, "Ec2InstanceMetadata", "mount a profile");
}

/// The variables of a stub without its key pair.
fn without_keys(aws: &Stub) -> Vec<(String, String)> {
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    aws.env().into_iter().filter(|(name, _)| !keys.contains(&name.as_str())).collect()
}

fn assert_no_credentials(said: &str, cause: &str, remedy: &str) {
    let line = said.lines().find(|line| line.contains("no AWS credentials could be loaded"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("Credentials: "), "{line}");
    assert!(line.contains(cause) && line.contains(remedy), "{line}");
    assert!(line.len() < 450, "{}: {line}", line.len());
}

#[tokio::test]
async fn missing_credentials_are_reported_with_the_last_cause() {
    let aws = Stub::start().await;
    let said = run("token", &without_keys(&aws), &aws).await;
    assert_no_credentials(&said, "AWS_EC2_METADATA_DISABLED", "give the service account a role");
    assert!(!said.contains("hop limit"), "{said}");
}

/// As in a container, with a hop limit of 1: the connection is accepted, and no reply ever arrives.
#[tokio::test]
async fn a_silent_metadata_service_is_reported_with_the_hop_limit() {
    let aws = Stub::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut env = without_keys(&aws);
    env.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    env.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), url));
    let said = run("token", &env, &aws).await;
    assert_no_credentials(&said, "Ec2InstanceMetadata", "hop limit");
}

#[tokio::test]
async fn a_refused_web_identity_is_reported_with_the_code_of_sts() {
    let aws = Stub::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-that-sts-refuses").expect("a token");
    aws.accept_web_identity("another-token");
    let mut env = without_keys(&aws);
    env.push(("AWS_ROLE_ARN".to_owned(), "arn:aws:iam::123456789012:role/own".to_owned()));
    env.push(("AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(), file.display().to_string()));
    let said = run("token", &env, &aws).await;
    assert_no_credentials(&said, "InvalidIdentityToken", "give the service account a role");
}

/// The text of a process may contain anything.
#[tokio::test]
async fn the_output_of_a_failing_credential_process_is_not_shown() {
    let aws = Stub::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config");
    std::fs::write(&file, "[default]\ncredential_process = sh -c \"echo hunter2 >&2; exit 3\"\n")
        .expect("a profile");
    let mut env = without_keys(&aws);
    env.retain(|(name, _)| name != "AWS_CONFIG_FILE");
    env.push(("AWS_CONFIG_FILE".to_owned(), file.display().to_string()));
    let said = run("token", &env, &aws).await;
    assert_no_credentials(&said, "external process", "mount a profile");
    let line = said.lines().find(|line| line.contains("no AWS credentials")).expect("a line");
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_caller_that_cannot_be_determined_prevents_no_token() {
    let aws = Stub::start().await;
    aws.set_for(testing::aws::Operation::GetCallerIdentity, testing::aws::Behaviour::failing(Fault::Hang));
    let said = run("token", &aws.env(), &aws).await;
    assert!(said.contains("a token"), "{said}");
}

/// As when the network of a node comes up after the controller.
#[tokio::test]
async fn a_caller_that_is_unknown_at_the_start_is_requested_again_and_logged_once() {
    let aws = Stub::start().await;
    let operation = testing::aws::Operation::GetCallerIdentity;
    aws.set_for(operation, testing::aws::Behaviour::failing(Fault::AccessDenied));
    let recovery = async {
        while aws.count("GetCallerIdentity") == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        aws.set_for(operation, testing::aws::Behaviour::default());
    };
    let env = aws.env();
    let (said, ()) = tokio::join!(run("caller", &env, &aws), recovery);
    assert_eq!(said.matches("calling AWS as this principal").count(), 1, "{said}");
}

#[tokio::test]
async fn credentials_that_aws_refuses_before_they_expire_are_loaded_again() {
    let aws = Stub::start().await;
    let source = ContainerEndpoint::start(&aws, LONG).await;
    let revoke = async {
        while aws.minted().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        aws.revoke_issued();
    };
    let env = source.env();
    tokio::join!(run("revoked", &env, &aws), revoke);
    assert!((2..=4).contains(&source.count()), "{} loads", source.count());
}

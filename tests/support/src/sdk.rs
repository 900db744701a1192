//! The real AWS SDK, for the tests of what stands in for AWS.

use std::process::Command;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_ecr::config::{Credentials, Region, SharedHttpClient};
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::aws::{IssuedCredentials, Stub};
use crate::process::Process;

pub(crate) async fn sdk_with(url: &str, region: &str, credentials: Credentials) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().build_http())
        .region(Region::new(region.to_owned()))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_mins(1)).build())
        .load()
        .await
}

pub(crate) fn keys(access_key: &str, secret_key: &str, session_token: Option<&str>) -> Credentials {
    Credentials::new(access_key, secret_key, session_token.map(str::to_owned), None, "test")
}

pub(crate) async fn sdk(stub: &Stub, region: &str) -> SdkConfig {
    sdk_with(&stub.url(), region, keys(Stub::ACCESS_KEY, Stub::SECRET_KEY, None)).await
}

pub(crate) async fn sdk_as(stub: &Stub, issued: &IssuedCredentials) -> SdkConfig {
    let keys = keys(&issued.access_key, &issued.secret_key, Some(&issued.session_token));
    sdk_with(&stub.url(), Stub::REGION, keys).await
}

pub(crate) type TokenResult = Result<(String, Option<i64>, String), (Option<String>, String)>;

/// Password, expiry and endpoint; or the error's code and its whole text.
pub(crate) async fn token(config: &SdkConfig) -> TokenResult {
    let output = aws_sdk_ecr::Client::new(config).get_authorization_token().send().await;
    let output =
        output.map_err(|error| (error.code().map(str::to_owned), DisplayErrorContext(error).to_string()))?;
    let data = output.authorization_data().first().ok_or_else(|| (None, "no data".to_owned()))?;
    let decoded = STANDARD.decode(data.authorization_token().expect("a token"));
    let decoded = decoded.map_err(|error| (None, error.to_string()))?;
    let decoded = String::from_utf8(decoded).expect("text");
    let password = decoded.strip_prefix("AWS:").expect("user AWS").to_owned();
    let endpoint = data.proxy_endpoint().expect("an endpoint").to_owned();
    Ok((password, data.expires_at().map(aws_sdk_ecr::primitives::DateTime::secs), endpoint))
}

const HELPER: &str = "ECR_PULL_SECRETS_SDK_TEST_HELPER";

/// Has a process with this environment ask ECR, ECR Public and STS, one after the other and each once, with
/// whatever the SDK's defaults find there. The error is what the process has written.
pub(crate) async fn ask_with_env(env: &[(String, String)]) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(std::env::current_exe().expect("a test knows its executable"));
    command.args(["--exact", "sdk::helper_that_asks", "--nocapture"]).env(HELPER, "1");
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let mut process = Process::spawn("sdk", &command, folder.path());
    match process.wait(Duration::from_mins(2)).await {
        Some(0) => Ok(()),
        _ => Err(process.log()),
    }
}

/// The helper of [`ask_with_env`], which runs it in a process of its own.
#[tokio::test]
async fn helper_that_asks() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    let defaults = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client());
    let config = defaults.retry_config(RetryConfig::disabled()).load().await;
    token(&config).await.expect("ECR answers");
    let there = config.to_builder().region(Region::new("us-east-1")).build();
    let public = aws_sdk_ecrpublic::Client::new(&there).get_authorization_token().send().await;
    public.expect("ECR Public answers");
    aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.expect("STS answers");
}

/// As programs have it that honour the variables for proxies.
fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(aws_sdk_sts::config::RuntimeComponents::sleep_impl));
        connector.build()
    })
}

//! Credentials that change. The SDK parses the profile files once, and its cache keeps credentials that AWS no longer
//! accepts, so a new provider chain replaces the old one when the files have changed, when AWS refuses the credentials,
//! and each hour.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_ecr::config::ProvideCredentials as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::caller::Caller;
use super::explain::explain_credentials;
use super::{Apis, REQUEST_TIMEOUT, load};
use crate::core::secret::{TokenError, TokenErrorKind};

/// How often the profile files are read.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// The pause after a new chain, however often AWS refuses the credentials.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// The pause doubles while AWS refuses the credentials of one new chain after another, up to this many times.
const MAX_DOUBLINGS: u32 = 7;
/// After this time without a refusal, the next one is followed by a new chain at once.
const CALM: Duration = Duration::from_mins(20);
/// The age at which a chain is replaced in any case: a profile may name other files.
const MAX_AGE: Duration = Duration::from_hours(1);

/// The contents of the profile files, as hashes; `None` for a file that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ProfileFiles([Option<[u8; 32]>; 2]);

impl ProfileFiles {
    pub(super) async fn read() -> Self {
        let [config, credentials] = profile_paths();
        Self([hash(config).await, hash(credentials).await])
    }
}

/// The paths of the profile files (<https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html>).
fn profile_paths() -> [PathBuf; 2] {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default());
    [("AWS_CONFIG_FILE", ".aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")].map(
        |(variable, default)| match env::var_os(variable).map(PathBuf::from) {
            Some(path) => path.strip_prefix("~").map(|rest| home().join(rest)).unwrap_or(path),
            None => home().join(default),
        },
    )
}

async fn hash(path: PathBuf) -> Option<[u8; 32]> {
    let contents = zeroize::Zeroizing::new(tokio::fs::read(path).await.ok()?);
    Some(Sha256::digest(&*contents).into())
}

/// Why a new chain is built.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    FilesChanged,
    Refused,
    Age,
}

/// Replaces the chain as long as the process runs, and logs as whom it calls AWS. `files` are those that the current
/// chain has read.
pub(super) async fn keep_current(apis: Arc<Apis>, mut files: ProfileFiles) {
    let mut caller = None;
    log_caller(&apis, &mut caller).await;
    let (mut loaded_at, mut access_key, mut warned) = (Instant::now(), None, None);
    let (mut refusals, mut not_before) = (0, Instant::now());
    loop {
        let is_refused = timeout(CHECK_PERIOD, apis.refused.notified()).await.is_ok();
        let is_refused = is_refused && Instant::now() >= not_before;
        let found = ProfileFiles::read().await;
        let cause = match (found != files, is_refused) {
            (true, _) => Cause::FilesChanged,
            (false, true) => Cause::Refused,
            (false, false) if loaded_at.elapsed() >= MAX_AGE => Cause::Age,
            (false, false) => continue,
        };
        if cause == Cause::Refused {
            // A region that refuses the credentials although they are valid must not cause loads without end.
            refusals = if loaded_at.elapsed() < CALM { refusals + 1 } else { 0 };
            not_before = Instant::now() + MIN_PAUSE * 2_u32.pow(refusals.min(MAX_DOUBLINGS));
        }
        loaded_at = Instant::now();
        match new_chain(&apis).await {
            Ok((config, new_key)) => {
                apis.replace(config);
                (files, warned) = (found, None);
                log_replacement(cause);
                if access_key.replace(new_key.clone()) != Some(new_key) {
                    log_caller(&apis, &mut caller).await;
                }
            }
            Err(error) if cause == Cause::FilesChanged && warned != Some(found) => {
                warned = Some(found);
                warn_of_files(&error);
            }
            // If AWS refused the credentials, the failed request for a token is reported already.
            Err(error) => debug!(%error, "a new chain of AWS credential providers has no credentials"),
        }
        sleep(MIN_PAUSE).await;
    }
}

/// A new chain and its access key. It must be able to load credentials, so that an invalid file does not replace
/// credentials that work.
async fn new_chain(apis: &Apis) -> Result<(SdkConfig, String), TokenError> {
    let config = load(apis.region.as_ref()).await;
    let Some(provider) = config.credentials_provider() else {
        return Err(TokenError::new(TokenErrorKind::Credentials, "no AWS credential providers"));
    };
    match timeout(REQUEST_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(credentials)) => {
            let access_key = credentials.access_key_id().to_owned();
            Ok((config, access_key))
        }
        Ok(Err(error)) => Err(explain_credentials(&error)),
        Err(_) => {
            let message = "the AWS credential providers did not respond in time";
            Err(TokenError::new(TokenErrorKind::Timeout, message))
        }
    }
}

fn warn_of_files(error: &TokenError) {
    let paths = profile_paths();
    warn!(
        ?paths,
        %error,
        "the changed AWS profile files give no credentials, keeping those from before: correct the files"
    );
}

fn log_replacement(cause: Cause) {
    match cause {
        Cause::FilesChanged => info!("the AWS profile files changed, loaded the credentials again"),
        Cause::Refused => debug!("AWS refused the credentials, loaded them again"),
        Cause::Age => debug!("loaded the AWS credentials again after an hour"),
    }
}

/// Logs the ARN of the principal that calls AWS, if it is another one than before.
async fn log_caller(apis: &Apis, known: &mut Option<String>) {
    match apis.caller().await {
        Ok(Some(Caller { arn, .. })) if Some(&arn) == known.as_ref() => {}
        Ok(Some(Caller { arn, .. })) => {
            info!(arn, "calling AWS as this principal");
            *known = Some(arn);
        }
        Ok(None) => {}
        Err(error) => debug!(%error, "cannot determine the AWS principal"),
    }
}

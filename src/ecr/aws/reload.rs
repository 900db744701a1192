//! Credentials and CA certificates that change. The SDK reads the profile files and the certificates once, and its cache keeps
//! credentials that AWS no longer accepts, so a new provider chain replaces the old one when the files have changed, when AWS
//! refuses the credentials, and each hour.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_sdk_ecr::config::ProvideCredentials as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::caller::Caller;
use super::explain::explain_credentials;
use super::{Apis, REQUEST_TIMEOUT, load, roots};
use crate::core::Jitter;
use crate::core::plan::Backoff;
use crate::core::secret::{TokenError, TokenErrorKind};

/// How often the files are read.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// The pause after a new chain, however often AWS refuses the credentials.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// The pause doubles while AWS refuses the credentials of one new chain after another, up to this many times: a namespace can
/// name a region that refuses valid credentials, and must not delay the replacement of others for long.
const MAX_DOUBLINGS: u32 = 3;
/// After this time without a refusal, the next one is followed by a new chain at once.
const CALM: Duration = Duration::from_mins(20);
/// The age at which a chain is replaced in any case: a profile may name other files.
const MAX_AGE: Duration = Duration::from_hours(1);

/// How often the principal is requested with the usual backoff while it is unknown, and how often then: STS may be unreachable in
/// a closed network.
const FAST_RETRIES: u32 = 10;
const SLOW_RETRIES: Backoff = Backoff { base: Duration::from_mins(10), cap: Duration::from_mins(10) };

/// The contents of the files that a chain has read, as hashes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    /// `None` for a file that cannot be read.
    profiles: [Option<[u8; 32]>; 2],
    certificates: [u8; 32],
}

impl Files {
    pub(super) async fn read() -> Self {
        let [config, credentials] = profile_paths();
        let profiles = [hash(config).await, hash(credentials).await];
        Self { profiles, certificates: roots::fingerprint().await }
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
pub(super) async fn keep_current(apis: Arc<Apis>, mut files: Files) {
    let mut caller = CallerLog::new();
    caller.update(apis.caller()).await;
    let (mut loaded_at, mut access_key, mut warned) = (Instant::now(), None, None);
    let mut from_profile = None;
    let (mut refusals, mut not_before) = (0, Instant::now());
    loop {
        let pause = caller.time_to_retry().map_or(CHECK_PERIOD, |retry| retry.min(CHECK_PERIOD));
        let is_refused = timeout(pause, apis.refused.notified()).await.is_ok();
        if caller.time_to_retry().is_some_and(|retry| retry.is_zero()) {
            caller.update(apis.caller()).await;
        }
        let is_refused = is_refused && Instant::now() >= not_before;
        let found = Files::read().await;
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
        match new_chain(&apis, &mut from_profile).await {
            Ok((config, new_key)) => {
                apis.replace(config);
                (files, warned) = (found, None);
                log_replacement(cause);
                if access_key.replace(new_key.clone()) != Some(new_key) {
                    caller.update(apis.caller()).await;
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
/// credentials that work. The SDK skips a profile without credentials, and would use those of the node instead, which may
/// have other permissions. `from_profile` is whether a profile has the present credentials, as far as is known.
async fn new_chain(apis: &Apis, from_profile: &mut Option<bool>) -> Result<(SdkConfig, String), TokenError> {
    let config = load(apis.region.as_ref()).await;
    let credentials = provide(&config).await?;
    let is_profile = is_from_profile(&credentials);
    if !is_profile {
        if from_profile.is_none() {
            *from_profile = provide(&apis.config()).await.ok().map(|present| is_from_profile(&present));
        }
        if *from_profile == Some(true) {
            let message = "the profile has no credentials, and those of another source are not used instead";
            return Err(TokenError::new(TokenErrorKind::Credentials, message));
        }
    }
    *from_profile = Some(is_profile);
    Ok((config, credentials.access_key_id().to_owned()))
}

fn is_from_profile(credentials: &Credentials) -> bool {
    let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
    features.is_some_and(|features| features.contains(&AwsCredentialFeature::CredentialsProfile))
}

/// The credentials of a chain, without its cache.
async fn provide(config: &SdkConfig) -> Result<Credentials, TokenError> {
    let Some(provider) = config.credentials_provider() else {
        return Err(TokenError::new(TokenErrorKind::Credentials, "no AWS credential providers"));
    };
    match timeout(REQUEST_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(credentials)) => Ok(credentials),
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
        Cause::FilesChanged => {
            info!("the AWS profile files or CA certificates changed, loaded the credentials again");
        }
        Cause::Refused => debug!("AWS refused the credentials, loaded them again"),
        Cause::Age => debug!("loaded the AWS credentials again after an hour"),
    }
}

/// The principal that calls AWS, as it was last logged.
struct CallerLog {
    known: Option<String>,
    /// Failures in a row.
    failures: u32,
    retry_at: Option<Instant>,
    jitter: Jitter,
}

impl CallerLog {
    fn new() -> Self {
        let jitter = Jitter::new(RandomState::new().hash_one("caller"));
        Self { known: None, failures: 0, retry_at: None, jitter }
    }

    /// Logs the ARN of the principal if it is another one than before.
    async fn update(&mut self, caller: impl Future<Output = Result<Option<Caller>, TokenError>>) {
        match caller.await {
            Ok(caller) => {
                (self.failures, self.retry_at) = (0, None);
                let arn = caller.map(|caller| caller.arn).filter(|arn| self.known.as_ref() != Some(arn));
                if let Some(arn) = arn {
                    info!(arn, "calling AWS as this principal");
                    self.known = Some(arn);
                }
            }
            Err(error) => {
                self.failures += 1;
                let backoff = if self.failures <= FAST_RETRIES { Backoff::CALLS } else { SLOW_RETRIES };
                let retry_in = backoff.delay(self.failures, self.jitter, &"caller");
                debug!(%error, ?retry_in, "cannot determine the AWS principal");
                self.retry_at = Some(Instant::now() + retry_in);
            }
        }
    }

    /// How long until the principal is requested again; `None` if it is known.
    fn time_to_retry(&self) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logs::testing::Log;

    /// Lets time pass, in which each request fails until `available`. Returns when each request was sent.
    async fn requests(length: Duration, available: Duration) -> Vec<Duration> {
        let (start, mut caller, mut sent) = (Instant::now(), CallerLog::new(), vec![]);
        let mut next = Some(Duration::ZERO);
        while let Some(pause) = next.filter(|pause| start.elapsed() + *pause < length) {
            sleep(pause).await;
            sent.push(start.elapsed());
            let failed = || TokenError::new(TokenErrorKind::Timeout, "STS did not respond in time");
            let known = Caller { arn: "arn:aws:iam::123456789012:user/own".to_owned(), server_time: None };
            let reply = if start.elapsed() < available { Err(failed()) } else { Ok(Some(known)) };
            caller.update(async { reply }).await;
            next = caller.time_to_retry();
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_principal_is_requested_again_until_it_is_known() {
        let log = Log::default();
        let _guard = log.capture();
        let sent = requests(Duration::from_hours(2), Duration::from_secs(20)).await;
        let last = sent.last().copied().unwrap_or_default();
        assert!(sent.len() <= 7 && last < Duration::from_secs(45), "{sent:?}");
        assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    }

    /// As in a network that does not reach STS.
    #[tokio::test(start_paused = true)]
    async fn a_principal_that_stays_unknown_is_requested_every_ten_minutes() {
        let sent = requests(Duration::from_hours(24), Duration::MAX).await;
        assert!((120..=230).contains(&sent.len()), "{} requests in a day", sent.len());
    }
}

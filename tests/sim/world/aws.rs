//! AWS: authorization tokens by endpoint, and the faults of endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_pull_secrets::simulation::controller::Input;
use ecr_pull_secrets::simulation::core::grants::{TokenKey, TokenRequest};
use ecr_pull_secrets::simulation::core::secret::{FetchedToken, TokenError, TokenErrorKind};
use jiff::SignedDuration;

use super::{Happening, World, origin};

/// The client gives up after this long, as `ecr::aws` does.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The difference between the clocks that AWS accepts in a signature.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The start of each password, which must not appear in any message.
pub const PASSWORD: &str = "hunter";

/// Whether a text contains a password or an authorization token of this AWS.
pub fn shows_a_token(text: &str) -> bool {
    text.contains(PASSWORD) || text.contains("QVdTOmh1bnRlc")
}

/// A token that AWS issued.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    pub key: TokenKey,
    pub issued: Duration,
    pub expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Error(TokenErrorKind),
    Hang,
}

struct Call {
    key: TokenKey,
    started: Duration,
    result: Result<FetchedToken, TokenError>,
}

pub struct Aws {
    pub life: i64,
    pub tokens: Vec<TokenInfo>,
    calls: BTreeMap<u64, Call>,
    /// The faults of endpoints, each until a time; the empty name is every endpoint.
    faults: BTreeMap<String, (Behaviour, Duration)>,
    /// When the last fault of an endpoint ended.
    trouble: BTreeMap<String, Duration>,
    /// When each key was last asked for.
    pub asked: BTreeMap<TokenKey, Duration>,
    pub count: u64,
}

/// Whether a tenant invented the region: such regions have names of this form.
pub fn is_invented(endpoint: &str) -> bool {
    endpoint.starts_with("zz-")
}

impl Aws {
    pub fn new(life: i64) -> Self {
        Self {
            life,
            tokens: vec![],
            calls: BTreeMap::new(),
            faults: BTreeMap::new(),
            trouble: BTreeMap::new(),
            asked: BTreeMap::new(),
            count: 0,
        }
    }

    pub fn fail(&mut self, endpoint: &str, behaviour: Behaviour, until: Duration) {
        self.faults.insert(endpoint.to_owned(), (behaviour, until));
        let trouble = self.trouble.entry(endpoint.to_owned()).or_default();
        *trouble = (*trouble).max(until);
    }

    pub fn recover(&mut self, time: Duration) {
        self.faults.clear();
        self.trouble.values_mut().for_each(|until| *until = (*until).min(time));
    }

    /// When the last fault of an endpoint ended.
    pub fn last_trouble(&self, endpoint: &str) -> Duration {
        let of = |name: &str| self.trouble.get(name).copied().unwrap_or_default();
        of(endpoint).max(of(""))
    }

    fn behaviour(&self, endpoint: &str, time: Duration) -> Option<Behaviour> {
        if is_invented(endpoint) {
            return Some(Behaviour::Error(TokenErrorKind::Unreachable));
        }
        let fault = |name: &str| self.faults.get(name).filter(|(_, until)| *until > time);
        fault(endpoint).or_else(|| fault("")).map(|(behaviour, _)| *behaviour)
    }

    /// The token with this password.
    pub fn token(&self, password: &str) -> Option<(u32, &TokenInfo)> {
        let number: u32 = password.strip_prefix(PASSWORD)?.parse().ok()?;
        Some((number, self.tokens.get(number as usize)?))
    }
}

impl World {
    pub fn fetch_token(&mut self, process: usize, request: TokenRequest) {
        let key = request.key;
        let endpoint = key.endpoint.to_string();
        let (time, wall) = (self.time, self.wall());
        self.aws.count += 1;
        self.token_asked(process, &key);
        self.aws.asked.insert(key.clone(), time);
        let this = &self.processes[process];
        let (name, epoch, skew) = (this.name.clone(), this.epoch, this.skew);
        let behaviour = self.aws.behaviour(&endpoint, time);
        let error = |kind| {
            let is_reply = !matches!(kind, TokenErrorKind::Unreachable | TokenErrorKind::Timeout);
            Err(TokenError::new(kind, "injected by the simulation").at(is_reply.then_some(wall)))
        };
        let mut delay = self.delay();
        let result = match behaviour {
            _ if skew.abs() > MAX_SKEW => error(TokenErrorKind::Other),
            Some(Behaviour::Error(kind)) => error(kind),
            Some(Behaviour::Hang) => {
                delay = TIMEOUT;
                error(TokenErrorKind::Timeout)
            }
            None => {
                let number = self.aws.tokens.len();
                let life = SignedDuration::from_secs(self.aws.life);
                let expires = time + life.unsigned_abs();
                self.aws.tokens.push(TokenInfo { key: key.clone(), issued: time, expires });
                Ok(FetchedToken {
                    authorization: STANDARD.encode(format!("AWS:{PASSWORD}{number}")).into(),
                    expires_at: Some(origin() + SignedDuration::try_from(expires).expect("a short run")),
                    server_time: Some(wall),
                    proxy_endpoint: Some(format!("https://123456789012.dkr.ecr.{endpoint}.amazonaws.com")),
                })
            }
        };
        let shown =
            result.as_ref().map_or_else(|error| format!("{:?}", error.kind), |_| "a token".to_owned());
        self.tell(|| format!("{name} asks AWS for {endpoint}: {shown}"));
        let call = self.aws.count;
        self.aws.calls.insert(call, Call { key, started: time, result });
        self.schedule_in(delay, Happening::Token { process, epoch, call });
    }

    pub fn token_reply(&mut self, process: usize, epoch: u32, call: u64) {
        let this = &self.processes[process];
        if this.epoch == epoch && this.is_alive && this.frozen_until > self.time {
            let at = this.frozen_until;
            return self.schedule(at, Happening::Token { process, epoch, call });
        }
        let current = this.epoch == epoch;
        let Call { key, started, result } = self.aws.calls.remove(&call).expect("it was started");
        if current {
            let duration = self.time.saturating_sub(started);
            self.input(process, Input::TokenFetched { key, result, duration });
        }
    }
}

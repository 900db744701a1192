//! A token and its times. A token cannot be printed, and its memory is wiped when it goes.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::backoff::fraction;

/// The shortest time between the issue of a token and the wish for the next one, however short it lives.
const SHORTEST_USE: SignedDuration = SignedDuration::from_secs(5);

/// When a token is replaced, in parts of its real lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefreshPolicy {
    /// The part of the lifetime after which a new token is wanted, in `0.1..=0.9`.
    pub at: f64,
    /// The part of the lifetime over which the Secrets that hold it are rewritten after that.
    pub jitter: f64,
}

/// An ECR authorization token: base64 of `USER:PASSWORD`, with the time it was issued and the time it
/// expires, both by the local clock.
#[derive(Clone)]
pub struct Token {
    authorization: Zeroizing<String>,
    username: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    proxy_endpoint: Option<String>,
}

/// Why a string is no token. Says nothing of the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorization token is not base64 of USER:PASSWORD")]
pub struct MalformedToken;

impl Token {
    /// Takes `authorization` as ECR's `authorizationToken` has it.
    pub fn new(
        authorization: String,
        issued_at: Timestamp,
        expires_at: Timestamp,
        proxy_endpoint: Option<String>,
    ) -> Result<Self, MalformedToken> {
        let authorization = Zeroizing::new(authorization);
        let username = {
            let (username, _) = split(&authorization)?;
            username
        };
        Ok(Self { authorization, username, issued_at, expires_at, proxy_endpoint })
    }

    /// The user name, `AWS` for every token of ECR.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password.
    pub fn password(&self) -> Zeroizing<String> {
        split(&self.authorization).map(|(_, password)| password).unwrap_or_default()
    }

    /// The whole token, base64, as it stands behind `Basic` and under `auth`.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }

    /// When it was issued.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When it expires.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The registry that the reply named as the caller's own, if it named one.
    pub fn proxy_endpoint(&self) -> Option<&str> {
        self.proxy_endpoint.as_deref()
    }

    /// Whether it still counts at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    /// From when on a new token is wanted in its place.
    pub fn renew_after(&self, policy: RefreshPolicy) -> Timestamp {
        self.part(policy.at)
    }

    /// When a Secret that holds it is due for a rewrite: never before [`Token::renew_after`], so that all
    /// the Secrets of one token share its one successor, and spread by `seed` over the jitter.
    pub fn rewrite_after(&self, policy: RefreshPolicy, seed: &impl Hash) -> Timestamp {
        self.part(policy.at + policy.jitter * fraction(seed))
    }

    fn part(&self, part: f64) -> Timestamp {
        let lifetime = self.expires_at.duration_since(self.issued_at);
        let wanted = if lifetime.is_positive() { lifetime.mul_f64(part) } else { lifetime };
        let wanted = if lifetime.is_positive() { wanted.max(SHORTEST_USE) } else { wanted };
        self.issued_at.checked_add(wanted).unwrap_or(self.expires_at)
    }
}

fn split(authorization: &str) -> Result<(String, Zeroizing<String>), MalformedToken> {
    let decoded = Zeroizing::new(STANDARD.decode(authorization).map_err(|_| MalformedToken)?);
    let text = std::str::from_utf8(&decoded).map_err(|_| MalformedToken)?;
    match text.split_once(':') {
        Some((user, password))
            if !user.is_empty() && !password.is_empty() && !text.contains(char::is_control) =>
        {
            Ok((user.to_owned(), Zeroizing::new(password.to_owned())))
        }
        _ => Err(MalformedToken),
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("authorization", &"<redacted>")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The time at which something that AWS dates `expires_at` expires by the local clock, when AWS's own clock
/// said `server_now` at the local time `now`. Without `server_now` the clocks are taken as equal.
pub fn by_local_clock(expires_at: Timestamp, server_now: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let left = expires_at.duration_since(server_now.unwrap_or(now));
    now.checked_add(left).unwrap_or(expires_at)
}

/// How far the two clocks are apart, if it is more than AWS's signatures bear (5 minutes).
pub fn skew(server_now: Timestamp, now: Timestamp) -> Option<Duration> {
    let apart = server_now.duration_since(now).unsigned_abs();
    (apart > Duration::from_mins(5)).then_some(apart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn token(issued: i64, expires: i64) -> Token {
        Token::new(STANDARD.encode("AWS:hunter2"), at(issued), at(expires), None).expect("a token")
    }

    const POLICY: RefreshPolicy = RefreshPolicy { at: 0.5, jitter: 0.1 };

    #[test]
    fn debug_tells_times_and_nothing_else() {
        let shown = format!("{:?}", token(0, 10));
        assert!(shown.contains("<redacted>") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(&STANDARD.encode("AWS:hunter2")), "{shown}");
    }

    #[test]
    fn secrets_are_due_after_their_token_and_before_its_end() {
        let token = token(0, 43_200);
        for seed in 0..1_000 {
            let due = token.rewrite_after(POLICY, &seed);
            assert!(due >= token.renew_after(POLICY) && due <= at(25_920), "{due}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for text in ["", "%", "QVdT", "OmE=", "QVdTOg=="] {
            assert_eq!(Token::new(text.into(), at(0), at(1), None).err(), Some(MalformedToken), "{text}");
        }
    }

    #[test]
    fn lifetimes_count_from_the_servers_clock() {
        assert_eq!(by_local_clock(at(43_200), Some(at(0)), at(7_000)), at(50_200));
        assert_eq!(skew(at(0), at(299)), None);
        assert_eq!(skew(at(1_000), at(0)), Some(Duration::from_secs(1_000)));
    }

    proptest! {
        #[test]
        fn no_lifetime_makes_a_hot_loop(issued in 0i64..2_000_000_000, life in 1i64..100_000) {
            let token = token(issued, issued + life);
            prop_assert!(token.renew_after(POLICY) >= at(issued + 5));
        }

        #[test]
        fn any_string_is_a_token_or_refused(text in ".*") {
            let _ = Token::new(text, at(0), at(1), None);
        }
    }
}

//! ECR authorization tokens and their times. The successor of a token is fetched first, and the Secrets that hold the
//! token are due for renewal later. A token cannot be printed.

use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use super::credential::{MalformedToken, RegistryCredential};
use crate::core::aws::Registry;
use crate::core::{Jitter, Now, whole_seconds};

/// The shortest time between the issue of a token and the fetch of the next one, however short its lifetime.
const MIN_USE: SignedDuration = SignedDuration::from_secs(5);

/// How far in the future the issue time of a token may be: clocks are adjusted by small steps.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// When a token is replaced, as fractions of its lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefreshPolicy {
    /// The fraction after which a new token is fetched, in `0.1..=0.8`.
    pub at: f64,
    /// The fraction over which the Secrets that hold it are renewed after that.
    pub jitter: f64,
    /// Renewals of Secrets in a second; creations and repairs are not limited.
    pub writes_per_second: u32,
    pub tokens_per_second: u32,
}

impl RefreshPolicy {
    /// The fraction of a token's lifetime after which a Secret that holds it is due for renewal: never before the one for
    /// the successor, so that all Secrets of one token share its one successor, and spread over the jitter interval by
    /// `object`.
    pub fn secret_fraction(self, jitter: Jitter, object: &impl Hash) -> f64 {
        self.at + self.jitter * jitter.fraction(object)
    }
}

/// An ECR authorization token, with its issue time and expiry by the local clock.
#[derive(Clone, Debug)]
pub struct Token {
    credential: RegistryCredential,
    issued_at: Timestamp,
    expires_at: Timestamp,
    /// The caller's default registry, if the reply named it.
    proxy_endpoint: Option<String>,
}

impl Token {
    /// Parses `authorization`, which has the form of ECR's `authorizationToken`.
    pub fn new(
        authorization: &str,
        issued_at: Timestamp,
        expires_at: Timestamp,
        proxy_endpoint: Option<String>,
    ) -> Result<Self, MalformedToken> {
        let credential = RegistryCredential::parse(authorization)?;
        Ok(Self { credential, issued_at, expires_at, proxy_endpoint })
    }

    pub fn credential(&self) -> &RegistryCredential {
        &self.credential
    }

    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The caller's default registry, as the reply named it.
    pub fn proxy_endpoint(&self) -> Option<&str> {
        self.proxy_endpoint.as_deref()
    }

    /// Whether it has not expired, by the wall clock and by AWS's. In the second in which it expires it has, because records
    /// of it have whole seconds.
    pub fn is_live(&self, now: Now) -> bool {
        whole_seconds(self.expires_at) > now.latest()
    }

    /// Whether the wall clock has not been set back since it was issued, by more than its times can be wrong.
    pub fn is_plausible(&self, now: Now) -> bool {
        now.until(self.issued_at) <= MAX_AHEAD
    }

    /// Whether it was issued at `time` or later. `time` is in whole seconds, as is the issue time on a Secret.
    pub fn is_issued_after(&self, time: Timestamp) -> bool {
        whole_seconds(self.issued_at) >= time
    }

    /// Whether it is worth a new Secret: it is live, or it had already expired when AWS returned it, so AWS returns no better
    /// one.
    pub fn is_usable(&self, now: Now) -> bool {
        self.is_live(now) || self.expires_at <= self.issued_at
    }

    /// When a new token is fetched in its place.
    pub fn successor_due_at(&self, policy: RefreshPolicy) -> Timestamp {
        self.after_fraction(policy.at)
    }

    /// When this fraction of its lifetime has passed; see [`after_fraction`].
    pub fn after_fraction(&self, fraction: f64) -> Timestamp {
        after_fraction(self.issued_at, self.expires_at, fraction)
    }
}

/// When this fraction of the lifetime of a token has passed, but not within seconds of its issue.
pub fn after_fraction(issued_at: Timestamp, expires_at: Timestamp, fraction: f64) -> Timestamp {
    let lifetime = expires_at.duration_since(issued_at);
    let used = if lifetime.is_positive() { lifetime.mul_f64(fraction).max(MIN_USE) } else { lifetime };
    issued_at.checked_add(used).unwrap_or(expires_at)
}

/// The identity's default registry: the one that its token names, if that is a registry of ECR.
pub fn default_host(token: &Token) -> Option<Registry> {
    let endpoint = token.proxy_endpoint.as_deref()?;
    endpoint.strip_prefix("https://").unwrap_or(endpoint).trim_end_matches('/').parse().ok()
}

/// The local time at which AWS's `expires_at` is reached, if AWS's clock showed `server_now` at the local time `now`.
/// Without `server_now` the clocks are assumed to be equal.
pub fn by_local_clock(expires_at: Timestamp, server_now: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let left = expires_at.duration_since(server_now.unwrap_or(now));
    now.checked_add(left).unwrap_or(expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{self, JITTER};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn token(issued: i64, expires: i64) -> Token {
        Token::new(&STANDARD.encode("AWS:hunter2"), at(issued), at(expires), None).expect("a token")
    }

    const POLICY: RefreshPolicy =
        RefreshPolicy { at: 0.5, jitter: 0.1, writes_per_second: 50, tokens_per_second: 50 };

    #[test]
    fn debug_shows_times_and_nothing_else() {
        let shown = format!("{:?}", token(0, 10));
        assert!(shown.contains("<redacted>") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(&STANDARD.encode("AWS:hunter2")), "{shown}");
    }

    #[test]
    fn secrets_are_due_after_their_token_can_be_renewed_and_before_it_expires() {
        let token = token(0, 43_200);
        for seed in 0..1_000 {
            let due = token.after_fraction(POLICY.secret_fraction(JITTER, &seed));
            assert!(due >= token.successor_due_at(POLICY) && due <= at(25_920), "{due}");
        }
    }

    /// N20: the record of a new entry has whole seconds, so the entry would be written as an expired one.
    #[test]
    fn a_token_has_expired_in_the_second_in_which_it_expires() {
        let expires_at = at(43_200) + SignedDuration::from_millis(31);
        let token = Token { expires_at, ..token(0, 0) };
        let [before, last] = [43_199, 43_200].map(|second| Now { wall: at(second), ..testing::at(0) });
        assert!(token.is_live(before) && token.is_usable(before));
        assert!(!token.is_live(last) && !token.is_usable(last));
    }

    /// N32: its times are those of a wall clock that was right when AWS returned it.
    #[test]
    fn a_token_has_expired_after_its_lifetime_even_if_the_wall_clock_was_set_back() {
        let token = token(0, 43_200);
        let behind = |second: i64| Now {
            wall: at(10_000),
            skew: Some(SignedDuration::from_secs(second - 10_000)),
            ..testing::at(0)
        };
        assert!(token.is_live(behind(43_199)) && token.is_usable(behind(43_199)));
        assert!(!token.is_live(behind(43_200)) && !token.is_usable(behind(43_200)));
    }

    #[test]
    fn a_malformed_token_is_rejected_without_being_shown() {
        for text in ["", "%", "QVdT", "OmE=", "QVdTOg=="] {
            assert_eq!(Token::new(text, at(0), at(1), None).err(), Some(MalformedToken), "{text}");
        }
    }

    #[test]
    fn lifetimes_count_from_the_servers_clock() {
        assert_eq!(by_local_clock(at(43_200), Some(at(0)), at(7_000)), at(50_200));
    }

    proptest! {
        #[test]
        fn no_lifetime_causes_a_hot_loop(
            issued in 0i64..2_000_000_000,
            // Half of the cases have a lifetime that the minimum matters for.
            life in prop_oneof![1i64..10, 10i64..100_000],
        ) {
            let token = token(issued, issued + life);
            prop_assert!(token.successor_due_at(POLICY) >= at(issued + 5));
        }

        #[test]
        fn any_string_is_parsed_without_a_panic(text in ".*") {
            let _ = Token::new(&text, at(0), at(1), None);
        }
    }
}

//! Random texts, for what must not be guessed and must not be taken for anything else.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// This many random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// This many random bytes as base64.
pub(crate) fn base64<const N: usize>() -> String {
    STANDARD.encode(bytes::<N>())
}

/// This many random bytes as base64 without any character that means something in a URL or a header.
pub(crate) fn url_safe<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<N>())
}

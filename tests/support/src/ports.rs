//! Free loopback ports that parallel tests do not give to each other.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the ephemeral range, so that no outgoing connection takes a port between our choice and its use.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;

/// A TCP port on 127.0.0.1 that is ours until this is dropped, also while nothing listens on it.
///
/// The claim is the UDP socket of the same number: it excludes the other test processes, leaves the TCP
/// port to the program that is meant to have it, and goes with the process however that ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Claims a port that nothing listens on.
    pub fn claim() -> Self {
        let start = getrandom::u32().expect("the system has random numbers") % u32::from(COUNT);
        let start = u16::try_from(start).expect("a number below COUNT");
        (0..COUNT)
            .map(|step| FIRST + (start + step) % COUNT)
            .find_map(|number| {
                let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                Some(Self { number, _claim: claim })
            })
            .expect("one of 16,000 loopback ports is free")
    }

    /// Claims this port, in a network of the test's own.
    pub(crate) fn exactly(number: u16) -> Self {
        let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, number));
        let claim = claim.unwrap_or_else(|error| panic!("port {number} is taken: {error}"));
        Self { number, _claim: claim }
    }

    /// Its number, for the program that listens on it.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_given_out_once_and_can_be_listened_on() {
        let ports: Vec<Port> = (0..50).map(|_| Port::claim()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        TcpListener::bind((Ipv4Addr::LOCALHOST, numbers[0])).expect("the claim leaves TCP free");
    }
}

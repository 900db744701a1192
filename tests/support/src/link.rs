//! A TCP connection that can be frozen, as a network does that drops every packet, and whose bytes are counted.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::server::Server;

/// A port that leads to another one; its connections are closed when this is dropped.
#[derive(Debug)]
pub struct Link {
    server: Server,
    frozen: watch::Sender<bool>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What went through a link so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The number of connections that were accepted.
    pub connections: u64,
    /// The bytes that clients sent.
    pub sent: u64,
    /// The bytes that clients received.
    pub received: u64,
}

impl Link {
    /// Starts one that leads to this address.
    pub fn start(target: SocketAddr) -> Self {
        let frozen = watch::Sender::new(false);
        let states = frozen.clone();
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let server = Server::start("link", (Ipv4Addr::LOCALHOST, 0).into(), move |client| {
            let state = states.subscribe();
            let counts = Arc::clone(&shared);
            async move {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                // The other side of the link must not wait for a full packet.
                let _ = client.set_nodelay(true);
                let Ok(server) = TcpStream::connect(target).await else { return };
                let _ = server.set_nodelay(true);
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::select! {
                    () = pass_on(from_client, to_server, state.clone(), &counts.sent) => {}
                    () = pass_on(from_server, to_client, state, &counts.received) => {}
                }
            }
        });
        Self { server, frozen, counts }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What went through it so far.
    pub fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { connections, sent, received } = &*self.counts;
        Traffic { connections: of(connections), sent: of(sent), received: of(received) }
    }

    /// Changes a kubeconfig of this crate, so that it leads to an API server through the link.
    pub fn lead(&self, kubeconfig: &Path) {
        let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
        let mut value: serde_json::Value =
            serde_json::from_str(&text).expect("kubeconfigs of this crate are JSON");
        value["clusters"][0]["cluster"]["server"] = format!("https://{}", self.address()).into();
        std::fs::write(kubeconfig, value.to_string()).expect("the folder of kubeconfigs accepts files");
    }

    /// From now on no byte is passed on, in either direction. Connections stay open, and new ones are accepted.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// Passes on what was held, and everything after it.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    passed: &AtomicU64,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        // Before the other end has them, so that it finds them counted.
        passed.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_frozen_link_holds_every_byte_and_a_thawed_one_passes_it_on() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let link = Link::start(listener.local_addr().expect("an address"));
        let mut client = TcpStream::connect(link.address()).await.expect("the link accepts");
        let (mut server, _) = listener.accept().await.expect("a connection");
        let mut byte = [0];
        client.write_all(b"1").await.expect("a byte is sent");
        server.read_exact(&mut byte).await.expect("a byte arrives");
        link.freeze();
        client.write_all(b"2").await.expect("a byte is sent");
        let held = timeout(Duration::from_millis(200), server.read_exact(&mut byte)).await;
        assert!(held.is_err(), "{byte:?} passed a frozen link");
        link.thaw();
        server.read_exact(&mut byte).await.expect("the byte arrives");
        assert_eq!(byte, *b"2");
        assert_eq!(link.traffic(), Traffic { connections: 1, sent: 2, received: 0 });
    }
}

//! Clients of the controller's port: probes of a pod that has IPv6 only, and pods that occupy the port.

use std::time::Duration;

use testing::tenants::INSTANCE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::CHART;
use crate::oracles::Oracle;
use crate::world::World;

/// The pods of the chart have one address, of IPv6.
pub async fn ipv6_only(world: &mut World<'_>) {
    world.observe_missing(45);
    let rendered = testing::helm::run(&["template", INSTANCE, CHART]).await.expect("the chart is rendered");
    let argument = rendered.lines().find_map(|line| line.trim().strip_prefix("- --listen="));
    let (address, _) = argument.and_then(|it| it.rsplit_once(':')).expect("an address to listen on");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port();
    world.spawn("first", &[&format!("--listen={address}:{port}")]);
    world.also_probe("first", &format!("[::1]:{port}"));
    world.watch_for(8).await;
}

/// Clients in the cluster open connections to the controller's port: some send nothing, some read nothing, and some
/// connect again whenever they are disconnected.
pub async fn occupied(world: &mut World<'_>) {
    const IDLE: usize = 130;
    const SILENT: usize = 130;
    const RECONNECTING: usize = 200;
    world.observe_missing(45);
    world.start("first", &[]).await;
    let address = world.address("first");
    let mut clients = JoinSet::new();
    let mut open = vec![];
    for _ in 0..IDLE {
        open.push(TcpStream::connect(&address).await.expect("the kernel accepts"));
    }
    probe(world, &address, "idle clients").await;
    for _ in 0..SILENT {
        open.push(silent(&address).await);
    }
    probe(world, &address, "clients that read nothing").await;
    for _ in 0..RECONNECTING {
        clients.spawn(reconnect(address.clone()));
    }
    sleep(Duration::from_millis(500)).await;
    probe(world, &address, "clients that reconnect").await;
    world.watch_for(5).await;
    drop((open, clients));
}

/// A client that requests many pages and reads none of them.
async fn silent(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2_048).expect("a small buffer");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("the kernel accepts");
    let requests = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50);
    // The server may have closed the connection already.
    let _ = timeout(Duration::from_millis(100), stream.write_all(requests.as_bytes())).await;
    stream
}

async fn reconnect(address: String) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await {
            // It ends when the server closes the connection.
            let _ = stream.read_to_end(&mut vec![]).await;
        }
        // The clients share the processor with the controller and with the probes.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Twenty probes in a row, as a kubelet sends them.
async fn probe(world: &World<'_>, address: &str, beside: &str) {
    // The defects delayed a probe by 30 s or more. A busy machine may delay one by more than a second.
    const LIMIT: Duration = Duration::from_secs(5);
    let mut slowest = Duration::ZERO;
    for attempt in 0..20 {
        let start = Instant::now();
        let reply = timeout(LIMIT, world.cluster.candidate("first").probe("/livez")).await;
        if !matches!(reply, Ok((200, _))) {
            let text = || format!("probe {attempt} beside {beside} failed after {:?}", start.elapsed());
            world.report(Oracle::Probe, address, text);
        }
        slowest = slowest.max(start.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    println!("the slowest of 20 probes beside {beside} took {slowest:?}");
}

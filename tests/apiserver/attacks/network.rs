//! Clients that occupy the controller's port, and proxies between it and AWS.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use testing::aws::Stub;
use testing::credentials::ContainerEndpoint;
use testing::proxy::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::bystanders::{Attack, Bystanders, short_tokens};
use crate::harness::cluster_test;

/// The controller keeps 128 connections.
const CLIENTS: usize = 400;

/// A client that sends this, and nothing else.
async fn idle(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the kernel accepts");
    // The server may have closed the connection already.
    let _ = stream.write_all(request.as_bytes()).await;
    stream
}

/// A client that requests many pages and reads none of them.
async fn silent(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2_048).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("the kernel accepts");
    let requests = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50);
    let _ = timeout(Duration::from_millis(100), stream.write_all(requests.as_bytes())).await;
    stream
}

#[test]
fn clients_that_occupy_the_port_delay_no_probe_h3() {
    cluster_test(async |cluster| {
        cluster.aws.set(short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        let page = cluster.page("");
        let address = page.strip_prefix("http://").and_then(|it| it.parse().ok()).expect("an address");
        let open = Arc::<Mutex<VecDeque<TcpStream>>>::default();
        let clients = open.clone();
        // Three more in each turn; the oldest ones leave, most of which the server has closed.
        let mut attack = Attack::repeat(Duration::from_millis(20), move |_| {
            let open = open.clone();
            async move {
                let new = [idle(address, "").await, idle(address, "GET /livez").await, silent(address).await];
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                open.extend(new);
                let surplus = open.len().saturating_sub(CLIENTS);
                open.drain(..surplus);
            }
        });
        let count = || clients.lock().unwrap_or_else(PoisonError::into_inner).len();
        cluster.wait_until("the clients", async || count() == CLIENTS).await;
        bystanders.wait_for_renewals(cluster).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        assert_eq!(count(), CLIENTS);
    });
}

/// The attacker is the proxy of `HTTP_PROXY`: it gives credentials of its own to clients that want those of the pod.
#[test]
fn a_proxy_sees_no_token_of_the_pod_and_injects_no_credentials_m6() {
    const MALLORY: &str = "arn:aws:iam::666666666666:user/mallory";
    cluster_test(async |cluster| {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let issued = cluster.aws.issue_as(MALLORY, Duration::from_hours(1));
        let body = json!({
            "AccessKeyId": issued.access_key, "SecretAccessKey": issued.secret_key, "Token": issued.session_token,
            "AccountId": "666666666666", "Expiration": issued.expires.to_string(),
        });
        let (listener, body, seen) = (Arc::new(listener), body.to_string(), Arc::<Mutex<String>>::default());
        let heads = seen.clone();
        let mut attack = Attack::repeat(Duration::ZERO, move |_| {
            let (listener, body, heads) = (listener.clone(), body.clone(), heads.clone());
            async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = vec![0; 4_096];
                let length = stream.read(&mut head).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&head[..length]).into_owned();
                heads.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
                let reply = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        // Credentials that the SDK loads again about every five seconds.
        let source = ContainerEndpoint::start(&cluster.aws, Duration::from_secs(10)).await;
        cluster.aws_env = source.env();
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            cluster.aws_env.push((name.to_owned(), url.clone()));
        }
        cluster.aws.set(short_tokens());
        cluster.run_controller().await;
        let bystanders = Bystanders::settle(cluster).await;
        bystanders.wait_for_renewals(cluster).await;
        bystanders.assert_unharmed(cluster, &mut attack).await;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        println!("{} loads of credentials, none through the proxy", source.count());
        assert!(source.count() >= 2, "{} loads", source.count());
        assert_eq!(seen, "", "what the proxy saw");
        for token in cluster.aws.minted() {
            assert!(token.principal.contains(Stub::ACCOUNT), "a token of {}", token.principal);
        }
    });
}

/// The attacker is the proxy of `HTTPS_PROXY`: it ends TLS with certificates of an authority of its own.
#[test]
fn a_proxy_that_ends_tls_without_a_trusted_certificate_gets_no_request() {
    cluster_test(async |cluster| {
        let proxy = Proxy::start(&cluster.aws).await;
        cluster.aws_env = proxy.env();
        let trusted = cluster.control_plane.ca_file().display().to_string();
        for (name, value) in &mut cluster.aws_env {
            if name == "SSL_CERT_FILE" {
                value.clone_from(&trusted);
            }
        }
        cluster.run_controller().await;
        cluster.opt_in("team-a").await;
        let message = cluster.wait_for_message("team-a", "TokenFailed").await;
        println!("{message}");
        assert!(!proxy.targets().is_empty(), "the proxy was in the way");
        assert_eq!(cluster.aws.calls(), [], "no request got past TLS");
        assert!(cluster.secret("team-a").await.is_none(), "no token");
    });
}

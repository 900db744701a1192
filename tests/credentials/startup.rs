//! How a credential command starts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use testing::aws::{Behaviour, Fault, Stub};

use crate::harness::{HOST, Home, PROGRAM, finish};

const RUNS: usize = 41;

/// One thread for the runtime, and one that reads files.
#[tokio::test]
async fn a_command_has_no_second_thread_for_its_runtime() {
    let home = Home::start().await;
    home.aws.set(Behaviour::failing(Fault::Hang));
    let mut command = home.command(PROGRAM);
    command.args(["login-password", "--registry", HOST]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while home.aws.calls().is_empty() {
        assert!(Instant::now() < deadline, "no request");
        std::thread::sleep(Duration::from_millis(10));
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("a process").count();
    child.kill().expect("the program runs");
    child.wait().expect("an end");
    assert!(threads <= 2, "{threads} threads");
}

/// The time from exec to the first request, as the median of many runs, next to that of `--version`. Not part of
/// `make test`, because it depends on the machine: `PROGRAM` names a program that was built for release.
#[tokio::test]
#[ignore = "measures"]
async fn time_to_the_first_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut home = Home::start().await;
    home.set("AWS_ENDPOINT_URL", &format!("http://{}", listener.local_addr().expect("an address")));
    let program = std::env::var("PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned());
    let mut version = vec![];
    let mut requests = vec![];
    for _ in 0..RUNS {
        let mut command = home.command(&program);
        command.arg("--version");
        let start = Instant::now();
        finish(command, "").ok();
        version.push(start.elapsed());
        let mut command = home.command(&program);
        command.args(["credential-helper", "get"]);
        let start = Instant::now();
        let child = std::thread::spawn(move || finish(command, HOST));
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0];
        stream.read_exact(&mut head).expect("a request");
        requests.push(start.elapsed());
        let _ = stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
        drop(stream);
        child.join().expect("an end");
    }
    let [version, request] = [version, requests].map(median);
    println!("--version {version:?}, first request {request:?} ({})", Stub::REGION);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

//! How a credential command starts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use testing::aws::{Behaviour, Fault};

use crate::harness::{HOST, Home, PROGRAM};

/// The maximum of the fastest run. docs/decisions/0017-credentials-without-a-cluster.md has what was measured.
const LIMIT: Duration = Duration::from_millis(30);
const RUNS: usize = 100;
/// The maximum of rounds of as many runs: the machine can be too busy for all runs of one.
const ROUNDS: usize = 20;

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

/// `PROGRAM` names the program for release. A busy machine delays most runs, and a slower program delays all of them.
#[test]
#[ignore = "measures time, so `make startup` runs it alone"]
fn the_first_request_follows_the_start_within_30_ms() {
    let program = std::env::var("PROGRAM").expect("make startup names the program for release");
    let program = std::path::absolute(program).expect("a path");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let home = runtime.block_on(Home::start());
    let request = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest",
        "image": format!("{HOST}/team-a/app:1"),
    });
    for (args, input) in
        [(&["credential-helper", "get"][..], HOST), (&["credential-provider"], &*request.to_string())]
    {
        let run = || time_to_the_first_request(&home, &program, args, input);
        let round = |_| {
            let mut times: Vec<_> = (0..RUNS).map(|_| run()).collect();
            times.sort();
            let (fastest, median) = (times[0], times[RUNS / 2]);
            println!("{args:?}: {RUNS} runs, fastest {fastest:?}, median {median:?}");
            fastest <= LIMIT
        };
        assert!((0..ROUNDS).any(round), "{args:?}: none of {ROUNDS} rounds had a run within {LIMIT:?}");
    }
}

/// The time from exec to the first byte of a request to AWS.
fn time_to_the_first_request(home: &Home, program: &Path, args: &[&str], input: &str) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let mut command = home.command(program);
    command
        .args(args)
        .env("AWS_ENDPOINT_URL", format!("http://{}", listener.local_addr().expect("an address")));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the program reads its input");
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => {
                assert!(start.elapsed() < Duration::from_secs(30), "no request: {:?}", child.try_wait());
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    };
    stream.read_exact(&mut [0]).expect("a request");
    let elapsed = start.elapsed();
    child.kill().expect("the program waits for the response");
    child.wait().expect("an end");
    elapsed
}

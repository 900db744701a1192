//! The program in a root folder that has the layer and nothing else, as the user of the image.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::archive::{Archive, skip};

const PATIENCE: Duration = Duration::from_secs(20);

/// The entrypoint of the image under `root`, with the image's user and variables.
fn entrypoint(archive: &Archive, root: &Path) -> Option<Command> {
    let uid = fs::metadata("/proc/self").map(|own| own.uid());
    let may = uid.is_ok_and(|uid| uid == 0)
        && Command::new("chroot").args(["/", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        skip("needs root and chroot");
        return None;
    }
    let image = archive.image();
    let config = image.config().as_ref().expect("a configuration");
    let user = config.user().as_deref().expect("a user");
    let mut command = Command::new("chroot");
    command.args([&format!("--userspec={user}"), "--groups="]).arg(root);
    command.args(config.entrypoint().iter().flatten());
    let env = config.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(env).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_starts_with_nothing_beside_it() {
    let Some(archive) = Archive::open() else { return };
    let folder = archive.unpack();
    let run = |arguments: &[&str]| {
        let output = entrypoint(&archive, folder.path())?.args(arguments).output().expect("chroot starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).expect("text"))
    };
    let Some(version) = run(&["--version"]) else { return };
    assert_eq!(version, format!("ecr-pull-secrets {}\n", archive.version));
    assert!(run(&["controller", "--help"]).expect("as before").contains("--listen"));
}

/// A static glibc looks names up without its shared modules only since they are part of it; see that they are.
#[test]
fn it_looks_names_up_with_a_resolv_conf_alone() {
    let Some(archive) = Archive::open() else { return };
    let folder = archive.unpack();
    let Some(mut command) = entrypoint(&archive, folder.path()) else { return };
    // An address of one's own on loopback: a resolver of the machine may have the port on another.
    let process = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 53, process[2], process[3].clamp(1, 254));
    let Ok(resolver) = UdpSocket::bind((address, 53)) else {
        return skip(&format!("port 53 of {address} is taken"));
    };
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    fs::write(folder.path().join("etc/resolv.conf"), format!("nameserver {address}\n")).expect("a file");
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, \
         clusters: [{{name: c, cluster: {{server: 'http://api.example.test:{port}'}}}}], users: [{{name: c}}], \
         contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
    );
    fs::write(folder.path().join("kubeconfig"), kubeconfig).expect("a file");
    command.args(["sync", "--kubeconfig", "/kubeconfig"]).env("AWS_REGION", "eu-central-1");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let program = Running(command.spawn().expect("chroot starts"));
    answer_names(&resolver, &server);
    drop(program);
}

/// Says 127.0.0.1 to every question about addresses, until a request for that name comes to `server`.
fn answer_names(resolver: &UdpSocket, server: &TcpListener) {
    resolver.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    server.set_nonblocking(true).expect("a mode");
    let begin = Instant::now();
    let mut asked = 0;
    while begin.elapsed() < PATIENCE {
        let mut packet = [0; 512];
        if let Ok((length, from)) = resolver.recv_from(&mut packet) {
            asked += 1;
            resolver.send_to(&reply(&packet[..length]), from).expect("an answer goes out");
        }
        if let Ok((mut stream, _)) = server.accept() {
            stream.set_nonblocking(false).expect("a mode");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut request = [0; 2048];
            let length = stream.read(&mut request).expect("a request");
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            assert!(request.contains("host: api.example.test:"), "{request}");
            // The program may be gone.
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n");
            assert!(asked > 0, "it came without a question");
            return;
        }
    }
    panic!("no request in {PATIENCE:?}, after {asked} questions for names");
}

/// RFC 1035: the question again, with one address if it asks for type A, else with none.
fn reply(question: &[u8]) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|&byte| byte == 0).expect("a name ends") + 1;
    let is_a = question[name_end..name_end + 2] == [0, 1];
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(&question[12..name_end + 4]);
    if is_a {
        // A pointer to the name above, type A, class IN, a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    reply
}

//! A test in namespaces of its own: what it mounts, listens on and starts is gone when it ends, however it ends.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::folder::Folder;
use crate::node::Node;
use crate::process::Process;
use crate::tools;

/// Set in the inner process.
const INSIDE: &str = "ECR_PULL_SECRETS_ISOLATED";
/// What the names of control groups begin with; then come the process ID of the test program and a number.
const GROUP: &str = "ecr-pull-secrets-";

/// What the node's programs make on a machine that they have to themselves.
const TRACES: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/run/containerd",
    "/usr/libexec/kubernetes",
    "/etc/cni",
];

/// The node's address, on a link whose other end nobody uses: a kubelet and the pods want one that is not loopback.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Where pods reach the stub of AWS: only there the controller sends requests without encryption.
pub const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 99, 1);

/// Joins the control group of that name, new in each hierarchy, and becomes the program.
const JOIN: &str = r#"
set -e
for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -e "$root/cgroup.procs" ] || continue
  mkdir -p "$root/$1"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$root/$1/$file" ] || cat "$root/$file" > "$root/$1/$file"
  done
  echo $$ > "$root/$1/cgroup.procs"
done
shift
exec "$@"
"#;

/// Control groups as the test's own group sees them; `/run` and `/var/log` empty, `/var/lib` a copy; a network with loopback
/// and one address, without DNS, so that a question is refused at once and not after ten seconds; files of settings that
/// a kubelet would change for the whole machine replaced by ones that have the values it wants.
const ENTER: &str = r#"
set -e
ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add "$1/24" dev eth0
ip link set eth0 up
ip link set eth1 up
ip address add "$3/32" dev lo
ip route add default via 10.99.0.254
cp /proc/mounts "$TMPDIR/mounts"
while read -r _ root kind options _; do
  case $kind in cgroup | cgroup2) umount "$root" && mount -t "$kind" -o "$options" "$kind" "$root" ;; esac
done < "$TMPDIR/mounts"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
# A kubelet has sockets, and CNI a cache, at places in /var/lib that no setting moves.
mkdir "$TMPDIR/lib"
mount -t tmpfs tmpfs "$TMPDIR/lib"
mkdir "$TMPDIR/lib/upper" "$TMPDIR/lib/work"
mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$TMPDIR/lib/upper,workdir=$TMPDIR/lib/work" /var/lib
setting() {
  echo "$2" > "$TMPDIR/setting.$2"
  [ ! -e "/proc/sys/$1" ] || mount --bind "$TMPDIR/setting.$2" "/proc/sys/$1"
}
setting vm/overcommit_memory 1
setting vm/panic_on_oom 0
setting kernel/panic 10
setting kernel/panic_on_oops 1
setting kernel/keys/root_maxkeys 1000000
setting kernel/keys/root_maxbytes 25000000
{ echo "127.0.0.1 localhost"; echo "$1 $2"; } > "$TMPDIR/hosts"
for host in $HOSTS; do echo "127.0.0.1 $host" >> "$TMPDIR/hosts"; done
mount --bind "$TMPDIR/hosts" /etc/hosts
echo "nameserver 127.0.0.1" > "$TMPDIR/resolv.conf"
mount --bind "$TMPDIR/resolv.conf" /etc/resolv.conf
shift 3
exec "$@"
"#;

/// Runs `body` in mount, network and process namespaces of its own, where `hosts` are names of 127.0.0.1.
///
/// `test` is the full name of the calling test: the test program starts itself again for just that one. Of what that
/// one prints, lines that begin with `[` are shown as they come, past the capture of the test harness, and everything
/// if it fails. Without root, or without the tools that it takes, the test is skipped with a line on stderr.
pub fn isolated(test: &str, hosts: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !crate::real_cluster() {
        return;
    }
    if let Some(missing) = missing() {
        return crate::skipped(test, &missing);
    }
    // Outlives the inner processes, which may be killed.
    let folder = Folder::new();
    let cgroup = Cgroup::new();
    let before = TRACES.map(|path| Path::new(path).exists());
    let mut command = Command::new("sh");
    command
        .args(["-c", JOIN, "sh", &cgroup.0])
        .args(["unshare", "--cgroup", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-c", ENTER, "sh", &ADDRESS.to_string(), Node::NAME])
        .arg(LINK_LOCAL.to_string())
        .arg(std::env::current_exe().expect("a test knows its executable"))
        .args(["--exact", test, "--nocapture"])
        .envs(std::env::vars_os())
        .env(INSIDE, "1")
        .env("TMPDIR", folder.path())
        .env("HOSTS", hosts.join(" "));
    let mut inner = Process::spawn("inner", &command, folder.path());
    let code = follow(&mut inner);
    let left = cgroup.remove();
    assert_eq!(code, 0, "{}", inner.log());
    assert_eq!(left, Vec::<PathBuf>::new(), "control groups that cannot be removed");
    assert_eq!(before, TRACES.map(|path| Path::new(path).exists()), "left on the machine, of {TRACES:?}");
}

/// Shows what a process says of its progress, until it has ended: its exit code.
fn follow(process: &mut Process) -> i32 {
    let mut shown = 0;
    loop {
        let code = process.exit_code();
        let log = process.log();
        let complete = log.rfind('\n').map_or(0, |end| end + 1);
        for line in log[shown..complete].lines().filter(|line| line.starts_with('[')) {
            writeln!(std::io::stdout(), "{line}").expect("stdout takes a line");
        }
        shown = complete;
        if let Some(code) = code {
            return code;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn missing() -> Option<String> {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        return Some("needs root, to make namespaces and run a kubelet".to_owned());
    }
    let found = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if let Some(tool) = ["unshare", "mount", "ip", "nft"].into_iter().find(|tool| !found(tool)) {
        return Some(format!("needs {tool} (Debian: apt install util-linux mount iproute2 nftables)"));
    }
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    if assets.is_some_and(|folder| !folder.join("kube-controller-manager").exists()) {
        return Some("needs kube-controller-manager, which KUBEBUILDER_ASSETS does not have".to_owned());
    }
    tools::missing("node")
}

/// The control group that the test takes for the root of each hierarchy.
struct Cgroup(String);

impl Cgroup {
    /// A new one of this process; those of processes that were killed are removed.
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        for name in hierarchies().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten() {
            let name = name.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(GROUP).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                Self(name).remove();
            }
        }
        Self(format!("{GROUP}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Removes it from every hierarchy, with what is below it, and returns what stays. Processes in it have ended with
    /// their namespace.
    fn remove(&self) -> Vec<PathBuf> {
        hierarchies().map(|root| root.join(&self.0)).filter(|group| !removed(group)).collect()
    }
}

/// The roots of version 1, and that of version 2.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let each = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    each.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")])
}

/// Whether a control group is gone, after attempts for a minute at most.
fn removed(group: &Path) -> bool {
    for inner in std::fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        removed(&inner.path());
    }
    // A moment after the kill the kernel may still count a process. Another test may have removed it.
    (0..600).any(|_| {
        let gone = std::fs::remove_dir(group).is_ok() || !group.exists();
        if !gone {
            std::thread::sleep(Duration::from_millis(100));
        }
        gone
    })
}

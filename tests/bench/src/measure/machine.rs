//! The machine and the versions of a run.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use super::Options;
use crate::figures::About;
use crate::world::World;

/// The versions of the control plane that the tests build.
const MODULES: &str = include_str!("../../../tools/kubernetes/go.mod");
const ETCD: &str = "go.etcd.io/etcd/server/v3 ";

/// The load average of the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

pub async fn about(options: &Options<'_>, world: &World, load_before: f64) -> About {
    let size = fs::metadata(options.program).expect("a program").len();
    let api_server = world.control_plane.admin().apiserver_version().await.expect("a version");
    let etcd = MODULES.lines().find_map(|line| line.trim().strip_prefix(ETCD));
    About {
        date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
        command: options.command.to_owned(),
        namespaces: options.namespaces,
        processor: value("/proc/cpuinfo", "model name"),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: value("/proc/meminfo", "MemTotal")
            .trim_end_matches(" kB")
            .parse::<u64>()
            .unwrap_or_default()
            / 1_024,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        load_before,
        program: version(options.program),
        program_bytes: size,
        commit: options.commit.to_owned(),
        compiler: version(Path::new("rustc")),
        api_server: api_server.git_version,
        etcd: etcd.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default().to_owned(),
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The first value of this name in a file of `NAME : VALUE` lines.
fn value(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let found = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

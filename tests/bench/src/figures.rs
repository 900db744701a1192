//! What a run measured, as it is stored in JSON. Times are in milliseconds or seconds, sizes in KiB, as the names say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run of the benchmark.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figures {
    pub about: About,
    /// From the start of the process to the arrival of the first write, with one namespace in the cluster.
    pub first_write_ms: Vec<f64>,
    pub rounds: Vec<Round>,
    pub latency: Latency,
    pub lives: Vec<Life>,
    pub steady: Steady,
    pub wire: Wire,
}

/// The figures whose ratios two runs on one machine have in common. The other figures of [`Figures`] are left out.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Speed {
    pub rounds: Vec<Round>,
    pub latency: Latency,
}

/// The conditions of the run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
    pub date: String,
    pub command: String,
    pub namespaces: usize,
    pub processor: String,
    pub processors: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// The load average of one minute before the run.
    pub load_before: f64,
    pub program: String,
    pub program_bytes: u64,
    pub commit: String,
    pub compiler: String,
    pub api_server: String,
    pub etcd: String,
}

/// Requests to the API server by verb and resource, such as `patch secrets`.
pub type Requests = BTreeMap<String, u64>;

/// The same creations by the minimal client and by the controller, in one round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Round {
    /// Creations in a second by the minimal client, for each number of requests in flight.
    pub server: BTreeMap<usize, f64>,
    pub cold_sync: Work,
    /// From the start of the process to the arrival of the first write, with all namespaces in the cluster.
    pub first_write_ms: f64,
    /// The largest resident memory of the process.
    pub peak_kib: u64,
}

impl Round {
    /// The best rate of the minimal client with several requests in flight.
    pub fn server_rate(&self) -> f64 {
        let several = self.server.iter().filter(|(in_flight, _)| **in_flight > 1);
        several.map(|(_, rate)| *rate).fold(0.0, f64::max)
    }

    /// The rate of the cold sync as a ratio of [`Self::server_rate`].
    pub fn ratio(&self) -> f64 {
        self.cold_sync.per_second() / self.server_rate()
    }
}

/// What the controller did in some time, and what it cost.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Work {
    pub writes: usize,
    /// From the arrival of the first write to the end of the last one, by the clock of the API server.
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub aws_calls: usize,
    pub requests: Requests,
}

impl Work {
    pub fn per_second(&self) -> f64 {
        crate::stats::number(self.writes) / self.seconds
    }

    pub fn cpu_per_thousand(&self) -> f64 {
        1_000.0 * self.cpu_seconds / crate::stats::number(self.writes)
    }
}

/// From the arrival of the request that annotates a namespace to the end of the write of its Secret.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Latency {
    pub idle_ms: Vec<f64>,
    pub during_renewal_ms: Vec<f64>,
    /// How long each of these annotations took, as a request to the API server.
    #[serde(default)]
    pub idle_requests_ms: Vec<f64>,
    #[serde(default)]
    pub during_renewal_requests_ms: Vec<f64>,
    /// The renewal of all namespaces at the default `writesPerSecond`.
    pub renewal: Work,
}

/// Two controllers with leader election, from their start on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Life {
    pub name: String,
    /// Whether each namespace has its own token.
    pub own_tokens: bool,
    pub stages: Vec<Stage>,
    pub cold_sync: Work,
    pub refreshes: Vec<Work>,
    pub churn: Work,
    /// Lists and watches that began with all objects after the forced relist, of the first controller.
    pub relisted: usize,
}

/// The memory of both controllers after a stage of their life.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stage {
    pub name: String,
    pub leader: Memory,
    pub standby: Memory,
}

/// Resident memory of a process.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[expect(clippy::struct_field_names, reason = "the JSON names the unit")]
pub struct Memory {
    pub rss_kib: u64,
    pub pss_kib: u64,
    /// The part of the RSS that no file backs.
    pub private_kib: u64,
    /// The largest RSS so far.
    pub peak_kib: u64,
}

impl Memory {
    /// The part of the RSS that the program's file backs.
    pub fn file_kib(self) -> u64 {
        self.rss_kib - self.private_kib
    }
}

/// A restart with all Secrets fresh, and the time after it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Steady {
    /// From the start of the process to a successful probe of `/readyz`.
    pub ready_ms: f64,
    pub restart: Work,
    pub idle_seconds: f64,
    pub idle: Work,
    pub memory: Memory,
}

/// Bytes between one controller and the API server, with TLS.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Wire {
    pub cold_sync: Bytes,
    pub idle_seconds: f64,
    pub idle: Bytes,
    pub restart: Bytes,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
    pub connections: u64,
}

//! A real Prometheus, which scrapes every two seconds.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::folder::Folder;
use crate::ports::Port;
use crate::process::Process;
use crate::tools;

/// A running Prometheus with alert rules.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: Port,
    folder: Folder,
}

impl Prometheus {
    /// Starts it with these groups of rules, and without targets.
    pub async fn start(rules: &Value) -> Self {
        let program = tools::folder("prometheus").await.join("prometheus");
        let (folder, port) = (Folder::new(), Port::claim());
        std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("a file of rules");
        std::fs::write(folder.path().join("prometheus.yaml"), configuration(&[])).expect("a configuration");
        let mut command = Command::new(program);
        command.current_dir(folder.path()).args([
            "--config.file=prometheus.yaml",
            "--storage.tsdb.path=data",
            "--log.level=warn",
            &format!("--web.listen-address=127.0.0.1:{}", port.number()),
        ]);
        let process = Process::spawn("prometheus", &command, folder.path());
        let mut prometheus = Self { process, port, folder };
        let deadline = Instant::now() + Duration::from_mins(1);
        while prometheus.get("/-/ready").await.is_none() {
            let ended = prometheus.process.exit_code().is_some() || Instant::now() > deadline;
            assert!(!ended, "Prometheus does not start:\n{}", prometheus.process.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        prometheus
    }

    /// Scrapes these targets from now on, each with its labels, in place of those before.
    pub fn scrape(&mut self, targets: &[(String, Value)]) {
        let path = self.folder.path().join("prometheus.yaml");
        std::fs::write(path, configuration(targets)).expect("a configuration");
        self.process.signal("HUP");
    }

    /// The values of an instant query, of which some may be NaN; panics if Prometheus rejects the query.
    pub async fn query(&self, expression: &str) -> Vec<f64> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let reply = self.get(&format!("/api/v1/query?query={query}")).await;
        let reply = reply.unwrap_or_else(|| panic!("{expression}: Prometheus rejects it"));
        let result = reply["data"]["result"].as_array().expect("a vector").iter();
        result.filter_map(|sample| sample["value"][1].as_str()?.parse().ok()).collect()
    }

    /// Waits until each query of a dashboard returns a number for the installation of this name. A rate requires a scrape
    /// before the last change, and one after it.
    pub async fn wait_until_complete(&self, dashboard: &str, instance: &str) {
        let queries = queries(dashboard, instance);
        assert!(queries.len() > 20, "{queries:?}");
        // Longer than the time between two renewals of the tests on a node: a rate is a number only after a change.
        let deadline = Instant::now() + Duration::from_secs(90);
        for query in queries {
            loop {
                let values = self.query(&query).await;
                if values.iter().any(|value| value.is_finite()) {
                    break;
                }
                assert!(Instant::now() < deadline, "{query}: {values:?}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let reply = self.get("/api/v1/alerts").await.expect("Prometheus lists alerts");
        let alerts = reply["data"]["alerts"].as_array().expect("alerts").iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    }

    /// The body of a page, null if it is no JSON; `None` without status 200.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).await.ok()?;
        // To HTTP/1.0 it replies without chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).filter(|status| *status == "200")?;
        Some(serde_json::from_str(body).unwrap_or_default())
    }
}

/// The queries of all panels, as Grafana would send them.
fn queries(dashboard: &str, instance: &str) -> Vec<String> {
    let board: Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables =
        [("$cluster", ".*"), ("$namespace", instance), ("$job", instance), ("$__rate_interval", "1m")];
    targets
        .map(|target| {
            let query = target["expr"].as_str().expect("a query").to_owned();
            variables.iter().fold(query, |query, (name, value)| query.replace(name, value))
        })
        .collect()
}

fn configuration(targets: &[(String, Value)]) -> String {
    let target = |(address, labels): &(String, Value)| json!({"targets": [address], "labels": labels});
    let targets: Vec<_> = targets.iter().map(target).collect();
    // JSON is YAML. The `job` of a target's labels takes precedence.
    json!({
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "targets", "static_configs": targets}],
    })
    .to_string()
}

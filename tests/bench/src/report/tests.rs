use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::figures::{About, Bytes, Latency, Life, Memory, Round, Stage, Steady, Wire, Work};

/// Figures of a run in which the API server creates 1,000 Secrets in a second, and the controller as many as given.
fn figures(cold_per_second: f64) -> Figures {
    let work =
        Work { writes: 1_000, seconds: 1_000.0 / cold_per_second, cpu_seconds: 0.1, ..Work::default() };
    let round = Round {
        server: BTreeMap::from([(1, 200.0), (8, 900.0), (16, 1_000.0)]),
        cold_sync: work.clone(),
        first_write_ms: 90.0,
        peak_kib: 20_480,
    };
    let memory = Memory { rss_kib: 10_240, pss_kib: 6_144, private_kib: 2_048, peak_kib: 10_240 };
    let stage = Stage { name: "start".to_owned(), leader: memory, standby: memory };
    let life = Life {
        name: "one token".to_owned(),
        own_tokens: false,
        stages: vec![stage],
        cold_sync: work.clone(),
        refreshes: vec![work.clone()],
        churn: work.clone(),
        relisted: 2,
    };
    let text = || "text".to_owned();
    let bytes = Bytes { sent: 2_048, received: 1_024, connections: 3 };
    Figures {
        about: About {
            date: text(),
            command: text(),
            namespaces: 1_000,
            processor: text(),
            processors: 2,
            memory_mib: 2_048,
            kernel: text(),
            load_before: 0.0,
            program: text(),
            program_bytes: 1_048_576,
            commit: text(),
            compiler: text(),
            api_server: text(),
            etcd: text(),
        },
        first_write_ms: vec![50.0],
        rounds: vec![round],
        latency: Latency {
            idle_ms: vec![8.0],
            during_renewal_ms: vec![9.0],
            idle_requests_ms: vec![4.0],
            during_renewal_requests_ms: vec![3.0],
            renewal: work.clone(),
        },
        lives: vec![life],
        steady: Steady { ready_ms: 40.0, restart: work.clone(), idle_seconds: 60.0, idle: work, memory },
        wire: Wire { cold_sync: bytes, idle_seconds: 60.0, idle: bytes, restart: bytes },
    }
}

fn speed(cold_per_second: f64) -> Speed {
    let Figures { rounds, latency, .. } = figures(cold_per_second);
    Speed { rounds, latency }
}

fn store(folder: &Path, figures: &Figures) {
    fs::create_dir_all(folder).expect("a folder");
    let text = serde_json::to_string(figures).expect("figures are JSON");
    fs::write(folder.join("namespaces-1000.json"), text).expect("a file");
}

#[test]
fn the_document_and_the_plots_are_those_of_the_stored_figures() {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    assert!(write(&documents.join("performance"), &documents.join("performance.md"), true));
}

#[test]
fn a_report_is_current_until_the_figures_or_the_document_change() {
    let folder = TempDir::new().expect("a temporary folder");
    let (document, stored) = (folder.path().join("performance.md"), folder.path().join("performance"));
    let block = |name: &str| format!("<!-- begin {name} -->\n<!-- end {name} -->\n");
    let empty = format!("before\n{}{}after\n", block("figures"), block("two runs"));
    fs::write(&document, empty).expect("a document");
    store(&stored, &figures(950.0));
    assert!(!write(&stored, &document, true), "the block is empty");
    write(&stored, &document, false);
    assert!(write(&stored, &document, true));
    let text = fs::read_to_string(&document).expect("a document");
    assert!(text.starts_with("before\n") && text.ends_with("after\n"));
    let ratio = "| at least 0.95 | 0.950 / 0.950 / 0.950 |";
    assert!(text.contains(ratio) && text.contains("(performance/1000-memory.svg)"), "{text}");
    store(&stored, &figures(900.0));
    assert!(!write(&stored, &document, true), "other figures");
}

#[test]
fn runs_are_close_up_to_15_percent() {
    assert!(compare(&speed(950.0), &speed(1_080.0)));
    assert!(!compare(&speed(950.0), &speed(1_100.0)));
    let mut slow = speed(950.0);
    slow.latency.idle_ms = vec![10.0];
    assert!(!compare(&speed(950.0), &slow));
}

#[test]
fn a_machine_that_is_slow_in_all_requests_has_the_same_ratios() {
    let mut slow = speed(950.0);
    let latency = &mut slow.latency;
    for times in [
        &mut latency.idle_ms,
        &mut latency.during_renewal_ms,
        &mut latency.idle_requests_ms,
        &mut latency.during_renewal_requests_ms,
    ] {
        for time in times {
            *time *= 2.0;
        }
    }
    slow.rounds[0].server.insert(1, 100.0);
    assert!(compare(&speed(950.0), &slow));
}

#[test]
fn the_ratios_of_whole_figures_can_be_compared() {
    let whole = serde_json::to_string(&figures(950.0)).expect("figures are JSON");
    let speed: Speed = serde_json::from_str(&whole).expect("figures have rates and latencies");
    assert_eq!(ratios(&speed.rounds, &speed.latency).len(), 5);
}

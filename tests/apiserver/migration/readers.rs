//! Readers of a Secret, as kubelets are, while another writer takes it over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::tools::any_password;

const PERIOD: Duration = Duration::from_millis(100);

/// One read: when, and the password, if there was one.
type Read = (Timestamp, Option<String>);

/// Reads a Secret every 100 ms until it is stopped.
pub struct Readers {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Read>>,
}

impl Readers {
    pub fn start(client: &Client, namespace: &str, name: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (secrets, name) = (Api::<Secret>::namespaced(client.clone(), namespace), name.to_owned());
        let task = tokio::spawn(async move {
            let mut reads = vec![];
            let mut next = Instant::now();
            while !*stopped.borrow() {
                let found = secrets.get_opt(&name).await.expect("the admin reads secrets");
                reads.push((Timestamp::now(), found.as_ref().and_then(any_password)));
                next += PERIOD;
                sleep_until(next).await;
            }
            reads
        });
        Self { stop, task }
    }

    /// The number of reads, and of those without a token that `is_live` at the time of the read.
    pub async fn stop(self, is_live: impl Fn(&str, Timestamp) -> bool) -> (usize, usize) {
        self.stop.send_replace(true);
        let reads = self.task.await.expect("the reader ends");
        let is_gap =
            |(at, password): &&Read| password.as_ref().is_none_or(|password| !is_live(password, *at));
        (reads.len(), reads.iter().filter(is_gap).count())
    }
}

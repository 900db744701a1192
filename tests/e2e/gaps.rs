//! A reader that looks whether a namespace could pull at every moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use testing::aws::Stub;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{World, password};

/// Looks every 50 ms, until it is told to stop.
pub struct Reader {
    stop: watch::Sender<bool>,
    task: JoinHandle<Seen>,
}

/// What a reader saw.
#[derive(Default)]
pub struct Seen {
    /// How often it looked.
    pub looks: usize,
    /// The Secrets that it saw, each as often as it was made anew.
    pub secrets: BTreeSet<String>,
    gaps: Vec<String>,
}

impl World {
    /// Reads from now on whether `namespace` has a token for `host` that AWS did not let expire, under some name.
    pub fn reads(&self, namespace: &'static str, host: &'static str) -> Reader {
        let (stop, mut stopped) = watch::channel(false);
        let (admin, aws) = (self.admin.clone(), Arc::clone(&self.aws));
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            while !*stopped.borrow() {
                look(&mut seen, &admin, &aws, namespace, host).await;
                let _ = tokio::time::timeout(Duration::from_millis(50), stopped.changed()).await;
            }
            seen
        });
        Reader { stop, task }
    }
}

impl Reader {
    /// Ends it; there was no gap.
    pub async fn finish(self) -> Seen {
        self.stop.send_replace(true);
        let seen = self.task.await.expect("it does not panic");
        assert_eq!(seen.gaps, Vec::<String>::new(), "of {} looks", seen.looks);
        seen
    }
}

async fn look(seen: &mut Seen, admin: &Client, aws: &Stub, namespace: &str, host: &str) {
    let now = Timestamp::now();
    let api: Api<Secret> = Api::namespaced(admin.clone(), namespace);
    let secrets = api.list(&ListParams::default()).await.expect("the admin lists secrets").items;
    let tokens = aws.minted();
    let lives = |secret: &Secret| {
        let password = password(secret, host);
        let token = tokens.iter().find(|token| Some(&token.password) == password.as_ref());
        token.and_then(|token| token.expires_at).is_some_and(|end| end > now)
    };
    if !secrets.iter().any(lives) {
        seen.gaps.push(format!("{now}: of {} secrets in {namespace} none has a live token", secrets.len()));
    }
    seen.secrets.extend(secrets.into_iter().filter_map(|secret| secret.metadata.uid));
    seen.looks += 1;
}

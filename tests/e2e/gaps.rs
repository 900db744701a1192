//! A reader that looks whether a namespace could pull at every moment.

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
    task: JoinHandle<(usize, Vec<String>)>,
}

impl World {
    /// Reads from now on whether `namespace` has a token for `host` that AWS did not let expire, under some name.
    pub fn reads(&self, namespace: &'static str, host: &'static str) -> Reader {
        let (stop, mut stopped) = watch::channel(false);
        let (admin, aws) = (self.admin.clone(), Arc::clone(&self.aws));
        let task = tokio::spawn(async move {
            let (mut looks, mut gaps) = (0, vec![]);
            while !*stopped.borrow() {
                looks += 1;
                gaps.extend(gap(&admin, &aws, namespace, host).await);
                let _ = tokio::time::timeout(Duration::from_millis(50), stopped.changed()).await;
            }
            (looks, gaps)
        });
        Reader { stop, task }
    }
}

impl Reader {
    /// Ends it, and returns how often it looked; there was no gap.
    pub async fn finish(self) -> usize {
        self.stop.send_replace(true);
        let (looks, gaps) = self.task.await.expect("it does not panic");
        assert_eq!(gaps, Vec::<String>::new(), "of {looks} looks");
        looks
    }
}

/// What is missing now, if anything is.
async fn gap(admin: &Client, aws: &Stub, namespace: &str, host: &str) -> Option<String> {
    let now = Timestamp::now();
    let api: Api<Secret> = Api::namespaced(admin.clone(), namespace);
    let secrets = api.list(&ListParams::default()).await.expect("the admin lists secrets").items;
    let tokens = aws.minted();
    let lives = |secret: &Secret| {
        let password = password(secret, host);
        let token = tokens.iter().find(|token| Some(&token.password) == password.as_ref());
        token.and_then(|token| token.expires_at).is_some_and(|end| end > now)
    };
    let names: Vec<_> = secrets.iter().filter_map(|secret| secret.metadata.name.clone()).collect();
    (!secrets.iter().any(lives))
        .then(|| format!("{now}: {namespace} has only {names:?}, and no live token for {host}"))
}

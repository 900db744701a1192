//! Carrying out one step: the only place that writes Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::observe::{self, NamespaceRecord};
use crate::cluster::write::{Cluster, WriteError};
use crate::core::accounts::Account;
use crate::core::facts::Observed;
use crate::core::plan::{DeleteCause, Intent};
use crate::core::render::{Credential, DockerConfig, manifest, own_host};
use crate::core::request::{Accepted, Request, Target};
use crate::core::settings::Settings;
use crate::core::settle::Composition;
use crate::core::statics::tags;

/// A step that was carried out, or failed.
pub struct Act {
    /// Where.
    pub namespace: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub end: End,
}

/// What came of a step.
pub enum End {
    /// A write.
    Wrote {
        /// What was wanted.
        intent: Box<Intent>,
        /// Which tokens it took.
        fingerprint: u64,
        /// Whether every entry has a token of now.
        whole: bool,
        /// What stands there now.
        result: Result<Observed, WriteError>,
    },
    /// A service account.
    Attached {
        /// Which.
        account: Arc<str>,
        /// What it was to refer to.
        wanted: Option<Arc<str>>,
        /// How it stands, and whether it was changed; `None`: it is gone, or the Namespace as it is now speaks against it.
        result: Result<Option<(Account, bool)>, WriteError>,
    },
    /// A deletion.
    Deleted {
        /// What.
        name: Arc<str>,
        /// Why.
        cause: DeleteCause,
        /// Done; `false`: the Namespace as it is now speaks against it.
        result: Result<bool, WriteError>,
    },
}

/// Plans again with the Namespace as it is now (`None`: it asks for nothing): whether that leads to the same removal.
pub type Agreement = Box<dyn FnOnce(Option<&NamespaceRecord>) -> bool + Send>;

/// Writes what was settled.
pub async fn write(
    cluster: Cluster,
    settings: Arc<Settings>,
    namespace: Arc<str>,
    intent: Box<Intent>,
    statics: Vec<(String, Credential)>,
    made: Composition,
    whole: bool,
) -> Act {
    let start = Instant::now();
    let fingerprint = made.fingerprint;
    let result = apply(&cluster, &settings, &namespace, &intent, statics, made).await;
    Act { namespace, took: start.elapsed(), end: End::Wrote { intent, fingerprint, whole, result } }
}

async fn apply(
    cluster: &Cluster,
    settings: &Settings,
    namespace: &str,
    intent: &Intent,
    statics: Vec<(String, Credential)>,
    made: Composition,
) -> Result<Observed, WriteError> {
    let name = &*intent.granted.request.secret_name;
    let uid = intent.observed.as_ref().map(|observed| &*observed.uid);
    let mut config = DockerConfig::default();
    let kept = intent.statics.values().any(|entry| !entry.available);
    if let Some(uid) = uid.filter(|_| kept || !made.carried.is_empty()) {
        carry(&made.carried, cluster.entries(namespace, name, uid).await?, intent, &mut config);
    }
    for (target, token) in &made.fresh {
        let host = match target {
            Target::Host(registry) => Some(registry.clone()),
            Target::Own => own_host(token),
        };
        if let Some(host) = host {
            config.insert(host.to_string(), Credential::of(token));
        }
    }
    let times = made.times.ok_or_else(|| WriteError::Refused("nothing to write".to_owned()))?;
    if config.is_empty() {
        let message = "there is no entry to write: AWS named no registry of the identity's own (proxyEndpoint), name one in \
                       ecr-pull-secrets.dev/registries";
        return Err(WriteError::Refused(message.to_owned()));
    }
    for (host, credential) in statics {
        config.insert(host, credential);
    }
    let accepted = Accepted {
        request: Request::clone(&intent.granted.request),
        entries: made.entries,
        statics: tags(&intent.statics),
    };
    let body = manifest(&accepted, &config, times, uid, settings);
    cluster.apply(namespace, name, &body, uid.is_some()).await
}

/// Takes over the entries that could not be renewed. The identity's own registry is the one that no other
/// target names.
fn carry(targets: &[Target], mut standing: DockerConfig, intent: &Intent, config: &mut DockerConfig) {
    // Also what was named, and is no longer granted or asked for.
    let applied = intent.observed.as_ref().and_then(|observed| observed.applied.as_ref());
    let before = applied.into_iter().flat_map(|applied| &applied.request.registries);
    let hosts: BTreeSet<String> = intent
        .granted
        .request
        .registries
        .iter()
        .chain(before)
        .filter(|target| **target != Target::Own)
        .map(ToString::to_string)
        .collect();
    let named = |host: &str| hosts.contains(host);
    for host in intent.statics.iter().filter(|(_, entry)| !entry.available).map(|(host, _)| host) {
        if let Some(credential) = standing.take(host) {
            config.insert(host.clone(), credential);
        }
    }
    for target in targets {
        let hosts: Vec<String> = match target {
            Target::Host(registry) => vec![registry.to_string()],
            Target::Own => standing.registries().map(|r| r.to_string()).filter(|host| !named(host)).collect(),
        };
        for host in hosts {
            if let Some(credential) = standing.take(&host) {
                config.insert(host, credential);
            }
        }
    }
}

/// A fresh look at the Namespace, past every watch: whether it agrees. One that is gone or going is an error, for what
/// stands in it is the garbage collector's.
async fn look_again(
    cluster: &Cluster,
    settings: &Settings,
    namespace: &str,
    agrees: Agreement,
) -> Result<bool, WriteError> {
    let meta = cluster.namespace(namespace).await?.filter(|meta| meta.deletion_timestamp.is_none());
    let meta = meta.ok_or(WriteError::NamespaceGone)?;
    Ok(agrees(observe::namespace(&meta, settings).as_ref()))
}

/// Changes a service account; with `agrees`, only if a fresh look at the Namespace does.
pub async fn attach(
    cluster: Cluster,
    settings: Arc<Settings>,
    namespace: Arc<str>,
    account: Arc<str>,
    wanted: Option<Arc<str>>,
    agrees: Option<Agreement>,
) -> Act {
    let start = Instant::now();
    let result = async {
        if let Some(agrees) = agrees {
            match look_again(&cluster, &settings, &namespace, agrees).await {
                Ok(true) => {}
                Ok(false) | Err(WriteError::NamespaceGone) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        cluster.attach(&namespace, &account, wanted.as_deref()).await
    }
    .await;
    Act { namespace, took: start.elapsed(), end: End::Attached { account, wanted, result } }
}

/// A Secret that is to be deleted.
pub struct Deletion {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Its resource version.
    pub resource_version: u64,
    /// Why.
    pub cause: DeleteCause,
}

/// Deletes, once a fresh look at the Namespace agrees.
pub async fn delete(
    cluster: Cluster,
    settings: Arc<Settings>,
    namespace: Arc<str>,
    deletion: Deletion,
    agrees: Agreement,
) -> Act {
    let start = Instant::now();
    let Deletion { name, uid, resource_version, cause } = deletion;
    let result = async {
        if !look_again(&cluster, &settings, &namespace, agrees).await? {
            return Ok(false);
        }
        cluster.delete(&namespace, &name, &uid, resource_version).await.map(|()| true)
    }
    .await;
    Act { namespace, took: start.elapsed(), end: End::Deleted { name, cause, result } }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use jiff::Timestamp;

    use super::*;
    use crate::core::annotations::tests::{HOST, settings};
    use crate::core::facts::{Owner, WriteCause};
    use crate::core::request::tests::request_for;
    use crate::core::token::Token;

    const OWN: &str = "999999999999.dkr.ecr.eu-central-1.amazonaws.com";

    #[test]
    fn a_registry_that_is_no_longer_granted_is_not_carried_as_the_own_one() {
        let token = Token::new(STANDARD.encode("AWS:x"), Timestamp::UNIX_EPOCH, Timestamp::MAX, None);
        let token = token.expect("a token");
        let mut standing = DockerConfig::default();
        for host in [HOST, OWN] {
            standing.insert(host.into(), Credential::of(&token));
        }
        let host = Target::Host(HOST.parse().expect("a host"));
        let applied = Accepted {
            request: request_for(vec![host, Target::Own]),
            entries: vec![],
            statics: BTreeMap::new(),
        };
        let observed = Observed {
            uid: "u".into(),
            resource_version: 1,
            owner: Owner::Ours,
            intact: true,
            data_intact: true,
            immutable: false,
            times: None,
            applied: Some(Arc::new(applied)),
        };
        let (granted, _) =
            settings().grants.assign("team-a", &request_for(vec![Target::Own])).expect("granted");
        let (cause, statics) = (WriteCause::Change, BTreeMap::new());
        let intent = Intent { cause, granted, statics, observed: Some(observed) };
        let mut config = DockerConfig::default();
        carry(&[Target::Own], standing, &intent, &mut config);
        assert!(config.take(HOST).is_none() && config.take(OWN).is_some());
    }
}

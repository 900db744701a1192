//! Other clients that delete what the controller creates, and the network around it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::Value;
use testing::fault_proxy::{Action, Rule};
use testing::tenants::{INSTANCE, NAME};
use tokio::time::{sleep, timeout};

use super::{CHART, serve};
use crate::oracles::{Limits, Oracle};
use crate::world::World;

/// A deployment tool prunes every object with the label of its application, as Argo CD does by default up to 2.14. The
/// application has the name of the Helm release, which is the instance.
pub async fn pruner(world: &mut World<'_>) {
    world.observe_missing(30);
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    tokio::select! {
        () = prune(world) => {}
        () = world.watch_for(10) => {}
    }
}

async fn prune(world: &World<'_>) {
    let all: Api<Secret> = Api::all(world.cluster.admin.clone());
    let tracked = ListParams::default().labels(&format!("app.kubernetes.io/instance={INSTANCE}"));
    loop {
        sleep(Duration::from_millis(500)).await;
        for secret in all.list(&tracked).await.into_iter().flatten() {
            let namespace = secret.metadata.namespace.unwrap_or_default();
            let name = secret.metadata.name.unwrap_or_default();
            // It may be gone already.
            let _ = world.cluster.secrets(&namespace).delete(&name, &DeleteParams::default()).await;
            world.report(Oracle::Missing, &namespace, || format!("{namespace}/{name} was pruned"));
        }
    }
}

/// Another tool copies a Secret with its labels into a namespace that did not opt in, whenever the copy is gone.
pub async fn copier(world: &mut World<'_>) {
    world.observe(Limits { writes: 15, ..Limits::default() });
    world.start("first", &[]).await;
    serve(world.cluster, &["team-a"]).await;
    world.cluster.annotate("team-b", &[]).await;
    let original = world.cluster.existing_secret("team-a").await;
    let mut copy = Secret { data: original.data, type_: original.type_, ..Secret::default() };
    copy.metadata.name = original.metadata.name;
    copy.metadata.labels = original.metadata.labels;
    let api = world.cluster.secrets("team-b");
    let copies = tokio::spawn(async move {
        loop {
            // It is there already unless somebody deleted it.
            let _ = api.create(&PostParams::default(), &copy).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    world.watch_for(15).await;
    copies.abort();
}

/// A client deletes each Secret once, as soon as its watch has it. The replies to writes take 0.3 seconds.
pub async fn deleter(world: &mut World<'_>) {
    const NAMESPACES: usize = 5;
    world.observe_missing(30);
    world.start("first", &[]).await;
    let late = Action::DelayReply(Duration::from_millis(300));
    world.proxy.add(Rule::new(late).method("PATCH").path("/secrets/"));
    let admin = world.cluster.admin.clone();
    let deletes = tokio::spawn(async move {
        let all: Api<Secret> = Api::all(admin.clone());
        let params = WatchParams::default().fields(&format!("metadata.name={NAME}"));
        let mut events = all.watch(&params, "0").await.expect("a watch").boxed();
        let mut deleted = BTreeSet::new();
        while deleted.len() < NAMESPACES {
            let event = events.next().await.expect("the watch goes on").expect("an event");
            let WatchEvent::Added(secret) = event else { continue };
            let namespace = secret.metadata.namespace.unwrap_or_default();
            if deleted.insert(namespace.clone()) {
                let api: Api<Secret> = Api::namespaced(admin.clone(), &namespace);
                api.delete(NAME, &DeleteParams::default()).await.expect("the secret is deleted");
            }
        }
    });
    world.cluster.opt_in_teams(0..NAMESPACES).await;
    let deletes = timeout(Duration::from_mins(1), deletes).await.expect("it ends within a minute");
    deletes.expect("each Secret was deleted");
    world.cluster.wait_for_secrets(NAMESPACES).await;
    world.watch_for(2).await;
}

/// The network policy of the chart, and the addresses from which pods get credentials.
pub async fn network_policy(world: &mut World<'_>) {
    const NEEDED: [(u64, &str); 3] = [
        (80, "http://169.254.170.23, Pod Identity"),
        (80, "http://169.254.169.254, instance metadata"),
        (443, "the APIs of AWS"),
    ];
    let arguments = ["template", INSTANCE, CHART, "--set", "networkPolicy.enabled=true"];
    let rendered = testing::tools::run("helm", &arguments, &[]).await.expect("the chart is rendered");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).expect("YAML");
    let policy = documents.iter().find(|it| it["kind"] == "NetworkPolicy").expect("a network policy");
    let rules = policy["spec"]["egress"].as_array().expect("rules of egress");
    let allows = |port: u64| {
        let ports = rules.iter().filter_map(|rule| rule["ports"].as_array()).flatten();
        ports.filter(|it| it["protocol"] != "UDP").any(|it| it["port"] == port)
    };
    for (port, what) in NEEDED {
        if !allows(port) {
            world.report(Oracle::Egress, what, || format!("port {port} is closed: {what}"));
        }
    }
}

/// A slow and a lossy network between one replica and everything else, which recovers.
pub async fn partition(world: &mut World<'_>) {
    world.observe_missing(60);
    for name in ["first", "second"] {
        world.start(name, &["--leader-election"]).await;
    }
    serve(world.cluster, &["team-a"]).await;
    let leader = if world.cluster.holds_the_lease("first").await { "first_" } else { "second_" };
    let cut = [Action::Hang, Action::FreezeWatches].map(|it| world.proxy.add(Rule::new(it).agent(leader)));
    serve(world.cluster, &["team-b"]).await;
    cut.iter().for_each(testing::fault_proxy::ActiveRule::remove);
    serve(world.cluster, &["team-c"]).await;
    world.watch_for(3).await;
}

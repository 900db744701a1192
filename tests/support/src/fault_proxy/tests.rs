use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_mins(1);

fn config_map(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object
}

struct Bench {
    cluster: ControlPlane,
    proxy: FaultProxy,
    client: Client,
}

impl Bench {
    async fn start() -> Self {
        let cluster = ControlPlane::builder().second_apiserver(true).start().await;
        let proxy = FaultProxy::start(&cluster);
        let client = cluster.client_for(&proxy.kubeconfig(&cluster.admin_kubeconfig())).await;
        Self { cluster, proxy, client }
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        self.maps().create(&PostParams::default(), &config_map(name)).await
    }

    async fn create_directly(&self, name: &str) {
        let api: Api<ConfigMap> = Api::namespaced(self.cluster.admin(), "default");
        api.create(&PostParams::default(), &config_map(name)).await.expect("it is created");
    }

    /// Creates it, and gives up as soon as the rule has the request.
    async fn give_up(&self, name: &str, rule: &ActiveRule) {
        tokio::select! {
            reply = self.create(name) => panic!("no reply was expected: {reply:?}"),
            () = until("the request arrives", async || rule.hits() == 1) => {}
        }
    }

    /// Whether it was stored, according to the API server itself.
    async fn is_stored(&self, name: &str) -> bool {
        let api: Api<ConfigMap> = Api::namespaced(self.cluster.admin(), "default");
        api.get_opt(name).await.expect("a reply").is_some()
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "{what}");
        sleep(SECOND / 20).await;
    }
}

/// Reads events until that of this object.
async fn read_to(watch: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin), name: &str) {
    let read = async {
        loop {
            let event = watch.next().await.expect("it goes on").expect("it streams");
            if matches!(event, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some(name)) {
                return;
            }
        }
    };
    timeout(LONG, read).await.expect("the event arrives");
}

fn code<T: Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("no status: {other:?}"),
    }
}

async fn delays_and_losses(bench: &Bench) {
    let writes = |action| Rule::new(action).method("POST").path("/default/*maps");
    let hang = bench.proxy.add(writes(Action::Hang).times(1));
    bench.give_up("hangs", &hang).await;
    assert!(!bench.is_stored("hangs").await);
    bench.create("passes").await.expect("the rule is for one request");

    let late = bench.proxy.add(writes(Action::CommitLate(5 * SECOND)));
    bench.give_up("late", &late).await;
    assert!(!bench.is_stored("late").await);
    until("it is sent", async || bench.is_stored("late").await).await;
    late.remove();

    let delay = bench.proxy.add(writes(Action::DelayRequest(5 * SECOND)));
    bench.give_up("cancelled", &delay).await;
    sleep(7 * SECOND).await;
    assert!(!bench.is_stored("cancelled").await);
    delay.remove();

    let slow = bench.proxy.add(writes(Action::DelayReply(5 * SECOND)));
    let mut creation = Box::pin(bench.create("slow"));
    tokio::select! {
        reply = &mut creation => panic!("it is stored before the reply: {reply:?}"),
        () = until("it is stored", async || bench.is_stored("slow").await) => {}
    }
    creation.await.expect("the reply arrives");
    slow.remove();

    let lost = bench.proxy.add(writes(Action::DropReply));
    bench.create("lost").await.expect_err("no reply");
    assert!(bench.is_stored("lost").await);
    assert_eq!((lost.hits(), lost.commits()), (1, 1));
    lost.remove();
}

async fn refusals_and_rates(bench: &Bench) {
    let refused =
        bench.proxy.add(Rule::new(Action::Answer(Answer::status(429, Some(7)))).path("/configmaps"));
    assert_eq!(code(bench.maps().list(&ListParams::default()).await), 429);
    refused.remove();
    let exchange = bench.proxy.exchanges().pop().expect("the list");
    assert_eq!((exchange.status, exchange.retry_after), (Some(429), Some(7)));
    assert!(exchange.ended.is_some(), "it is complete");

    let serial = bench.proxy.add(Rule::new(Action::PerSecond(10)).path("/configmaps"));
    let start = Instant::now();
    let params = ListParams::default();
    let maps = bench.maps();
    futures::future::join_all((0..5).map(|_| maps.list(&params))).await;
    assert!(start.elapsed() >= SECOND * 4 / 10, "{:?}", start.elapsed());
    serial.remove();
    bench.proxy.set_latency(SECOND / 5);
    let start = Instant::now();
    maps.list(&params).await.expect("a reply");
    assert!(start.elapsed() >= SECOND / 5, "{:?}", start.elapsed());
    bench.proxy.clear();
}

async fn frozen_watches(bench: &Bench) {
    let maps = bench.maps();
    let mut watch = Box::pin(maps.watch(&WatchParams::default(), "0").await.expect("a watch"));
    bench.create_directly("seen").await;
    read_to(&mut watch, "seen").await;
    let frozen = bench.proxy.add(Rule::new(Action::FreezeOpenWatches).path("/configmaps?*watch=true"));
    bench.create_directly("unseen").await;
    assert!(timeout(SECOND / 2, watch.next()).await.is_err(), "it is silent");
    assert_eq!(bench.proxy.overdue(SECOND * 9, Duration::ZERO).len(), 1);
    let mut other = Box::pin(maps.watch(&WatchParams::default(), "0").await.expect("a watch"));
    // A new one is not concerned.
    bench.create_directly("seen-by-other").await;
    read_to(&mut other, "seen-by-other").await;
    frozen.remove();
    assert!(!matches!(watch.next().await, Some(Ok(_))), "its connection ends with the rule");
    bench.proxy.close_watches();
    assert!(!matches!(other.next().await, Some(Ok(_))), "closed");
}

async fn a_stale_server(bench: &Bench) {
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    let any = ListParams::default().match_any();
    bench.cluster.storage_link().freeze();
    bench.cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: later}}").await;
    let stale = bench.proxy.add(Rule::new(Action::ToSecond).method("GET"));
    let has_it = async || {
        let list = namespaces.list(&any).await.expect("a reply from the cache of the server");
        list.items.iter().any(|item| item.metadata.name.as_deref() == Some("later"))
    };
    assert!(!has_it().await, "it does not have the namespace yet");
    bench.cluster.storage_link().thaw();
    until("it catches up", has_it).await;
    assert!(stale.hits() >= 2);
    stale.remove();
}

#[tokio::test]
async fn each_rule_does_what_it_is_for_to_the_requests_that_it_matches() {
    if !crate::real_cluster() {
        return;
    }
    let mut bench = Bench::start().await;
    delays_and_losses(&bench).await;
    refusals_and_rates(&bench).await;
    frozen_watches(&bench).await;
    a_stale_server(&bench).await;
    bench.cluster.save_storage().await;
    bench.create("after-the-copy").await.expect("it is created through a new connection");
    bench.cluster.restore_storage().await;
    assert!(!bench.is_stored("after-the-copy").await, "etcd is as it was");
    assert!(bench.is_stored("slow").await);
    let proxied = bench.proxy.exchanges();
    assert!(proxied.iter().all(|it| it.ended.is_some()), "nothing is open: {proxied:#?}");
}

#[test]
fn a_path_matches_when_it_contains_the_pieces_in_their_order() {
    let get = hyper::Method::GET;
    let rule = Rule::new(Action::Hang).path("/secrets?*watch=true").agent("first_");
    let matches = |path| rule.matches(&get, path, "program (first_123)");
    assert!(matches("/api/v1/secrets?fieldSelector=a&watch=true"));
    assert!(!matches("/api/v1/secrets?fieldSelector=a"));
    assert!(!matches("/watch=true/secrets?"));
    assert!(!rule.matches(&get, "/secrets?watch=true", "program (second_123)"));
    assert!(!rule.method("PATCH").matches(&get, "/secrets?watch=true", "(first_1)"));
}

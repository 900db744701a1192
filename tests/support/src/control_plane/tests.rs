use super::*;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ListParams};

const OBJECTS: &str = "
# Comments only.
---
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: team-a}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody, namespace: team-a}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [secrets], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: team-a}]
";

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("the API server did not answer: {other}"),
    }
}

#[tokio::test]
async fn rights_restarts_and_the_audit_log_are_real() {
    if !crate::real_cluster() {
        return;
    }
    let start = Instant::now();
    let mut cluster = ControlPlane::start().await;
    println!("started in {:?}", start.elapsed());
    cluster.apply(OBJECTS).await;
    cluster.apply(OBJECTS).await;

    let reader = cluster.client_for(&cluster.kubeconfig_for("team-a", "reader").await).await;
    let nobody = cluster.client_for(&cluster.kubeconfig_for("team-a", "nobody").await).await;
    let secrets: Api<Secret> = Api::all(nobody);
    assert_eq!(code(&secrets.list(&ListParams::default()).await.expect_err("forbidden")), 403);
    let secrets: Api<Secret> = Api::all(reader);
    // The authorizer learns of a new binding by a watch of its own.
    let deadline = Instant::now() + START;
    while let Err(error) = secrets.list(&ListParams::default()).await {
        assert_eq!(code(&error), 403);
        assert!(Instant::now() < deadline, "the binding never counts");
    }

    let start = Instant::now();
    cluster.stop_apiserver().await;
    println!("stopped in {:?}", start.elapsed());
    let error = secrets.list(&ListParams::default()).await.expect_err("nothing listens");
    assert!(!matches!(error, kube::Error::Api(_)), "{error}");
    let start = Instant::now();
    cluster.start_apiserver().await;
    println!("started again in {:?}", start.elapsed());
    secrets.list(&ListParams::default()).await.expect("a token from before the restart counts");
    Api::<Namespace>::all(cluster.admin()).get("team-a").await.expect("what was there before the restart");

    let lists: Vec<AuditEntry> = cluster.audit().into_iter().filter(|entry| entry.verb == "list").collect();
    let by = |user: &str, code| {
        lists.iter().filter(|entry| entry.user.ends_with(user) && entry.code == code).count()
    };
    assert_eq!((by("team-a:nobody", 403), by("team-a:reader", 200)), (1, 2), "{lists:#?}");
    assert!(lists.iter().all(|entry| !entry.user.ends_with("team-a:reader") || entry.resource == "secrets"));
}

#[tokio::test]
async fn the_controller_manager_finishes_what_the_api_server_begins() {
    if !crate::real_cluster() {
        return;
    }
    let start = Instant::now();
    let cluster = ControlPlane::builder().controller_manager(true).start().await;
    println!("started with controller manager in {:?}", start.elapsed());
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: team-a}}").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.admin(), "team-a");
    let deadline = Instant::now() + START;
    while accounts.get("default").await.is_err() {
        assert!(Instant::now() < deadline, "no default service account");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    namespaces.delete("team-a", &DeleteParams::default()).await.expect("a namespace can be deleted");
    while namespaces.get_opt("team-a").await.expect("an answer").is_some() {
        assert!(Instant::now() < deadline, "the namespace never goes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that a control plane has this minor version, and keeps objects while its storage restarts.
async fn assert_starts(kubernetes: Kubernetes, minor: u32) {
    if !crate::real_cluster() {
        return;
    }
    let mut cluster = ControlPlane::builder().kubernetes(kubernetes).start().await;
    let answer = cluster.admin().apiserver_version().await.expect("an answer to /version");
    assert_eq!((&*answer.major, &*answer.minor), ("1", &*minor.to_string()), "{}", answer.git_version);
    assert_eq!(kubernetes.minor().await, minor);
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: team-a}}").await;
    cluster.save_storage().await;
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: team-b}}").await;
    cluster.restore_storage().await;
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    namespaces.get("team-a").await.expect("it was there when the storage was copied");
    assert_eq!(namespaces.get_opt("team-b").await.expect("an answer"), None, "it came later");
}

#[tokio::test]
#[ignore = "builds another kube-apiserver, which takes minutes: make conformance runs it"]
async fn the_oldest_api_server_starts() {
    assert_starts(Kubernetes::Oldest, 30).await;
}

#[tokio::test]
#[ignore = "builds another kube-apiserver, which takes minutes: make conformance runs it"]
async fn the_newest_api_server_starts() {
    assert_starts(Kubernetes::Newest, 37).await;
}

#[tokio::test]
#[ignore = "builds kine, which takes minutes: make conformance runs it"]
async fn an_api_server_on_kine_starts() {
    assert_starts(Kubernetes::Kine, 36).await;
}

#[test]
fn a_second_copy_of_the_storage_keeps_no_file_of_the_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [storage, saved] = ["storage", "saved"].map(|name| folder.path().join(name));
    let segment = |root: &Path, number: u32| root.join("wal").join(number.to_string());
    std::fs::create_dir_all(storage.join("wal")).expect("a folder");
    for number in [1, 2] {
        std::fs::write(segment(&storage, number), "log").expect("a segment");
        replace(&saved, &storage);
        std::fs::remove_file(segment(&storage, number)).expect("etcd removes old segments");
    }
    assert!(!segment(&saved, 1).exists(), "the copy has a gap");
    assert!(segment(&saved, 2).exists());
}

//! The start on k3s, as its document prints it, on a real API server: each command that needs neither a node nor AWS. A
//! control plane without nodes runs no pod, so the program runs here, with the arguments, the configuration and the
//! credential of the installed Deployment.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use testing::aws::Stub;
use testing::control_plane::ControlPlane;
use testing::documents;
use testing::process::Process;
use testing::tenants::{HOST, INSTANCE, NAME, Tenants, live_token};

const DOCUMENT: &str = include_str!("../../docs/start-k3s.md");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a block in the folder of the project, as an admin: its output.
async fn run(control_plane: &ControlPlane, block: &str) -> String {
    // Helm would wait for a pod, which has no node here.
    let block = block.replace(" --wait", "");
    documents::run(control_plane, Path::new(REPOSITORY), &block).await
}

#[tokio::test]
async fn the_start_on_k3s_leads_to_a_secret_and_an_accepted_pod() {
    if !testing::real_cluster() {
        return;
    }
    let control_plane = ControlPlane::builder().controller_manager(true).start().await;
    let aws = Stub::start().await;
    let tenants = Tenants::new(control_plane.admin());
    let commands = documents::texts(DOCUMENT, "sh");
    let [
        image,
        user,
        install,
        opt_in,
        look,
        start,
        state,
        renew,
        events,
        check,
        key,
        cleanup,
        remove,
        no_user,
    ] = &commands[..]
    else {
        panic!("{} blocks of commands: say here which run", commands.len());
    };
    assert!(image.starts_with("make image\nk3s ctr"), "the tests of the image run the first: {image}");
    for aws in [user, no_user] {
        assert!(aws.starts_with("aws iam"), "only AWS itself can run this: {aws}");
    }
    for exec in [state, check] {
        assert!(exec.starts_with("kubectl exec"), "only a node can run this: {exec}");
    }
    assert!(cleanup.starts_with("helm upgrade"), "only a node can run the job: {cleanup}");

    run(&control_plane, install).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let controller = controller(&control_plane, &aws, folder.path()).await;
    run(&control_plane, opt_in).await;
    let secret = tenants.wait_for_secret("team-a").await;
    assert!(live_token(&aws, &secret, HOST).is_some());
    assert!(run(&control_plane, look).await.contains("kubernetes.io/dockerconfigjson"));

    let accounts: Api<ServiceAccount> = Api::namespaced(control_plane.admin(), "team-a");
    let referred = async || {
        let account = accounts.get_opt("default").await.expect("the API server responds")?;
        account.image_pull_secrets?.into_iter().any(|secret| secret.name == NAME).then_some(())
    };
    tenants.wait_for("the reference in the service account", referred).await;

    // The admission plugin may see the reference later.
    let pods: Api<Pod> = Api::namespaced(control_plane.admin(), "team-a");
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let probe: Pod = serde_json::from_value(probe).expect("a pod");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let added = async || {
        let pod = pods.create(&dry, &probe).await.expect("a pod");
        pod.spec.is_some_and(|spec| spec.image_pull_secrets.is_some())
    };
    tenants.wait_until("the reference in a pod", added).await;

    run(&control_plane, start).await;
    let [pod] = &documents::texts(DOCUMENT, "yaml")[..] else { panic!("one pod") };
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: other, namespace: team-a}}\n{pod}");
    control_plane.apply(&pod).await;
    for name in ["app", "other"] {
        let pod = pods.get(name).await.expect("a pod");
        let secrets = pod.spec.expect("a spec").image_pull_secrets.unwrap_or_default();
        assert_eq!(secrets.iter().map(|secret| &*secret.name).collect::<Vec<_>>(), [NAME], "{name}");
    }

    // The issue time on the Secret is in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    run(&control_plane, renew).await;
    let renewed = async || run(&control_plane, events).await.contains("SecretRenewed").then_some(());
    tenants.wait_for("the Event of the renewal", renewed).await;
    run(&control_plane, key).await;

    drop(controller);
    run(&control_plane, remove).await;
}

/// Runs the program as the pod of the installed Deployment would.
async fn controller(control_plane: &ControlPlane, aws: &Stub, folder: &Path) -> Process {
    let deployments: Api<Deployment> = Api::namespaced(control_plane.admin(), INSTANCE);
    let deployment = deployments.get(INSTANCE).await.expect("the Deployment");
    let pod = deployment.spec.expect("a spec").template.spec.expect("a pod");
    let container = &pod.containers[0];
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let mut secrets = sources.filter_map(|source| source.secret_key_ref.as_ref());
    assert!(secrets.any(|secret| secret.name == "aws"), "the pod has the key of the Secret");
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.admin(), INSTANCE);
    let map = maps.get(INSTANCE).await.expect("the ConfigMap");
    let config = folder.join("config.yaml");
    std::fs::write(&config, &map.data.expect("data")["config.yaml"]).expect("a file");
    let kubeconfig =
        control_plane.kubeconfig_for(INSTANCE, pod.service_account_name.as_deref().expect("a name")).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-pull-secrets"));
    command
        .args(container.args.iter().flatten())
        .arg("--config")
        .arg(config)
        .args(["--listen", "127.0.0.1:0"]);
    // The stub has keys of its own.
    command.env_clear().envs(aws.env()).env("ECR_PULL_SECRETS_KUBECONFIG", kubeconfig);
    command.env("ECR_PULL_SECRETS_NAMESPACE", INSTANCE);
    Process::spawn("controller", &command, folder)
}

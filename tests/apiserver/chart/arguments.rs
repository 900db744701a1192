//! The program with the arguments of the chart.

use testing::ports::Port;
use testing::tenants::INSTANCE;

use super::{one, render, value_files};
use crate::harness::cluster_test;

/// A mistake in them, such as a flag of the chart that `extraArgs` repeats, ends the pod at its start.
#[test]
fn the_program_runs_with_the_arguments_of_every_value_file() {
    cluster_test(async |cluster| {
        // The rights and the names of the Leases differ from file to file.
        cluster.kubeconfig = cluster.control_plane.admin_kubeconfig();
        for file in value_files() {
            let file = file.display().to_string();
            let objects = render(&["--values", &file]).await.unwrap_or_else(|said| panic!("{file}: {said}"));
            let args =
                one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"].clone();
            let args: Vec<String> = serde_json::from_value(args).expect("arguments");
            let (command, flags) = args.split_first().expect("a subcommand");
            assert_eq!(command, "controller");
            let map = objects
                .iter()
                .find(|object| object["kind"] == "ConfigMap" && object["data"]["config.yaml"].is_string());
            let config = map.map_or("{}", |map| map["data"]["config.yaml"].as_str().expect("a file"));
            // Outside a pod, this is the namespace of the Lease, without which the controller is not ready.
            let instance =
                config.lines().find_map(|line| line.strip_prefix("instance: ")).unwrap_or(INSTANCE);
            let instance = instance.trim_matches('"');
            let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {instance}}}}}");
            cluster.control_plane.apply(&namespace).await;
            let config = format!("--config={}", cluster.config(config));
            // The last one wins.
            let port = Port::claim();
            let listen = format!("--listen=127.0.0.1:{}", port.number());
            let flags: Vec<&str> = flags.iter().map(String::as_str).chain([&*config, &*listen]).collect();
            cluster.run_controller_with(&flags).await;
            cluster.stop_controller().await;
        }
    });
}

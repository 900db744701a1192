//! skopeo, crane, Helm and curl with registries that demand the token of one principal each.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testing::aws::Stub;
use testing::registry::Registry;
use testing::tools;
use testing::tunnel::Tunnel;

use crate::harness::{Ended, HOST, Home, OTHER_HOST, THIRD_HOST, finish};
use crate::profiles::{CONFIG, DEV, PROD, ROLE, with_profiles};

const DOCKER: &str = ".docker/config.json";
const IMAGE: &str = "team-a/app:1";

/// Three registries, each with the token of one principal, the programs that pull from them, and a chart.
struct World {
    home: Home,
    registries: Vec<Registry>,
    _tunnel: Tunnel,
    crane: PathBuf,
    skopeo: PathBuf,
    helm: PathBuf,
}

const HOSTS: [&str; 3] = [HOST, OTHER_HOST, THIRD_HOST];

impl World {
    async fn start() -> Self {
        let aws = Stub::start().await;
        let mut registries = vec![];
        for (number, (host, principal)) in HOSTS.into_iter().zip([DEV, PROD, ROLE]).enumerate() {
            let password = format!("password-{number}-{}", "x".repeat(1_000));
            aws.set_password_for(principal, &password);
            registries.push(Registry::start_for(&[host], &password).await);
        }
        let mut home = with_profiles(aws);
        home.configure(CONFIG);
        let named: Vec<_> = HOSTS.into_iter().zip(&registries).collect();
        let tunnel = Tunnel::start(&named);
        let ca: String = registries.iter().map(|registry| registry.authority().pem()).collect();
        let ca = home.write("ca.crt", &ca);
        for (name, value) in [
            ("HTTPS_PROXY", tunnel.url()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("SSL_CERT_FILE", ca.display().to_string()),
        ] {
            home.set(name, &value);
        }
        let crane = tools::folder("crane").await.join("crane");
        let skopeo = tools::folder("skopeo").await.join("skopeo");
        let helm = tools::folder("helm").await.join("helm");
        let world = Self { home, registries, _tunnel: tunnel, crane, skopeo, helm };
        world.fill();
        world
    }

    /// Pushes an image and a chart to each registry.
    fn fill(&self) {
        let files: [(&str, &str); 2] = [
            ("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
            ("chart/templates/x.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n"),
        ];
        std::fs::create_dir_all(self.home.path("chart/templates")).expect("a folder");
        for (name, text) in files {
            self.home.write(name, text);
        }
        self.helm(&["package", "chart"]).ok();
        run(self.home.command("tar"), &["--create", "--file", "layer.tar", "chart"]).ok();
        self.use_helper();
        for host in HOSTS {
            self.crane(&["append", "--new_layer", "layer.tar", "--new_tag", &format!("{host}/{IMAGE}")]).ok();
            self.helm(&["push", "app-1.0.0.tgz", &format!("oci://{host}/charts")]).ok();
        }
        self.log_out();
    }

    fn use_helper(&self) {
        let helpers: serde_json::Map<_, _> =
            HOSTS.iter().map(|host| ((*host).to_owned(), json!("ecr-pull-secrets"))).collect();
        self.home.write(DOCKER, &json!({"credHelpers": helpers}).to_string());
    }

    fn log_out(&self) {
        self.home.write(DOCKER, "{}");
    }

    fn crane(&self, args: &[&str]) -> Ended {
        run(self.home.command(&self.crane), args)
    }

    fn helm(&self, args: &[&str]) -> Ended {
        run(self.home.command(&self.helm), args)
    }

    fn skopeo(&self, args: &[&str]) -> Ended {
        run(self.home.command(&self.skopeo), args)
    }

    /// Pulls with crane and with skopeo.
    fn pull(&self, host: &str) -> [Ended; 2] {
        let _ = std::fs::remove_dir_all(self.home.path("pulled"));
        let image = format!("{host}/{IMAGE}");
        let skopeo = ["--insecure-policy", "copy", &format!("docker://{image}"), "dir:pulled"];
        [self.crane(&["pull", &image, "image.tar"]), self.skopeo(&skopeo)]
    }

    fn assert_pulls(&self) {
        for host in HOSTS {
            self.pull(host).into_iter().for_each(|ended| drop(ended.ok()));
        }
    }

    fn assert_logged_out(&self) {
        for host in HOSTS {
            for ended in self.pull(host) {
                assert!(ended.code != Some(0), "without a credential: {ended:?}");
            }
        }
    }

    /// The principals of the tokens since the last call.
    fn principals(&self, seen: &mut usize) -> Vec<String> {
        let new = self.home.aws.minted().split_off(*seen);
        *seen += new.len();
        new.into_iter().map(|token| token.role.unwrap_or(token.principal)).collect()
    }
}

fn run(mut command: Command, args: &[&str]) -> Ended {
    command.args(args);
    finish(command, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pull_with_the_helper_with_the_profile_or_role_of_each_registry() {
    let world = World::start().await;
    world.assert_logged_out();
    let mut seen = world.home.aws.minted().len();
    world.use_helper();
    world.assert_pulls();
    let mut principals = world.principals(&mut seen);
    principals.dedup();
    assert_eq!(principals, [DEV, PROD, ROLE]);
    for host in HOSTS {
        world.helm(&["pull", &format!("oci://{host}/charts/app"), "--version", "1.0.0"]).ok();
    }
    let mut principals = world.principals(&mut seen);
    principals.dedup();
    assert_eq!(principals, [DEV, PROD, ROLE]);
    // As the store of every registry; the libraries of skopeo do not read this field.
    world.home.write(DOCKER, r#"{"credsStore": "ecr-pull-secrets"}"#);
    let [crane, _] = world.pull(HOST);
    crane.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pull_after_login() {
    let mut world = World::start().await;
    world.home.run(&[&["login"], &HOSTS[..]].concat()).ok();
    world.assert_pulls();
    for host in HOSTS {
        world.helm(&["pull", &format!("oci://{host}/charts/app"), "--version", "1.0.0"]).ok();
    }
    // A new password, as after 12 hours.
    world.registries[0].set_password("another");
    assert!(world.pull(HOST).into_iter().all(|ended| ended.code != Some(0)));
    world.log_out();
    let auth_file = world.home.path("auth.json").display().to_string();
    world.home.set("REGISTRY_AUTH_FILE", &auth_file);
    world.home.run(&["login", OTHER_HOST]).ok();
    let [_, skopeo] = world.pull(OTHER_HOST);
    skopeo.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_log_in_with_the_password_on_standard_input() {
    let world = World::start().await;
    let log_in = |host: &str, login: String| {
        let mut command = world.home.command("bash");
        command.args(["-o", "pipefail", "-c"]);
        command.arg(format!("ecr-pull-secrets login-password --registry {host} | {login} --username AWS --password-stdin {host}"));
        finish(command, "").ok()
    };
    for host in HOSTS {
        log_in(host, format!("{} auth login", world.crane.display()));
        world.crane(&["pull", &format!("{host}/{IMAGE}"), "image.tar"]).ok();
        world.log_out();
        log_in(host, format!("{} login --authfile auth.json", world.skopeo.display()));
        let image = format!("docker://{host}/{IMAGE}");
        let _ = std::fs::remove_dir_all(world.home.path("pulled"));
        world.skopeo(&["--insecure-policy", "copy", "--authfile", "auth.json", &image, "dir:pulled"]).ok();
        assert!(world.home.path("pulled/manifest.json").exists(), "skopeo pulled the image");
        log_in(host, format!("{} registry login", world.helm.display()));
        world.helm(&["pull", &format!("oci://{host}/charts/app"), "--version", "1.0.0"]).ok();
    }
}

/// The example of <https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html#registry_auth_http>.
#[tokio::test(flavor = "multi_thread")]
async fn the_http_api_accepts_the_token_as_in_the_documentation_of_aws() {
    let world = World::start().await;
    let tags = |token: &str| {
        let mut command = world.home.command("bash");
        let script = format!(
            "TOKEN={token}; curl -sS -H \"Authorization: Basic $TOKEN\" https://{OTHER_HOST}/v2/team-a/app/tags/list"
        );
        // OpenSSL tells authorities apart by their names, and all of them have one name.
        command.args(["-c", &script]).env("CURL_CA_BUNDLE", world.registries[1].ca_file());
        let text = finish(command, "").ok();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let token = format!("$(ecr-pull-secrets token --registry {OTHER_HOST})");
    assert_eq!(tags(&token), json!({"name": "team-a/app", "tags": ["1"]}));
    assert_eq!(tags("QVdTOng=")["errors"][0]["code"], "UNAUTHORIZED");
}

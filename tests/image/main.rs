//! The archive that `deploy/image/archive` writes for two platforms.
//!
//! Both programs are stand-ins: nothing can be built for arm64 where these tests usually run, and a release build takes
//! minutes. That the real program starts from its image is shown by the tests on a node, which import the archive of
//! `make image`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod release;

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");
const PLATFORMS: [(&str, u16); 2] = [("amd64", 62), ("arm64", 183)];
const VARIABLES: [(&str, &str); 3] = [
    ("IMAGE", "registry.example.com/team/ecr-pull-secrets"),
    ("SOURCE", "https://git.example.com/ecr-pull-secrets"),
    ("REVISION", "0123456789abcdef0123456789abcdef01234567"),
];
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An ELF file with one program header of a type, as `elf(5)` describes it: 3 is a dynamic loader.
fn elf(machine: u16, header: u8) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32] = 64; // The offset of the program headers,
    file[54] = 56; // the size of one,
    file[56] = 1; // and their number.
    file[64] = header;
    file
}

/// Runs the script of `sources` with a target folder of this name, on files of this content.
fn run(sources: &Path, target: &str, programs: &[Vec<u8>], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077 && exec deploy/image/archive \"$@\"", "sh"]).current_dir(sources);
    for (number, program) in programs.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        fs::write(&path, program).expect("a temporary folder takes files");
        command.arg(path);
    }
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join(target));
    command.env_remove("SOURCE_DATE_EPOCH").envs(variables.iter().copied());
    command.output().expect("the script starts")
}

/// The path of the archive, from the script's only line.
fn written(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What tar prints about an archive.
fn tar(arguments: &[&str], archive: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("--file").arg(archive).args(arguments).env("TZ", "UTC").output();
    let output = output.expect("tar starts");
    assert!(output.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |sum, byte| format!("{sum}{byte:02x}"))
}

struct Image {
    archive: PathBuf,
    index: Value,
}

impl Image {
    /// Written once for all tests.
    fn get() -> &'static Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(|| {
            let programs = PLATFORMS.map(|(_, machine)| elf(machine, 1));
            let archive = written(&run(Path::new(SOURCES), "image", &programs, &VARIABLES));
            let layout = tar(&["--extract", "--to-stdout", "index.json"], &archive);
            let layout = serde_json::from_slice(&layout).expect("JSON");
            Image { archive, index: layout }
        })
    }

    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let sum = descriptor["digest"].as_str().expect("a digest");
        let name = format!("blobs/{}", sum.replace(':', "/"));
        let content = tar(&["--extract", "--to-stdout", &name], &self.archive);
        assert_eq!(digest(&content), sum);
        assert_eq!(descriptor["size"], content.len());
        content
    }

    fn document(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&self.blob(descriptor)).expect("JSON")
    }

    /// The only image of the archive: an index of platforms.
    fn platforms(&self) -> Vec<Value> {
        let [image] = self.index["manifests"].as_array().expect("a list").as_slice() else {
            panic!("one image: {}", self.index);
        };
        assert_eq!(image["mediaType"], INDEX);
        self.document(image)["manifests"].as_array().expect("a list").clone()
    }

    fn manifests(&self) -> Vec<Value> {
        self.platforms().iter().map(|platform| self.document(platform)).collect()
    }

    /// The layer of the first platform, as a file that lasts as long as the value.
    fn layer(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), self.blob(&self.manifests()[0]["layers"][0])).expect("a file");
        file
    }

    fn text(&self, name: &str) -> String {
        let content = tar(&["--gzip", "--extract", "--to-stdout", name], self.layer().path());
        String::from_utf8(content).expect("text")
    }
}

#[test]
fn one_index_has_a_manifest_for_each_platform() {
    let image = Image::get();
    let platforms: Vec<Value> = image.platforms().iter().map(|one| one["platform"].clone()).collect();
    let expected = PLATFORMS.map(|(name, _)| json!({"architecture": name, "os": "linux"}));
    assert_eq!(platforms, expected);
    let version = env!("CARGO_PKG_VERSION");
    let annotations = &image.index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], format!("{}:{version}", VARIABLES[0].1));
    assert_eq!(annotations["org.opencontainers.image.ref.name"], version);
}

#[test]
fn the_config_runs_the_program_as_a_user_by_number() {
    let image = Image::get();
    for (manifest, (architecture, _)) in image.manifests().iter().zip(PLATFORMS) {
        let config = image.document(&manifest["config"]);
        assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(architecture)));
        let run = &config["config"];
        assert_eq!(run["Entrypoint"], json!(["/ecr-pull-secrets"]));
        assert_eq!(run["Cmd"], Value::Null);
        assert_eq!(run["User"], "65532:65532");
        assert_eq!(run["Env"], json!(["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]));
        assert_eq!(run["WorkingDir"], "/");
    }
}

#[test]
fn labels_and_annotations_name_the_sources() {
    let image = Image::get();
    let expected = json!({
        "org.opencontainers.image.title": "ecr-pull-secrets",
        "org.opencontainers.image.description": env!("CARGO_PKG_DESCRIPTION"),
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": VARIABLES[1].1,
        "org.opencontainers.image.revision": VARIABLES[2].1,
    });
    for manifest in image.manifests() {
        assert_eq!(manifest["annotations"], expected);
        assert_eq!(image.document(&manifest["config"])["config"]["Labels"], expected);
    }
}

#[test]
fn the_layer_has_files_of_root_without_a_time() {
    let image = Image::get();
    let arguments = ["--gzip", "--list", "--verbose", "--numeric-owner", "--full-time"];
    let listing = String::from_utf8(tar(&arguments, image.layer().path())).expect("text");
    let entries: Vec<String> = listing
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            assert_eq!((fields[1], fields[3], fields[4]), ("0/0", "1970-01-01", "00:00:00"), "{line}");
            format!("{} {}", fields[0], fields[5])
        })
        .collect();
    let expected = [
        "-rwxr-xr-x ecr-pull-secrets",
        "drwxr-xr-x etc/",
        "drwxr-xr-x etc/ssl/",
        "drwxr-xr-x etc/ssl/certs/",
        "-rw-r--r-- etc/ssl/certs/ca-certificates.crt",
        "drwxr-xr-x licenses/",
        "-rw-r--r-- licenses/crates.txt",
        "-rw-r--r-- licenses/glibc.txt",
        "-rw-r--r-- licenses/rust-standard-library.html",
    ];
    assert_eq!(entries, expected);
    for (manifest, (_, machine)) in image.manifests().iter().zip(PLATFORMS) {
        let layer = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(layer.path(), image.blob(&manifest["layers"][0])).expect("a file");
        let program = tar(&["--gzip", "--extract", "--to-stdout", "ecr-pull-secrets"], layer.path());
        assert_eq!(program, elf(machine, 1));
    }
}

#[test]
fn the_licences_of_what_is_linked_are_in_the_layer() {
    let image = Image::get();
    let crates = image.text("licenses/crates.txt");
    for (package, license) in [
        (concat!("ecr-pull-secrets v", env!("CARGO_PKG_VERSION")), "(Apache-2.0)"),
        ("aws-sdk-ecr v", "(Apache-2.0)"),
        // Without a text of its own.
        ("kube v", "(Apache-2.0)"),
        ("ring v", "(Apache-2.0 AND ISC)"),
        ("webpki-root-certs v", "(CDLA-Permissive-2.0)"),
    ] {
        let named =
            |line: &str| line.trim_start_matches("==== ").starts_with(package) && line.ends_with(license);
        assert!(crates.lines().any(named), "{package} is missing");
    }
    for text in ["Apache License", "the fiat-crypto authors", "Community Data License Agreement"] {
        assert!(crates.contains(text), "{text} is missing");
    }
    assert!(image.text("licenses/glibc.txt").contains("GNU LESSER GENERAL PUBLIC LICENSE"));
    let library = image.text("licenses/rust-standard-library.html");
    assert!(library.contains("Copyright notices for The Rust Standard Library"));
}

#[test]
fn the_programs_own_reader_takes_the_roots() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundle = folder.path().join("roots.pem");
    fs::write(&bundle, Image::get().text("etc/ssl/certs/ca-certificates.crt")).expect("a file");
    let roots = rustls_native_certs::load_certs_from_paths(Some(&bundle), None).expect("a readable file");
    assert!(roots.len() > 100, "{}", roots.len());
    let sums: Vec<String> = roots.iter().map(|root| digest(root)).collect();
    // The fingerprints that Amazon Trust Services publishes of its roots.
    for (name, fingerprint) in [
        ("Amazon Root CA 1", "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"),
        ("Amazon Root CA 2", "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4"),
        ("Amazon Root CA 3", "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4"),
        ("Amazon Root CA 4", "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092"),
    ] {
        assert!(sums.iter().any(|sum| sum.ends_with(fingerprint)), "{name} is missing");
    }
}

#[test]
fn a_copy_of_the_sources_gives_the_same_archive() {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let copy = copy.path().join("another place");
    fs::create_dir(&copy).expect("a folder");
    for entry in fs::read_dir(SOURCES).expect("the sources") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            let copied = Command::new("cp").arg("-r").arg(entry.path()).arg(&copy).status();
            assert!(copied.expect("cp starts").success());
        }
    }
    // In the other order.
    let programs = [elf(183, 1), elf(62, 1)];
    let archive = written(&run(&copy, "image copy", &programs, &VARIABLES));
    let same =
        fs::read(archive).expect("the archive") == fs::read(&Image::get().archive).expect("the archive");
    assert!(same, "the archives differ");
}

#[test]
fn programs_and_names_that_make_no_image_are_rejected() {
    let programs = |list: &[Vec<u8>], name: &str| {
        let output = run(Path::new(SOURCES), "image", list, &[("IMAGE", name), VARIABLES[2]]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let name = VARIABLES[0].1;
    assert!(programs(&[elf(62, 3)], name).contains("is not static"));
    assert!(programs(&[elf(243, 1)], name).contains("is not an ELF program for x86_64 or aarch64"));
    assert!(programs(&[elf(62, 1), elf(62, 1)], name).contains("two programs are for linux/amd64"));
    assert!(programs(&[], name).contains("usage"));
    for bad in ["a", "library/a", "docker.io/", "docker.io/a:1", "docker.io/a@sha256:0", "a.b/c d"] {
        assert!(programs(&[elf(62, 1)], bad).contains("expected HOST/PATH"), "{bad}");
    }
}

//! The archive that `make image` wrote, read with the crate oci-spec, which had no part in writing it.
//!
//! Without the archive these tests are skipped, and say so.

mod archive;
mod runs;

use std::fs;

use oci_spec::image::{Arch, MediaType, Os};

use crate::archive::{Archive, digest};

#[test]
fn it_is_a_layout_of_one_image() {
    let Some(archive) = Archive::open() else { return };
    let names: Vec<&str> = archive.files.keys().map(String::as_str).collect();
    let blobs = names.iter().filter(|name| name.starts_with("blobs/sha256/")).count();
    assert_eq!((names.len(), blobs), (5, 3), "{names:?}");
    assert_eq!(archive.files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);

    let index = archive.index();
    assert_eq!(index.schema_version(), 2);
    assert_eq!(index.media_type(), &Some(MediaType::ImageIndex));
    let [descriptor] = index.manifests().as_slice() else { panic!("one manifest: {index:?}") };
    assert_eq!(descriptor.media_type(), &MediaType::ImageManifest);
    let platform = descriptor.platform().as_ref().expect("a platform");
    assert_eq!((platform.os(), platform.architecture()), (&Os::Linux, &Arch::default()));
}

#[test]
fn its_name_is_that_for_containerd_and_the_tag_for_others() {
    let Some(archive) = Archive::open() else { return };
    let index = archive.index();
    let annotations = index.manifests()[0].annotations().as_ref().expect("annotations");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], archive.version);
    let name = &annotations["io.containerd.image.name"];
    assert!(name.ends_with(&format!("/ecr-pull-secrets:{}", archive.version)), "{name}");
}

#[test]
fn every_blob_is_what_its_name_and_its_descriptor_say() {
    let Some(archive) = Archive::open() else { return };
    for (name, content) in &archive.files {
        if let Some(name) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(format!("sha256:{name}"), digest(content));
        }
    }
    let manifest = archive.manifest();
    let index = archive.index();
    let [layer] = manifest.layers().as_slice() else { panic!("one layer: {manifest:?}") };
    for descriptor in [&index.manifests()[0], manifest.config(), layer] {
        assert_eq!(archive.blob(descriptor.digest()).len() as u64, descriptor.size());
    }
    assert_eq!(manifest.config().media_type(), &MediaType::ImageConfig);
    assert_eq!(layer.media_type(), &MediaType::ImageLayerGzip);
    let image = archive.image();
    assert_eq!(image.rootfs().diff_ids(), &[digest(&archive.layer())]);
}

#[test]
fn it_runs_the_program_as_nobody_with_the_roots_beside_it() {
    let Some(archive) = Archive::open() else { return };
    let image = archive.image();
    assert_eq!((image.os(), image.architecture()), (&Os::Linux, &Arch::default()));
    let config = image.config().as_ref().expect("a configuration");
    assert_eq!(config.entrypoint().as_deref(), Some(&["/ecr-pull-secrets".to_owned()][..]));
    assert_eq!(config.cmd(), &None);
    // Numbers, not names: the kubelet refuses a name under runAsNonRoot.
    assert_eq!(config.user().as_deref(), Some("65532:65532"));
    let env = ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned()];
    assert_eq!(config.env().as_deref(), Some(&env[..]));
    let labels = config.labels().as_ref().expect("labels");
    let label = |key: &str| labels[&format!("org.opencontainers.image.{key}")].as_str();
    assert_eq!(label("title"), "ecr-pull-secrets");
    assert_eq!(label("version"), archive.version);
    assert_eq!(label("licenses"), archive::of_cargo_toml("license"));
    assert_eq!(label("description"), archive::of_cargo_toml("description"));
    assert_eq!(archive.manifest().annotations().as_ref(), Some(labels));
}

#[test]
fn its_layer_has_two_files_of_root_and_nothing_else() {
    let Some(archive) = Archive::open() else { return };
    let layer = archive.layer();
    let mut entries = Vec::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().expect("entries") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        assert_eq!((header.uid().expect("a number"), header.gid().expect("a number")), (0, 0));
        let kind = if header.entry_type().is_dir() { 'd' } else { '-' };
        assert!(kind == 'd' || header.entry_type().is_file(), "{header:?}");
        entries.push((
            kind,
            header.mode().expect("bits"),
            entry.path().expect("a path").display().to_string(),
        ));
    }
    let expected = [
        ('d', 0o755, "etc/"),
        ('d', 0o755, "etc/ssl/"),
        ('d', 0o755, "etc/ssl/certs/"),
        ('-', 0o755, "ecr-pull-secrets"),
        ('-', 0o644, "etc/ssl/certs/ca-certificates.crt"),
    ];
    assert_eq!(entries, expected.map(|(kind, mode, path)| (kind, mode, path.to_owned())));
}

#[test]
fn the_programs_own_reader_takes_every_root() {
    let Some(archive) = Archive::open() else { return };
    let folder = archive.unpack();
    let file = folder.path().join("etc/ssl/certs/ca-certificates.crt");
    let certificates =
        rustls_native_certs::load_certs_from_paths(Some(&file), None).expect("a readable file");
    let expected = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    assert_eq!(certificates.len(), expected.len());
    assert!(expected.iter().all(|root| certificates.contains(root)));
    // The fingerprints that Amazon Trust Services publishes of its roots.
    let fingerprints: Vec<String> = certificates.iter().map(|root| digest(root)).collect();
    for (name, fingerprint) in [
        ("Amazon Root CA 1", "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"),
        ("Amazon Root CA 2", "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4"),
        ("Amazon Root CA 3", "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4"),
        ("Amazon Root CA 4", "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092"),
    ] {
        assert!(fingerprints.iter().any(|one| one.ends_with(fingerprint)), "{name} is missing");
    }
}

#[test]
fn nothing_of_the_building_machine_is_in_the_program() {
    let Some(archive) = Archive::open() else { return };
    let folder = archive.unpack();
    let program = fs::read(folder.path().join("ecr-pull-secrets")).expect("the program");
    let home = std::env::home_dir().expect("a home").display().to_string();
    for place in [env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR"), &format!("{home}/.cargo")] {
        let found = program.windows(place.len()).any(|window| window == place.as_bytes());
        assert!(!found, "{place} is in the program");
    }
}

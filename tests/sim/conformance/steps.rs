//! Generated sequences of requests to one Secret.

use ecr_pull_secrets::simulation::core::request::Times;
use ecr_pull_secrets::simulation::core::secret::{DockerConfig, Manifest, SecretTemplate};
use ecr_pull_secrets::simulation::core::testing::{self, HOST, HOUR};
use ecr_pull_secrets::simulation::core::{LABEL_INSTANCE, LABEL_MANAGED_BY, SECRET_KEY};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::store::annotation;

pub const NAME: &str = "ecr-pull";
pub const FINALIZER: &str = "example.com/hold";
/// The UID of no object.
pub const WRONG_UID: &str = "00000000-0000-4000-8000-000000000000";
const LENGTH: usize = 14;

/// Which UID or version a request carries, relative to the object that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    None,
    Current,
    Wrong,
    /// The version with which the program creates.
    Never,
}

/// What a write of ours contains: two variants of the data, and two of the annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub data: u32,
    pub times: u32,
}

/// What another client changes by a merge patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The data, to a variant that our writes have as well.
    Data(u32),
    /// The annotation with the expiry.
    ExpiresAt,
    RemoveApplied,
    StripLabels,
    ChangeLabel,
    Immutable,
    AddFinalizer,
    RemoveFinalizer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Apply {
        uid: Which,
        version: Which,
        force: bool,
        content: Content,
    },
    /// The same in a namespace that does not exist.
    ApplyElsewhere {
        uid: Which,
        content: Content,
    },
    /// Another client creates the Secret, of our type or of another one.
    Create {
        is_pull_secret: bool,
    },
    /// A merge patch of another manager, or with the name of ours.
    Update {
        edit: Edit,
        as_us: bool,
    },
    /// A forced apply of another manager: the data and the labels, or the data only.
    Take(Content),
    /// Another manager replaces the whole object.
    Replace,
    Delete {
        uid: Which,
        version: Which,
    },
    Get,
    /// The namespace is deleted, and stays until its contents are gone.
    Terminate,
}

impl Step {
    fn draw(choices: &mut Choices) -> Self {
        let content = Content { data: choices.pick(2), times: choices.pick(2) };
        let which = |choices: &mut Choices| {
            *choices.of(&[Which::Current, Which::Current, Which::Current, Which::None, Which::Wrong])
        };
        match choices.pick(20) {
            0..=2 => Self::Apply { uid: Which::None, version: Which::Never, force: false, content },
            3..=8 => {
                let (uid, version) = (which(choices), which(choices));
                Self::Apply { uid, version, force: !choices.one_in(4), content }
            }
            9 => Self::ApplyElsewhere { uid: which(choices), content },
            10 => Self::Create { is_pull_secret: !choices.one_in(3) },
            11..=14 => Self::Update { edit: draw_edit(choices), as_us: choices.one_in(4) },
            15 => Self::Take(content),
            16..=17 => {
                let uid = if choices.one_in(4) { Which::Wrong } else { Which::Current };
                let version = if choices.one_in(4) { Which::Wrong } else { Which::Current };
                Self::Delete { uid, version }
            }
            18 => Self::Replace,
            _ if choices.one_in(3) => Self::Terminate,
            _ => Self::Get,
        }
    }
}

fn draw_edit(choices: &mut Choices) -> Edit {
    *choices.of(&[
        Edit::Data(0),
        Edit::Data(1),
        Edit::ExpiresAt,
        Edit::RemoveApplied,
        Edit::StripLabels,
        Edit::ChangeLabel,
        Edit::Immutable,
        Edit::AddFinalizer,
        Edit::RemoveFinalizer,
    ])
}

pub fn sequence(seed: u64) -> Vec<Step> {
    let mut choices = Choices::from_seed(seed);
    (0..LENGTH).map(|_| Step::draw(&mut choices)).collect()
}

fn docker_config(variant: u32) -> Vec<u8> {
    let entry = json!({"username": "AWS", "password": format!("password{variant}"), "auth": "QVdTOng="});
    json!({"auths": {HOST: entry}}).to_string().into_bytes()
}

/// The body of an apply of ours, as the program builds it, with any preconditions.
pub fn body(content: Content, uid: Option<&str>, version: Option<&str>) -> Value {
    let hours = i64::from(content.times) + 1;
    let applied = testing::applied(&testing::request(&[HOST]), &[hours * HOUR]);
    let at = |second| Timestamp::from_second(1_700_000_000 + second).expect("a time");
    let times = Times { expires_at: at(hours * HOUR), refresh_after: at(hours * HOUR / 2) };
    let config = DockerConfig::parse(&docker_config(content.data));
    let instance = testing::settings().names.instance;
    let manifest = Manifest::new(&instance, &SecretTemplate::default(), &applied, times, &config, None);
    let mut body = serde_json::to_value(&manifest).expect("a manifest serializes");
    // Each alone is tried too.
    let metadata = body["metadata"].as_object_mut().expect("metadata");
    metadata.remove("resourceVersion");
    for (field, value) in [("uid", uid), ("resourceVersion", version)] {
        metadata.extend(value.map(|value| (field.to_owned(), value.into())));
    }
    body
}

/// The body of the apply of another manager, with the data and the labels of ours.
pub fn taking(content: Content) -> Value {
    let ours = body(content, None, None);
    json!({
        "apiVersion": "v1", "kind": "Secret", "data": ours["data"],
        "metadata": {"name": NAME, "labels": ours["metadata"]["labels"]},
    })
}

/// The merge patch of an edit.
pub fn patch(edit: Edit) -> Value {
    match edit {
        Edit::Data(variant) => {
            let ours = body(Content { data: variant, times: 0 }, None, None);
            json!({"data": {SECRET_KEY: ours["data"][SECRET_KEY]}})
        }
        Edit::ExpiresAt => {
            json!({"metadata": {"annotations": {annotation("expires-at"): "2099-01-01T00:00:00Z"}}})
        }
        Edit::RemoveApplied => json!({"metadata": {"annotations": {annotation("applied"): null}}}),
        Edit::StripLabels => json!({"metadata": {"labels": {LABEL_MANAGED_BY: null, LABEL_INSTANCE: null}}}),
        Edit::ChangeLabel => json!({"metadata": {"labels": {LABEL_INSTANCE: "theirs"}}}),
        Edit::Immutable => json!({"immutable": true}),
        Edit::AddFinalizer => json!({"metadata": {"finalizers": [FINALIZER]}}),
        Edit::RemoveFinalizer => json!({"metadata": {"finalizers": []}}),
    }
}

//! SIGKILL exactly before a write leaves the process, and exactly after the API server has carried it out.

use std::time::Duration;

use testing::aws::Behaviour;
use testing::fault_proxy::{Action, Rule};
use testing::tenants::{REGISTRIES, time};

use crate::harness::RBAC;
use crate::scenarios::serve;
use crate::world::{World, plain, violations};

const SECRET_NAME: &str = "ecr-pull-secrets.dev/secret-name";
const OTHER: &str = "other";

/// A write of the controller.
#[derive(Clone, Copy, Debug)]
enum Write {
    Creation,
    Renewal,
    CreationUnderANewName,
    DeletionOfTheOldName,
    Deletion,
}

const WRITES: [Write; 5] = [
    Write::Creation,
    Write::Renewal,
    Write::CreationUnderANewName,
    Write::DeletionOfTheOldName,
    Write::Deletion,
];

/// When the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeTheRequest,
    AfterTheCommit,
}

impl Write {
    fn method_and_name(self) -> (&'static str, &'static str) {
        match self {
            Self::Creation | Self::Renewal => ("PATCH", "ecr-pull"),
            Self::CreationUnderANewName => ("PATCH", OTHER),
            Self::DeletionOfTheOldName | Self::Deletion => ("DELETE", "ecr-pull"),
        }
    }

    /// Does what leads to the write in a namespace that is served, or in one that did not opt in yet.
    async fn cause(self, world: &World<'_>, namespace: &str) {
        match self {
            Self::Creation => world.cluster.opt_in(namespace).await,
            // It comes by itself.
            Self::Renewal => {}
            Self::CreationUnderANewName | Self::DeletionOfTheOldName => {
                world.cluster.annotate(namespace, &[(SECRET_NAME, Some(OTHER))]).await;
            }
            Self::Deletion => world.cluster.annotate(namespace, &[(REGISTRIES, None)]).await,
        }
    }

    /// Waits for the state after the write and all that follow it.
    async fn wait_for_effect(self, world: &World<'_>, namespace: &str, before: Option<jiff::Timestamp>) {
        let renewed = async || {
            let secret = world.cluster.secret(namespace).await;
            secret.is_some_and(|secret| Some(time(&secret, "expires-at")) > before)
        };
        let renamed = async || {
            let other = world.cluster.secret_named(namespace, OTHER).await;
            other.is_some() && world.cluster.secret(namespace).await.is_none()
        };
        let what = format!("{self:?} in {namespace}");
        match self {
            Self::Creation => drop(world.cluster.wait_for_secret(namespace).await),
            Self::Renewal => world.cluster.wait_until(&what, renewed).await,
            Self::CreationUnderANewName | Self::DeletionOfTheOldName => {
                world.cluster.wait_until(&what, renamed).await;
            }
            Self::Deletion => world.cluster.wait_for_no_secret(namespace).await,
        }
    }
}

/// For each write: a controller is killed at this moment, and the next one finishes the work.
async fn kill_at_each_write(world: &mut World<'_>, moment: Moment) {
    world.cluster.control_plane.apply(&RBAC.replace("[ecr-pull]", "[ecr-pull, other]")).await;
    let config = world.cluster.config("secretNames: [ecr-pull, other]");
    let flags = ["--config", &config];
    world.observe_missing(60);
    let mut running = "before-all".to_owned();
    world.start(&running, &flags).await;
    for (n, write) in WRITES.into_iter().enumerate() {
        let namespace = format!("team-{n}");
        let lifetime = if matches!(write, Write::Renewal) { 30 } else { 600 };
        world.cluster.aws.set(Behaviour::living(Duration::from_secs(lifetime)));
        // A new controller has no token in its memory.
        world.stop(&running).await;
        running = format!("victim-{n}");
        world.start(&running, &flags).await;
        let mut before = None;
        if !matches!(write, Write::Creation) {
            serve(world.cluster, &[&namespace]).await;
            before = Some(time(&world.cluster.existing_secret(&namespace).await, "expires-at"));
        }
        let action = match moment {
            Moment::BeforeTheRequest => Action::Hang,
            Moment::AfterTheCommit => Action::DelayReply(Duration::from_mins(1)),
        };
        let (method, name) = write.method_and_name();
        let path = format!("/namespaces/{namespace}/secrets/{name}");
        let rule = world.proxy.add(Rule::new(action).method(method).path(&path).times(1));
        write.cause(world, &namespace).await;
        let reached = async || if moment == Moment::BeforeTheRequest { rule.hits() } else { rule.commits() };
        world.cluster.wait_until("the write", async || reached().await == 1).await;
        world.kill(&running);
        rule.remove();
        world.cluster.aws.set(Behaviour::living(Duration::from_mins(10)));
        running = format!("successor-{n}");
        world.start(&running, &flags).await;
        write.wait_for_effect(world, &namespace, before).await;
    }
    world.watch_for(2).await;
}

#[test]
fn a_kill_before_each_write_leaves_nothing_undone() {
    let found = violations(plain(), async |world| {
        kill_at_each_write(world, Moment::BeforeTheRequest).await;
    });
    assert_eq!(found.unwrap_or_default(), []);
}

#[test]
fn a_kill_after_each_write_leaves_nothing_undone() {
    let found = violations(plain(), async |world| {
        kill_at_each_write(world, Moment::AfterTheCommit).await;
    });
    assert_eq!(found.unwrap_or_default(), []);
}

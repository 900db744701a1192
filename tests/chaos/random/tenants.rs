//! Namespaces that come, change and go while faults happen.

use serde_json::json;
use testing::tenants::{HOST, NAME, REGISTRIES};

use super::story::{Random, Story};
use crate::harness::RBAC;
use crate::world::World;

const SECRET_NAME: &str = "ecr-pull-secrets.dev/secret-name";
const MOST: usize = 14;

/// A namespace that opted in, and the name of its Secret.
#[derive(Clone, Debug)]
struct Member {
    namespace: String,
    secret_name: &'static str,
    /// Whether another client may still change its Secret: the second repair in a row waits longer.
    untouched: bool,
}

/// The namespaces that opted in.
pub struct Population {
    members: Vec<Member>,
    next: usize,
}

impl Population {
    pub async fn start(world: &World<'_>, story: &Story) -> Self {
        world.cluster.control_plane.apply(&RBAC.replace("[ecr-pull]", "[ecr-pull, other]")).await;
        let mut population = Self { members: vec![], next: 0 };
        for _ in 0..4 {
            population.opt_in(world, story).await;
        }
        population
    }

    /// One action of a tenant or of another client. `calm` is whether no reply is late.
    pub async fn act(&mut self, world: &World<'_>, story: &Story, random: &mut Random, calm: bool) {
        let Some(index) = self.members.len().checked_sub(1).map(|_| random.below(self.members.len())) else {
            return self.opt_in(world, story).await;
        };
        let member = self.members[index].clone();
        match random.below(5) {
            0 | 1 if self.members.len() < MOST => self.opt_in(world, story).await,
            2 => {
                story.tell(&format!("  {} opts out", member.namespace));
                self.members.remove(index);
                world.cluster.opt_out(&member.namespace).await;
            }
            3 if calm && member.untouched => self.change_secret(world, story, index, random).await,
            _ => {
                let secret_name = if member.secret_name == NAME { "other" } else { NAME };
                story.tell(&format!("  {} requests the name {secret_name}", member.namespace));
                self.members[index].secret_name = secret_name;
                world.cluster.annotate(&member.namespace, &[(SECRET_NAME, Some(secret_name))]).await;
            }
        }
    }

    /// Opts one more namespace in.
    pub async fn opt_in(&mut self, world: &World<'_>, story: &Story) {
        let namespace = format!("team-{}", self.next);
        self.next += 1;
        story.tell(&format!("  {namespace} opts in"));
        world.cluster.annotate(&namespace, &[(REGISTRIES, Some(HOST))]).await;
        self.members.push(Member { namespace, secret_name: NAME, untouched: true });
    }

    async fn change_secret(&mut self, world: &World<'_>, story: &Story, index: usize, random: &mut Random) {
        let Member { namespace, secret_name, .. } = self.members[index].clone();
        self.members[index].untouched = false;
        if secret_name != NAME || world.cluster.secret(&namespace).await.is_none() {
            return;
        }
        // The controller may delete it at the same moment.
        let api = world.cluster.secrets(&namespace);
        if random.below(2) == 0 {
            story.tell(&format!("  another client deletes the Secret of {namespace}"));
            let _ = api.delete(NAME, &kube::api::DeleteParams::default()).await;
        } else {
            story.tell(&format!("  another client empties the Secret of {namespace}"));
            let patch = kube::api::Patch::Merge(json!({ "data": { ".dockerconfigjson": "e30=" } }));
            let _ = api.patch(NAME, &kube::api::PatchParams::default(), &patch).await;
        }
    }

    /// Waits until each has the Secret that it requests.
    pub async fn wait_until_served(&self, world: &World<'_>) {
        for Member { namespace, secret_name, .. } in &self.members {
            let served = async || world.cluster.secret_named(namespace, secret_name).await.is_some();
            world.cluster.wait_until(&format!("{secret_name} in {namespace}"), served).await;
        }
    }
}

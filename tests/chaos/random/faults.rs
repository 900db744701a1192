//! The faults of a random schedule. Each is over when its function returns.

use std::time::Duration;

use testing::aws::{Behaviour, Fault as AwsFault};
use testing::fault_proxy::{Action, ActiveRule, Answer, Rule};
use tokio::time::sleep;

use super::story::{Random, Story};
use super::tenants::Population;
use crate::harness::QUICK_ELECTION;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Kill,
    Pause,
    CutOff,
    SlowRequests,
    LateReplies,
    LostReplies,
    Refusals,
    Serial,
    BrokenWatches,
    Aws,
    LateCommit,
}

const ALL: [Fault; 11] = [
    Fault::Kill,
    Fault::Pause,
    Fault::CutOff,
    Fault::SlowRequests,
    Fault::LateReplies,
    Fault::LostReplies,
    Fault::Refusals,
    Fault::Serial,
    Fault::BrokenWatches,
    Fault::Aws,
    Fault::LateCommit,
];

/// The two replicas that run.
pub struct Replicas {
    names: [String; 2],
    next: usize,
    flags: [String; 3],
}

impl Replicas {
    pub async fn start(world: &mut World<'_>) -> Self {
        let config = world.cluster.config(&format!("secretNames: [ecr-pull, other]\n{QUICK_ELECTION}"));
        let flags = ["--leader-election".to_owned(), "--config".to_owned(), config];
        let mut replicas = Self { names: [String::new(), String::new()], next: 0, flags };
        for index in 0..2 {
            replicas.replace(world, index);
        }
        world.cluster.wait_until("a leader", async || world.cluster.lease_holder().await.is_some()).await;
        replicas
    }

    /// Starts a replica in the place of one that is gone.
    fn replace(&mut self, world: &mut World<'_>, index: usize) {
        self.names[index] = format!("replica-{}", self.next);
        self.next += 1;
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        world.spawn(&self.names[index], &flags);
    }

    /// The leader, or one of them if there is none, in two of three cases; else the other one.
    async fn any(&self, world: &World<'_>, random: &mut Random) -> (usize, &'static str) {
        let leader = usize::from(!world.cluster.holds_the_lease(&self.names[0]).await);
        if random.below(3) > 0 { (leader, "leader") } else { (1 - leader, "standby") }
    }
}

impl Fault {
    pub fn any(random: &mut Random) -> Self {
        random.pick(&ALL)
    }

    pub async fn inject(
        self,
        world: &mut World<'_>,
        replicas: &mut Replicas,
        population: &mut Population,
        story: &mut Story,
        random: &mut Random,
    ) {
        let mut scene = Scene { world, population, story, random };
        match self {
            Self::Kill => scene.kill(replicas).await,
            Self::Pause => scene.pause(replicas).await,
            Self::CutOff => scene.cut_off(replicas).await,
            Self::SlowRequests => scene.slow(Action::DelayRequest, "slow requests").await,
            Self::LateReplies => scene.slow(Action::DelayReply, "late replies").await,
            Self::LostReplies => scene.lost_replies().await,
            Self::Refusals => scene.refusals().await,
            Self::Serial => scene.serial().await,
            Self::BrokenWatches => {
                scene.story.fault("broken watches", "the connections of all watches are closed");
                scene.world.proxy.close_watches();
            }
            Self::Aws => scene.aws().await,
            Self::LateCommit => scene.late_commit(replicas).await,
        }
    }
}

/// What a fault acts on.
struct Scene<'a, 'w> {
    world: &'a mut World<'w>,
    population: &'a mut Population,
    story: &'a mut Story,
    random: &'a mut Random,
}

impl Scene<'_, '_> {
    /// Lets time pass, in which tenants act.
    async fn hold(&mut self, time: Duration) {
        sleep(time / 2).await;
        self.population.act(self.world, self.story, self.random, false).await;
        sleep(time / 2).await;
    }

    async fn hold_rules(&mut self, rules: &[ActiveRule], time: Duration) {
        self.hold(time).await;
        rules.iter().for_each(ActiveRule::remove);
    }

    async fn kill(&mut self, replicas: &mut Replicas) {
        let (index, which) = replicas.any(self.world, self.random).await;
        self.story.fault("kill", &format!("SIGKILL for the {which}, {}", replicas.names[index]));
        self.world.kill(&replicas.names[index]);
        let gone = self.random.milliseconds(0, 3000);
        self.hold(gone).await;
        replicas.replace(self.world, index);
    }

    async fn pause(&mut self, replicas: &Replicas) {
        let (index, which) = replicas.any(self.world, self.random).await;
        let (name, time) = (&replicas.names[index], self.random.milliseconds(500, 8000));
        self.story.fault("pause", &format!("the {which}, {name}, stops for {time:?}"));
        self.world.stop_visits(name);
        self.world.cluster.candidate_process(name).signal("STOP");
        self.hold(time).await;
        self.world.cluster.candidate_process(name).signal("CONT");
        self.world.resume_visits(name);
    }

    async fn cut_off(&mut self, replicas: &Replicas) {
        let (index, which) = replicas.any(self.world, self.random).await;
        let (name, time) = (&replicas.names[index], self.random.milliseconds(1000, 8000));
        self.story.fault("partition", &format!("the {which}, {name}, has no network for {time:?}"));
        let agent = format!("{name}_");
        let cut =
            [Action::Hang, Action::FreezeWatches].map(|it| self.world.proxy.add(Rule::new(it).agent(&agent)));
        self.hold_rules(&cut, time).await;
    }

    /// Everything takes longer, but the Lease less than its deadline.
    async fn slow(&mut self, action: fn(Duration) -> Action, kind: &'static str) {
        let by = self.random.milliseconds(50, 1200);
        let time = self.random.milliseconds(2000, 6000);
        self.story.fault(kind, &format!("{by:?} for {time:?}"));
        let lease = Rule::new(action(by.min(Duration::from_millis(300)))).path("/leases/");
        let rules = [lease, Rule::new(action(by))].map(|rule| self.world.proxy.add(rule));
        self.hold_rules(&rules, time).await;
    }

    async fn lost_replies(&mut self) {
        let times = 1 + self.random.below(3);
        self.story.fault("lost replies", &format!("the next {times} writes of Secrets get no reply"));
        let lost = Rule::new(Action::DropReply).path("/namespaces/team-*/secrets/").times(times);
        let rule = self.world.proxy.add(lost);
        self.population.opt_in(self.world, self.story).await;
        self.hold_rules(&[rule], Duration::from_secs(2)).await;
    }

    async fn refusals(&mut self) {
        let code = self.random.pick(&[429, 500, 503]);
        let method = self.random.pick(&["GET", "PATCH", "DELETE"]);
        let time = self.random.milliseconds(1000, 4000);
        self.story
            .fault("refusals", &format!("{code} for each {method} of Secrets and namespaces, {time:?}"));
        let refuse = || Action::Answer(Answer::status(code, None));
        let rules = ["/secrets", "/namespaces?"]
            .map(|path| self.world.proxy.add(Rule::new(refuse()).method(method).path(path)));
        self.world.proxy.close_watches();
        self.hold_rules(&rules, time).await;
    }

    async fn serial(&mut self) {
        let number = u32::try_from(5 + self.random.below(20)).expect("a small number");
        self.story.fault("slow server", &format!("{number} writes a second"));
        let rule = self.world.proxy.add(Rule::new(Action::PerSecond(number)).method("PATCH"));
        self.hold_rules(&[rule], Duration::from_secs(4)).await;
    }

    async fn aws(&mut self) {
        let faults = [AwsFault::Throttle, AwsFault::ServerError, AwsFault::Hang, AwsFault::Reset];
        let (fault, time) = (self.random.pick(&faults), self.random.milliseconds(1000, 5000));
        self.story.fault("AWS", &format!("{fault:?} for {time:?}"));
        let lifetime =
            self.story.seconds().mul_f32(1.5).clamp(Duration::from_secs(30), Duration::from_secs(90));
        let usual = Behaviour::living(lifetime);
        self.world.cluster.aws.set(Behaviour { fault: Some(fault), ..usual.clone() });
        self.hold(time).await;
        self.world.cluster.aws.set(usual);
    }

    /// The leader is killed with a write on its way, which arrives later.
    async fn late_commit(&mut self, replicas: &mut Replicas) {
        let leader = usize::from(!self.world.cluster.holds_the_lease(&replicas.names[0]).await);
        let by = self.random.milliseconds(500, 6000);
        let name = replicas.names[leader].clone();
        self.story.fault("late commit", &format!("a write of {name} arrives {by:?} late, {name} is killed"));
        let late = Rule::new(Action::CommitLate(by)).method("PATCH").path("/namespaces/team-*/secrets/");
        let rule = self.world.proxy.add(late.agent(&format!("{name}_")).times(1));
        self.population.opt_in(self.world, self.story).await;
        sleep(Duration::from_millis(300)).await;
        self.world.kill(&name);
        self.hold_rules(&[rule], by).await;
        replicas.replace(self.world, leader);
    }
}

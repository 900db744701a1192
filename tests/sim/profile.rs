//! What a simulated world consists of: its size, its delays, and which actions and faults may happen in it.

use std::collections::BTreeMap;
use std::time::Duration;

use ecr_pull_secrets::simulation::core::settings::Settings;
use ecr_pull_secrets::simulation::core::testing;

use crate::world::variant;

/// An action of a client, or a fault. Each has two arguments, which are choices: usually the namespace and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::VariantArray)]
pub enum What {
    // Tenants and administrators.
    Annotate,
    OptOut,
    DeleteNamespace,
    TerminateNamespace,
    DeleteSecret,
    EditSecret,
    StripLabels,
    /// A finalizer is added to a managed Secret, or removed from it.
    Finalize,
    MakeImmutable,
    ForeignSecret,
    /// A copy of a managed Secret in a namespace that did not opt in.
    CloneSecret,
    EditServiceAccount,
    Unlabel,
    /// Four of five namespaces are being deleted.
    TerminateMost,
    /// A request that is as long as the annotation of a Secret may be.
    LongRequest,
    /// A namespace asks for new tokens.
    AskRenewal,
    /// A namespace asks for `default` instead of a host.
    AnnotateDefault,
    /// Twenty namespaces opt in, or opt out.
    Arrive,
    Leave,
    /// Every namespace opts in.
    AnnotateAll,
    /// A namespace that asks for eight regions that do not exist.
    InventRegions,
    /// The entries of a static source change.
    ChangeSource,
    // AWS.
    AwsFails,
    AwsHangs,
    AwsAway,
    ShortLives,
    // The API server and the network.
    ApiDown,
    Partition,
    BreakWatch,
    StaleWatch,
    NamespaceHangs,
    /// The requests of nine namespaces in ten hang.
    MostHang,
    Quota,
    /// The API server refuses deletions of Secrets in a namespace, or does not reply to changes of its service accounts.
    RefuseDeletions,
    AccountsHang,
    RestoreEtcd,
    // Processes and clocks.
    Crash,
    Freeze,
    ClockAhead,
    ClockBehind,
    Suspend,
    RestartWithoutRegion,
    SourceUnreadable,
}

impl What {
    /// Whether it is a fault, and not an action that has a lasting effect.
    pub fn is_fault(self) -> bool {
        self >= Self::AwsFails
    }
}

/// What can happen to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored and its reply arrives.
    Done,
    /// It is stored, and its reply is lost.
    ReplyLost,
    /// The API server neither stores it nor replies.
    RequestLost,
    /// It is stored after the client has given up.
    Late,
    /// The API server is overloaded: 503.
    Unavailable,
}

pub const ALL_FATES: &[Fate] = &[Fate::ReplyLost, Fate::RequestLost, Fate::Late, Fate::Unavailable];

#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate property of a world")]
pub struct Profile {
    pub settings: fn() -> Settings,
    pub namespaces: u32,
    pub processes: usize,
    /// The number of service accounts in each namespace.
    pub accounts: u32,
    /// The annotations of the namespaces at the start, as an index into the variants of `actors`.
    pub opted_in: bool,
    pub annotations: fn(u32) -> BTreeMap<String, String>,
    /// The number of actions and faults, and the longest pause before each.
    pub steps: u32,
    pub gaps: &'static [u64],
    pub what: Vec<What>,
    /// Whether the faults of the plan happen.
    pub faults: bool,
    /// The delays of replies and watch events, in milliseconds, shortest first.
    pub delays: &'static [u64],
    /// The delays of requests for the Lease, in milliseconds.
    pub lease_delays: &'static [u64],
    /// One in so many requests has one of these fates.
    pub fates: &'static [Fate],
    pub fate_one_in: u32,
    /// How long the tokens of AWS live, in seconds.
    pub token_life: i64,
    /// How long the world runs on after the last action, before every fault ends.
    pub tail: Duration,
    /// How long the world runs on after the last fault.
    pub calm: Duration,
    /// The Lease is renewed only when something else happens, which is enough without faults of the Lease.
    pub lazy_lease: bool,
    /// How often the oracle of progress looks at every namespace.
    pub patrol: Duration,
    /// Whether every message is searched for tokens.
    pub checks_messages: bool,
}

impl Profile {
    /// Three namespaces and two processes, in which these things happen.
    pub fn small(what: &[What]) -> Self {
        Self {
            settings: testing::settings,
            namespaces: 3,
            processes: 2,
            accounts: 1,
            opted_in: true,
            annotations: |n| variant(n % 3),
            steps: 8,
            gaps: &[5, 1, 20, 300, 2_000, 20_000, 240_000],
            what: what.to_vec(),
            faults: true,
            delays: &[1, 4, 30, 300, 1_500],
            lease_delays: &[1, 4, 30, 200],
            fates: &[],
            fate_one_in: 0,
            token_life: 3_600,
            tail: Duration::from_secs(1),
            calm: Duration::from_mins(15),
            lazy_lease: true,
            patrol: Duration::from_mins(1),
            checks_messages: true,
        }
    }

    /// The same world with the same actions, in which nothing goes wrong.
    pub fn without_faults(&self) -> Self {
        Self { faults: false, fate_one_in: 0, ..self.clone() }
    }

    pub fn with_fates(mut self, fates: &'static [Fate], one_in: u32) -> Self {
        (self.fates, self.fate_one_in) = (fates, one_in);
        self
    }
}

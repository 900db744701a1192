//! One namespace requests whatever its owner likes. Its costs are bounded, and the others get the same as without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::controller::tell::Tell;
use crate::controller::tests::world::{Reply, World, Written};
use crate::core::grants::{CONTROLLER, Identity, IdentityName, RegistryPattern, Restriction, TokenKey};
use crate::core::plan::PullSecretRefs;
use crate::core::request::{OptIn, ParsedAnnotations, Problem, Request};
use crate::core::secret::TokenErrorKind;
use crate::core::settings::Settings;
use crate::core::testing::{HOST, parsed, request, role, settings};
use crate::core::whole_seconds;

/// How many bytes the controller remembers because of one namespace, at most (docs/threat-model.md).
const MAX_HELD: i64 = 1024 * 1024;
/// How much later than without the noise the others get something, at most.
const SLACK: SignedDuration = SignedDuration::from_millis(200);
/// The life of the tokens of the region that only the others use, so that they are renewed often.
const SHORT_LIFE: i64 = 120;
const OWN_REGION: &str = "eu-north-1";
const NOISY: &str = "noisy";
/// The identity with a role that only the noisy namespace may use, for any repository.
const TENANTS: &str = "tenants";

/// A change that the owner of a namespace makes.
#[derive(Clone, Debug)]
enum Move {
    /// Requests these regions; those from 100 on do not exist.
    Regions(Vec<u8>),
    /// Narrows the token to this repository, or not at all (0). Each is another key.
    Repositories(u8),
    /// Names an identity, no identity, or an unknown one.
    Role(u8),
    /// Requests this many values of a list, as long as a value may be.
    Lists(u8),
    /// Requests service accounts, or none.
    Accounts(bool),
    /// Creates this many service accounts.
    CreatesAccounts(u16),
    Renames,
    Renews,
    IsInvalid(u8),
    OptsOut,
}

fn moves() -> impl Strategy<Value = Vec<(Move, u64)>> {
    let one = prop_oneof![
        16 => vec(prop_oneof![0..4u8, 100..120u8], 1..9).prop_map(Move::Regions),
        16 => any::<u8>().prop_map(Move::Repositories),
        8 => (0..4u8).prop_map(Move::Role),
        4 => (1..33u8).prop_map(Move::Lists),
        4 => any::<bool>().prop_map(Move::Accounts),
        1 => (1..700u16).prop_map(Move::CreatesAccounts),
        4 => Just(Move::Renames),
        8 => Just(Move::Renews),
        8 => any::<u8>().prop_map(Move::IsInvalid),
        4 => Just(Move::OptsOut),
    ];
    vec((one, prop_oneof![Just(1u64), Just(50), Just(700), Just(8_000)]), 1..80)
}

fn host(region: &str) -> String {
    format!("123456789012.dkr.ecr.{region}.amazonaws.com")
}

fn region(number: u8) -> String {
    if number < 100 { format!("eu-west-{}", number + 1) } else { format!("zz-made-{}", number - 99) }
}

/// The owner of the noisy namespace.
struct Owner {
    current: Request,
    accounts: u16,
}

impl Owner {
    fn make(&mut self, step: &Move, world: &mut World) {
        match step {
            Move::Regions(regions) => {
                let hosts: Vec<_> = regions.iter().map(|number| host(&region(*number))).collect();
                self.current.registries =
                    request(&hosts.iter().map(String::as_str).collect::<Vec<_>>()).registries;
                self.current.registries.dedup();
            }
            Move::Repositories(number) => {
                let pattern = (*number > 0).then(|| format!("repository-{number}/*"));
                self.current.repositories = pattern.into_iter().collect();
            }
            Move::Role(number) => {
                let names: [&[&str]; 4] = [&[], &[TENANTS], &[CONTROLLER], &["unknown"]];
                self.current.role =
                    names[usize::from(*number)].iter().map(|name| (*name).to_owned()).collect();
            }
            Move::Lists(count) => {
                let value = |n| format!("{n:0>256}");
                self.current.service_accounts = (0..*count).map(value).collect();
            }
            Move::Accounts(all) => {
                self.current.service_accounts = all.then(|| "*".to_owned()).into_iter().collect();
            }
            Move::CreatesAccounts(count) => {
                for n in self.accounts..self.accounts + count {
                    let refs = PullSecretRefs { resource_version: 0, references: vec![], attached: vec![] };
                    world.set_service_account(NOISY, &format!("account-{n}"), refs);
                }
                self.accounts += count;
                return;
            }
            Move::Renames => {
                let other = if self.current.secret_name == "other" { "ecr-pull" } else { "other" };
                self.current.secret_name = other.to_owned();
            }
            Move::Renews => {
                let renew = Some(whole_seconds(world.now.wall));
                let annotations = ParsedAnnotations { renew, ..parsed(self.current.clone()) };
                return world.set_annotations(NOISY, annotations);
            }
            Move::IsInvalid(value) => {
                let problems = vec![Problem::invalid("role", &format!("{value} is not a role"))];
                let annotations = ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems };
                return world.set_annotations(NOISY, annotations);
            }
            Move::OptsOut => return world.opt_out(NOISY),
        }
        world.annotate(NOISY, self.current.clone());
    }
}

/// As those of the other tests, with an identity that the noisy namespace may use.
fn with_tenants() -> Settings {
    let mut settings = settings();
    settings.grants.identities = vec![Identity {
        name: IdentityName::new(TENANTS),
        role: Some(role().into()),
        namespaces: vec![NOISY.parse().expect("a pattern")],
        registries: vec![RegistryPattern::AllPrivate],
        repositories: vec!["*".parse().expect("a template")],
        pull_through_cache: false,
        list_tags: false,
        profile: None,
    }];
    settings
}

/// A world in which other namespaces opt in one after another, some with a region that no other names and some with the
/// region of the noisy one. Its owner makes these moves only `with_noise`. Also the time that passed.
fn played(moves: &[(Move, u64)], with_noise: bool) -> (World, u64) {
    let mut world = World::with_settings(with_tenants());
    world.replies.insert(OWN_REGION.into(), Reply::Token(SHORT_LIFE));
    for number in 100..120 {
        world.replies.insert(region(number), Reply::Error(TokenErrorKind::Unreachable));
    }
    world.start("one");
    world.annotate("own-0", request(&[&host(OWN_REGION)]));
    world.annotate("shared-0", request(&[HOST]));
    // At first it shares the token of the others.
    let current = Request { role: vec![CONTROLLER.to_owned()], ..request(&[HOST]) };
    let mut owner = Owner { current, accounts: 0 };
    let mut spent = 0;
    for (turn, (step, pause)) in moves.iter().enumerate() {
        if with_noise {
            owner.make(step, &mut world);
        }
        let pause = SignedDuration::from_millis(i64::try_from(*pause).expect("short"));
        world.run(pause, Duration::from_millis(500), |_| {});
        spent += pause.as_millis();
        if turn % 20 == 10 {
            let names = ["own", "shared"].map(|name| format!("{name}-{}", turn / 20 + 1));
            world.annotate(&names[0], request(&[&host(OWN_REGION)]));
            world.annotate(&names[1], request(&[HOST]));
            world.run(SignedDuration::from_millis(900), Duration::from_millis(100), |_| {});
            spent += 900;
            let served = names.iter().all(|name| world.is_valid(name, "ecr-pull"));
            assert!(served, "{names:?} are served within a second");
        }
    }
    (world, u64::try_from(spent / 1_000).expect("short"))
}

/// The Events of the other namespaces: each message, with the time of the first one.
fn events(world: &World) -> BTreeMap<(String, &'static str, String), Timestamp> {
    let mut events = BTreeMap::new();
    for (tell, at) in world.tells.iter().zip(&world.told_at) {
        if let Tell::Notice { event, .. } = tell
            && *event.namespace != *NOISY
        {
            let key = (event.namespace.to_string(), event.reason.into_str(), event.message.clone());
            events.entry(key).or_insert(*at);
        }
    }
    events
}

fn writes<'a>(world: &'a World, namespace: &'a str) -> impl Iterator<Item = &'a Written> {
    world.written.iter().filter(move |written| *written.namespace == *namespace)
}

/// Calls, writes and Events of the noisy namespace stay below bounds that depend on time only.
fn check_costs(world: &World, seconds: u64) -> Result<(), TestCaseError> {
    let seconds = usize::try_from(seconds).expect("short");
    let is_shared = |key: &TokenKey| {
        let endpoint = key.endpoint.to_string();
        key.restriction == Restriction::Unrestricted && (endpoint == "eu-central-1" || endpoint == OWN_REGION)
    };
    // docs/annotations.md, "Limits": 64 new keys at once, then one in ten seconds.
    let new = 64 + seconds / 10;
    let calls = || world.calls.iter().filter(|key| !is_shared(key));
    let keys: BTreeSet<_> = calls().collect();
    prop_assert!(keys.len() <= new, "{} keys in {} s", keys.len(), seconds);
    let is_invented = |key: &&TokenKey| key.endpoint.to_string().starts_with("zz-");
    let invented = calls().filter(is_invented).count();
    let others = calls().count() - invented;
    // Each new key is a call, and in five minutes each of eight regions may be renewed once.
    prop_assert!(others <= new + 8 * (1 + seconds / 300), "{} calls in {} s", others, seconds);
    // A key that fails is tried again up to six times in its first minute; of eight, each again after 45 seconds or more.
    prop_assert!(invented <= 7 * new + 8 * seconds / 45, "{} calls that fail in {} s", invented, seconds);
    let count = writes(world, NOISY).count();
    prop_assert!(count <= 40 + seconds / 4, "{} writes in {} s", count, seconds);
    prop_assert!(world.lists.len() <= 10, "{} lists in {} s", world.lists.len(), seconds);
    let subjects: BTreeSet<_> = world
        .tells
        .iter()
        .filter_map(|tell| match tell {
            Tell::Notice { event, .. } if *event.namespace == *NOISY => {
                Some((event.reason.into_str(), event.subject.clone()))
            }
            _ => None,
        })
        .collect();
    prop_assert!(subjects.len() <= 64, "{} Events", subjects.len());
    Ok(())
}

/// The others get the same content and Events, no later, and with tokens that live as long. A token that they share with the
/// noisy namespace may be newer, because that namespace requested it.
fn check_others(world: &World, without: &World) -> Result<(), TestCaseError> {
    for n in 0..=4 {
        for kind in ["own", "shared"] {
            let name = format!("{kind}-{n}");
            let pairs = || writes(world, &name).zip(writes(without, &name));
            prop_assert_eq!(writes(world, &name).count(), writes(without, &name).count(), "{}", &name);
            for (found, expected) in pairs() {
                prop_assert_eq!(&found.content, &expected.content, "{}", &name);
                let late = found.at.duration_since(expected.at);
                prop_assert!(late.abs() <= SLACK, "{} gets it {:?} later", &name, late);
                let shorter = expected.expires_at.duration_since(found.expires_at);
                prop_assert!(shorter <= SLACK, "{} has a token that ends {:?} earlier", &name, shorter);
                prop_assert!(kind == "shared" || shorter >= -SLACK, "{} has another token", &name);
            }
        }
    }
    let (found, expected) = (events(world), events(without));
    prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for ((key, found), expected) in found.iter().zip(expected.values()) {
        let late = found.duration_since(*expected);
        prop_assert!(late.abs() <= SLACK, "{:?} comes {:?} later", key, late);
    }
    Ok(())
}

#[test]
fn a_namespace_with_hundreds_of_service_accounts_and_regions_that_do_not_exist_holds_less_than_the_bound() {
    let regions = [0, 1, 2, 3, 100, 101, 102, 103].to_vec();
    let moves =
        [(Move::CreatesAccounts(699), 1), (Move::Regions(regions), 8_000), (Move::Accounts(true), 8_000)];
    let [(with, _), (without, _)] = [true, false].map(|is_noisy| played(&moves, is_noisy).0.held());
    println!("{} bytes of {with}", with - without);
    assert!(without > 0 && (32 * 1024..=MAX_HELD).contains(&(with - without)), "{without} and {with} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_one_namespace_requests_its_costs_are_bounded_and_the_others_get_the_same(moves in moves()) {
        let (world, seconds) = played(&moves, true);
        let (without, _) = played(&moves, false);
        check_costs(&world, seconds)?;
        check_others(&world, &without)?;
        let held = world.held().0 - without.held().0;
        prop_assert!(held <= MAX_HELD, "{} bytes are held", held);
    }
}

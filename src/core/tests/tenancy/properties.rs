//! What holds for all of them.

use super::cases::role;
use super::generators::*;
use super::oracle::*;
use super::*;

pub(super) type Answer = Result<(Granted, Vec<Problem>), Vec<Problem>>;

/// What `answer` says is what the oracle expects: (a) to (e) and (h).
pub(super) fn check_answer(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    request: &Request,
    answer: &Answer,
) {
    let expected = model.expected(namespace, request);
    let Ok((granted, problems)) = answer else {
        assert_eq!(expected, None, "refused: {answer:?}");
        assert!(answer.as_ref().is_err_and(|problems| !problems.is_empty()));
        return;
    };
    let expected = expected.expect("what is not granted is refused");
    let actual: Vec<_> = granted
        .assignments
        .iter()
        .map(|assignment| (assignment.target.to_string(), model.spec(assignment.key.identity.as_str())))
        .collect();
    let names = |list: &[(String, Spec)]| {
        list.iter().map(|(target, spec)| (target.clone(), spec.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&actual), names(&expected), "(h) {request:?} of {namespace}");
    assert_eq!(problems.is_empty(), granted.request.registries.len() == request.registries.len());
    let kept: Vec<_> = granted.assignments.iter().map(|assignment| assignment.target.clone()).collect();
    assert_eq!(*granted.request, Request { registries: kept, ..request.clone() });
    for assignment in &granted.assignments {
        check_assignment(model, settings, namespace, request, assignment);
    }
}

pub(super) fn check_assignment(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    request: &Request,
    assignment: &Assignment,
) {
    let target = assignment.target.to_string();
    let spec = model.spec(assignment.key.identity.as_str());
    assert_eq!(assignment.key.endpoint.to_string(), endpoint(&target));
    let by_default = model.default && spec.name == "controller";
    assert!(spec.granted(namespace) || by_default, "(a) {spec:?} is not granted to {namespace}");
    assert!(by_default || spec.serves(&target), "(b) {spec:?} does not serve {target}");
    assert!(spec.partition().is_none_or(|own| own == target_partition(&target)), "(b) {spec:?} {target}");
    let Restriction::Pull(patterns) = &assignment.key.restriction else {
        assert_eq!(spec.arn, None, "(d) the whole scope of a role");
        assert_eq!(request.repositories, [""; 0], "(c) narrowed, and the whole scope");
        assert_eq!(policy_of(settings, assignment), None);
        return;
    };
    assert!(spec.arn.is_some(), "(d) {spec:?} cannot be restricted");
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    let unique: BTreeSet<String> = patterns.iter().cloned().collect();
    assert_eq!(unique.len(), patterns.len());
    if !is_public(&target) {
        let within = |bounds: &[String], pattern: &String| bounds.iter().any(|bound| covers(bound, pattern));
        let bounds = spec.bounds(namespace);
        for pattern in &patterns {
            assert!(within(&bounds, pattern), "(c) {pattern} of {spec:?}");
            assert!(
                request.repositories.is_empty() || within(&request.repositories, pattern),
                "(c) {pattern}"
            );
        }
    }
    assert_eq!(Some(unique), spec.patterns(namespace, &target, &request.repositories));
    let policy = policy_of(settings, assignment).expect("(e) a role always has a policy");
    check_policy(&spec, &assignment.key.endpoint, &patterns, &policy);
}

/// (e)
pub(super) fn check_policy(spec: &Spec, endpoint: &Endpoint, patterns: &[String], policy: &str) {
    assert!(policy.len() <= 2_048, "{} characters", policy.len());
    assert!(!policy.contains('?') && !policy.contains("${"), "{policy}");
    let parsed: Value = serde_json::from_str(policy).expect("JSON");
    assert_eq!(parsed["Version"], "2012-10-17");
    assert_eq!(parsed.as_object().map(serde_json::Map::len), Some(2));
    let statements = parsed["Statement"].as_array().expect("statements");
    for statement in statements {
        assert_eq!(
            (&statement["Effect"], statement.as_object().map(serde_json::Map::len)),
            (&json!("Allow"), Some(3))
        );
    }
    let set = |value: &Value| -> BTreeSet<String> {
        let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let of = |list: &[&str]| strings(list).into_iter().collect::<BTreeSet<_>>();
    let said: Vec<_> = statements.iter().map(|s| (set(&s["Action"]), set(&s["Resource"]))).collect();
    if *endpoint == Endpoint::Public {
        let actions = of(&["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"]);
        assert_eq!(said, [(actions, of(&["*"]))]);
        return;
    }
    let mut actions =
        of(&["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]);
    if spec.pull_through_cache {
        actions.extend(of(&["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]));
    }
    let accounts = spec.accounts(endpoint.region());
    assert!(!accounts.is_empty());
    let resource = |account: &String| {
        let (partition, region, account) =
            (spec.partition().expect("a role"), endpoint.region(), account.clone());
        patterns.iter().map(move |p| format!("arn:{partition}:ecr:{region}:{account}:repository/{p}"))
    };
    let resources: BTreeSet<String> = accounts.iter().flat_map(resource).collect();
    for resource in &resources {
        let stars: Vec<_> = resource.match_indices('*').map(|(at, _)| at).collect();
        let account = resource.find(":*:").map(|at| at + 1);
        assert!(stars.iter().all(|at| at + 1 == resource.len() || Some(*at) == account), "{resource}");
        assert!(account.is_none() || spec.registries.iter().any(|pattern| pattern == "*"), "{resource}");
    }
    assert_eq!(said, [(of(&["ecr:GetAuthorizationToken"]), of(&["*"])), (actions, resources)]);
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

pub(super) const HOUR: i64 = 3_600;

/// A Secret of ours with what was granted.
pub(super) fn standing(granted: &Granted) -> Vec<(Arc<str>, Observed)> {
    let entry = |a: &Assignment| Some(Entry { scope: a.scope, expires_at: Some(at(12 * HOUR)) });
    let entries = granted.assignments.iter().map(entry).collect();
    let accepted = Accepted { request: Request::clone(&granted.request), entries, statics: BTreeMap::new() };
    let text = Applied::canonical("ecr-pull-secrets", &accepted);
    secret(Applied::parse(&text).expect("it reads back").accepted)
}

pub(super) fn secret(applied: Accepted) -> Vec<(Arc<str>, Observed)> {
    let observed = Observed {
        uid: "uid-1".into(),
        resource_version: 7,
        owner: Owner::Ours,
        intact: true,
        data_intact: true,
        immutable: false,
        times: Some(Times { expires_at: at(12 * HOUR), refresh_after: at(6 * HOUR) }),
        applied: Some(Arc::new(applied)),
    };
    vec![("ecr-pull".into(), observed)]
}

pub(super) fn decide(
    namespace: &str,
    reading: &Reading,
    secrets: &[(Arc<str>, Observed)],
    settings: &Settings,
) -> Plan {
    let (history, sources) = (History::default(), Sources::default());
    let facts = Facts {
        namespace,
        reading: Some(reading),
        secrets,
        accounts: &[],
        sources: &sources,
        history: &history,
    };
    plan(&facts, settings, at(HOUR))
}

/// The entries that are carried when no token is to be had.
pub(super) fn carried(intent: &Intent, namespace: &str, settings: &Settings) -> Vec<Target> {
    let none = vec![None; intent.granted.assignments.len()];
    let made = settle(intent, &none, namespace, &History::default(), settings, at(HOUR));
    made.map(|made| made.carried).unwrap_or_default()
}

pub(super) fn unusable() -> Reading {
    Reading { wish: Wish::Unusable, problems: vec![] }
}

/// A change of a configuration after which less, or something else, is granted.
#[derive(Clone, Debug)]
pub(super) enum Withdrawal {
    Identity(usize),
    Namespaces(usize),
    Registries(usize, Vec<String>),
    Repositories(usize, Vec<String>),
    Default,
    Nothing,
}

pub(super) fn any_withdrawal() -> impl Strategy<Value = Withdrawal> {
    prop_oneof![
        (0usize..5).prop_map(Withdrawal::Identity),
        (0usize..5).prop_map(Withdrawal::Namespaces),
        (0usize..5, some_of(&REGISTRY_PATTERNS, 1..=2)).prop_map(|(n, to)| Withdrawal::Registries(n, to)),
        (0usize..5, some_of(&TEMPLATES, 0..=2)).prop_map(|(n, to)| Withdrawal::Repositories(n, to)),
        Just(Withdrawal::Default),
        Just(Withdrawal::Nothing),
    ]
}

pub(super) fn after(model: &Model, withdrawal: Withdrawal) -> Model {
    let mut model = model.clone();
    let count = model.specs.len().max(1);
    match withdrawal {
        Withdrawal::Identity(n) => {
            model.specs = model
                .specs
                .into_iter()
                .enumerate()
                .filter(|(i, _)| *i != n % count)
                .map(|(_, s)| s)
                .collect();
        }
        Withdrawal::Default => model.default = false,
        Withdrawal::Nothing => {}
        Withdrawal::Namespaces(n) => {
            if let Some(spec) = model.specs.get_mut(n % count) {
                spec.namespaces = vec![];
            }
        }
        Withdrawal::Registries(n, registries) => {
            if let Some(spec) = model.specs.get_mut(n % count) {
                spec.registries = registries;
            }
        }
        Withdrawal::Repositories(n, repositories) => {
            if let Some(spec) = model.specs.get_mut(n % count).filter(|spec| spec.arn.is_some()) {
                spec.repositories = repositories;
            }
        }
    }
    model.specs.retain(is_accepted);
    model
}

/// What a namespace has after `plan`, as far as it is granted in `model`.
pub(super) fn check_step(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    wish: Option<&Request>,
    applied: (&Accepted, &BTreeMap<String, (String, Option<String>)>),
    step: &Step,
) {
    let (accepted, reached) = applied;
    let of = |request: &Request| Some((request.clone(), model.expected(namespace, request)?));
    let Some((request, expected)) = wish.and_then(of).or_else(|| of(&accepted.request)) else {
        let Step::Delete { cause: DeleteCause::NotGranted, .. } = step else {
            panic!("nothing of it is granted: {step:?}");
        };
        return;
    };
    let (answer, _) = settings.grants.assign(namespace, &request).expect("granted");
    let same = |assignment: &Assignment| {
        reached.get(&assignment.target.to_string()).is_none_or(|was| *was == reach(settings, assignment))
    };
    let stands = *answer.request == accepted.request && answer.assignments.iter().all(same);
    let Step::Write(intent) = step else {
        assert!(stands, "{step:?} leaves what is no longer granted");
        assert_eq!(*step, Step::Idle(Some(at(6 * HOUR))));
        return;
    };
    assert!(!stands, "{intent:?} changes nothing");
    assert_eq!(intent.cause, WriteCause::Change);
    let targets = |list: &[(String, Spec)]| list.iter().map(|(target, _)| target.clone()).collect::<Vec<_>>();
    let asked: Vec<_> = intent.granted.request.registries.iter().map(ToString::to_string).collect();
    assert_eq!(asked, targets(&expected));
    for target in carried(intent, namespace, settings) {
        let assignment = intent.granted.assignments.iter().find(|a| a.target == target).expect("assigned");
        let was = reached.get(&target.to_string());
        assert_eq!(was, Some(&reach(settings, assignment)), "what reaches otherwise was carried");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_namespace_only_gets_what_is_granted_to_it_and_no_annotation_widens_it(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(),
    ) {
        let settings = model.settings();
        let reading = read(&wishes, &settings);
        if let Some(request) = wanted(&reading) {
            let answer = settings.grants.assign(namespace, request);
            check_answer(&model, &settings, namespace, request, &answer);
        }
    }

    #[test]
    fn tokens_are_shared_between_equal_reaches_only(
        model in any_model(), spaces in [any_namespace(), any_namespace()], wishes in [any_wishes(), any_wishes()],
        alike in any::<bool>(), other in any_withdrawal(),
    ) {
        let other = after(&model, other);
        let sides = [(&model, model.settings()), (&other, other.settings())];
        let mut all = vec![];
        for (place, (_, settings)) in sides.iter().enumerate() {
            let wishes = if alike { &wishes[0] } else { &wishes[place] };
            for namespace in spaces {
                let reading = read(wishes, settings);
                let granted = wanted(&reading).and_then(|request| settings.grants.assign(namespace, request).ok());
                let assignments = granted.map(|(granted, _)| granted.assignments).unwrap_or_default();
                all.extend(assignments.into_iter().map(|assignment| (place, reach(settings, &assignment), assignment)));
            }
        }
        for (place, reach, a) in &all {
            for (other_place, other_reach, b) in &all {
                prop_assert_eq!(a.scope == b.scope, reach == other_reach, "{:?} {:?}", a, b);
                if a.key == b.key {
                    prop_assert_eq!(endpoint(&a.target.to_string()), endpoint(&b.target.to_string()));
                    prop_assert!(place != other_place || reach == other_reach, "{:?} {:?}", a, b);
                }
                let parts = |a: &Assignment| (a.key.identity.as_str().to_owned(), endpoint(&a.target.to_string()), a.key.restriction.clone());
                prop_assert_eq!(a.key == b.key, parts(a) == parts(b));
            }
        }
    }

    #[test]
    fn what_one_namespace_is_granted_by_its_name_is_no_other_ones(
        template in select(&TEMPLATES[..5]), prefix in "[a-z/]{0,3}", namespace in any_namespace(), other in any_namespace(),
        wishes in any_wishes(),
    ) {
        prop_assume!(namespace != other);
        let template = format!("{prefix}{template}");
        let spec = Spec { repositories: vec![template.clone()], ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        let settings = model.settings();
        let reading = read(&Wishes { roles: vec![], ..wishes }, &settings);
        let granted = wanted(&reading).and_then(|request| settings.grants.assign(namespace, request).ok());
        for assignment in granted.iter().flat_map(|(granted, _)| &granted.assignments) {
            let Restriction::Pull(patterns) = &assignment.key.restriction else { panic!("the whole scope") };
            for pattern in patterns.iter().map(ToString::to_string) {
                for rest in ["", "app", "/app", "app/x"] {
                    let theirs = template.replace("{namespace}", other).replace('*', rest);
                    prop_assert!(!glob(&pattern, &theirs), "{} reaches {}", pattern, theirs);
                }
            }
        }
    }

    #[test]
    fn what_is_withdrawn_is_taken_away(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(), withdrawal in any_withdrawal(),
        usable in any::<bool>(),
    ) {
        let before = model.settings();
        let reading = read(&wishes, &before);
        if let Some(Ok((granted, _))) = wanted(&reading).map(|request| before.grants.assign(namespace, request)) {
            let reached = granted.assignments.iter().map(|a| (a.target.to_string(), reach(&before, a))).collect();
            let model = after(&model, withdrawal);
            let settings = model.settings();
            let secrets = standing(&granted);
            let reading = if usable { read(&wishes, &settings) } else { unusable() };
            let step = decide(namespace, &reading, &secrets, &settings).step;
            let accepted = secrets[0].1.applied.clone().expect("applied");
            check_step(&model, &settings, namespace, wanted(&reading), (&accepted, &reached), &step);
        }
    }

    #[test]
    fn a_forged_applied_request_is_held_to_the_grants(
        model in any_model(), namespace in any_namespace(), wishes in any_wishes(), entries in vec("[0-9a-f]{0,16}@[0-9]{1,12}|", 0..9),
        noise in weighted(0.2, ".{0,40}"), accounts in weighted(0.1, Just("*")),
    ) {
        let settings = model.settings();
        let hosts: Vec<String> = wishes.registries.iter()
            .map(|item| if item.len() == 12 { format!("{item}.dkr.ecr.{HOME}.amazonaws.com") } else { item.clone() })
            .filter(|item| noise.is_some() || item.parse::<crate::core::registry::Registry>().is_ok() || item == "default")
            .collect();
        let forged = json!({
            "entries": entries, "instance": "ecr-pull-secrets", "registries": hosts,
            "repositories": wishes.repositories, "role": wishes.roles, "secretName": noise.clone().unwrap_or("kube-root".into()),
            "serviceAccounts": accounts.into_iter().collect::<Vec<_>>(),
        }).to_string();
        let forged = noise.map_or(forged.clone(), |noise| forged.replacen(HOME, &noise, 1));
        let Some(applied) = Applied::parse(&forged) else { return Ok(()) };
        let request = applied.accepted.request.clone();
        let step = decide(namespace, &unusable(), &secret(applied.accepted), &settings).step;
        // Service accounts are not enabled, and that is no reason to take anything away.
        let request = Request { secret_name: "ecr-pull".into(), service_accounts: vec![], ..request };
        match step {
            Step::Delete { cause, .. } => {
                prop_assert_eq!(cause, DeleteCause::NotGranted);
                prop_assert!(model.expected(namespace, &request).is_none());
            }
            Step::Write(intent) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
                prop_assert_eq!(answer.ok().map(|(granted, _)| granted), Some(intent.granted));
            }
            Step::Account { .. } => panic!("{step:?}"),
            Step::Idle(_) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
            }
        }
    }
}

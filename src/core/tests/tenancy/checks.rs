//! Comparisons of decisions with the oracle, and the decisions that are compared.

use super::oracle::*;
use super::*;

pub(super) type Answer = Result<(Granted, Vec<Problem>), Vec<Problem>>;

/// Checks that `answer` is what the oracle expects: (a) to (e) and (h).
pub(super) fn check_answer(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    request: &Request,
    answer: &Answer,
) {
    let expected = model.expected(namespace, request);
    let Ok((granted, problems)) = answer else {
        assert_eq!(expected, None, "rejected: {answer:?}");
        assert!(answer.as_ref().is_err_and(|problems| !problems.is_empty()));
        return;
    };
    let expected = expected.expect("an ungranted request is rejected");
    let actual: Vec<_> = granted
        .assignments
        .iter()
        .map(|assignment| {
            (assignment.target.to_string(), model.spec(assignment.request.key.identity.as_str()))
        })
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
    let spec = model.spec(assignment.request.key.identity.as_str());
    assert_eq!(assignment.request.key.endpoint.to_string(), endpoint(&target));
    let by_default = model.default && spec.name == "controller";
    assert!(spec.granted(namespace) || by_default, "(a) {spec:?} is not granted to {namespace}");
    assert!(by_default || spec.serves(&target), "(b) {spec:?} does not serve {target}");
    assert!(spec.partition().is_none_or(|own| own == target_partition(&target)), "(b) {spec:?} {target}");
    let Restriction::Pull(patterns) = &assignment.request.key.restriction else {
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
        let within =
            |bounds: &[String], pattern: &String| bounds.iter().any(|bound| includes(bound, pattern));
        let bounds = spec.repository_patterns(namespace);
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
    check_policy(&spec, &assignment.request.key.endpoint, &patterns, &policy);
}

/// (e)
pub(super) fn check_policy(spec: &Spec, endpoint: &Endpoint, patterns: &[String], policy: &str) {
    assert!(policy.len() <= MAX_POLICY_LEN, "{} characters", policy.len());
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
    let actual: Vec<_> = statements.iter().map(|s| (set(&s["Action"]), set(&s["Resource"]))).collect();
    if *endpoint == Endpoint::Public {
        let actions = of(&["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"]);
        assert_eq!(actual, [(actions, of(&["*"]))]);
        return;
    }
    let mut actions =
        of(&["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]);
    if spec.pull_through_cache {
        actions.extend(of(&["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]));
    }
    if spec.list_tags {
        actions.extend(of(&["ecr:ListImages"]));
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
    assert_eq!(actual, [(of(&["ecr:GetAuthorizationToken"]), of(&["*"])), (actions, resources)]);
}

/// The Secret with the granted entries, read back from its annotations.
pub(super) fn secret_of(granted: &Granted) -> Vec<(Arc<str>, Observed)> {
    let entry = |a: &Assignment| Some(applied_entry(a, Some(wall(12 * HOUR))));
    let entries = granted.assignments.iter().map(entry).collect();
    let request = Request::clone(&granted.request);
    let applied = AppliedState { request, entries, static_entries: BTreeMap::new(), template: None };
    let times = Times { expires_at: wall(12 * HOUR), refresh_after: wall(6 * HOUR) };
    let recorded = RecordedState::from_annotations(&applied.to_annotations("ecr-pull-secrets", times));
    assert_eq!(recorded.times, Some(times));
    secret(recorded.applied.expect("a written state can be read").1)
}

pub(super) fn secret(applied: AppliedState) -> Vec<(Arc<str>, Observed)> {
    vec![("ecr-pull".into(), observed_with(applied))]
}

pub(super) fn decide(
    namespace: &str,
    parsed: &ParsedAnnotations,
    secrets: &[(Arc<str>, Observed)],
    settings: &Settings,
) -> Plan {
    let history = History::default();
    plan(&Facts { parsed: Some(parsed), secrets, ..facts(namespace, &history) }, settings, at(HOUR))
}

/// The facts about a namespace without annotations and objects.
pub(super) fn facts<'a>(namespace: &'a str, history: &'a History) -> Facts<'a> {
    static NO_SOURCES: StaticSources = StaticSources::new();
    Facts {
        terminating: false,
        held: false,
        keeps_all: false,
        is_single_pass: false,
        namespace,
        parsed: None,
        secrets: &[],
        service_accounts: &[],
        known_accounts: KnownAccounts::All,
        static_sources: &NO_SOURCES,
        history,
    }
}

/// The registries whose entries are kept when no token is available.
pub(super) fn kept_without_tokens(write: &WritePlan, namespace: &str, settings: &Settings) -> Vec<Target> {
    let none = vec![None; write.granted.assignments.len()];
    let draft = compose(write, &none, &facts(namespace, &History::default()), settings, at(HOUR));
    draft.map(|draft| kept_targets(&draft)).unwrap_or_default()
}

pub(super) fn invalid() -> ParsedAnnotations {
    ParsedAnnotations { opt_in: OptIn::Invalid, renew: None, problems: vec![] }
}

/// Checks that `step` leaves a namespace with the entries that `model` grants, and no others.
pub(super) fn check_step(
    model: &Model,
    settings: &Settings,
    namespace: &str,
    requested: Option<&Request>,
    applied: (&AppliedState, &BTreeMap<String, (String, Option<String>)>),
    step: &Step,
) {
    let (applied, reached) = applied;
    let granted = |request: &Request| Some((request.clone(), model.expected(namespace, request)?));
    let Some((request, expected)) = requested.and_then(granted).or_else(|| granted(&applied.request)) else {
        let Step::Delete(Deletion { reason: DeleteReason::NotGranted, .. }) = step else {
            panic!("nothing of it is granted: {step:?}");
        };
        return;
    };
    let (answer, _) = settings.grants.assign(namespace, &request).expect("granted");
    let same_reach = |assignment: &Assignment| {
        reached.get(&assignment.target.to_string()).is_none_or(|was| *was == reach(settings, assignment))
    };
    let same_request = *answer.request == applied.request;
    let unchanged = same_request && answer.assignments.iter().all(same_reach);
    let Step::Write(write) = step else {
        assert!(unchanged, "{step:?} leaves what is no longer granted");
        assert_eq!(*step, Step::Idle(Some(wall(6 * HOUR))));
        return;
    };
    assert!(!unchanged, "{write:?} changes nothing");
    let reason = if same_request { WriteReason::ScopeChanged } else { WriteReason::RequestChanged };
    assert_eq!(write.reason, reason);
    let targets = |list: &[(String, Spec)]| list.iter().map(|(target, _)| target.clone()).collect::<Vec<_>>();
    let assigned: Vec<_> = write.granted.request.registries.iter().map(ToString::to_string).collect();
    assert_eq!(assigned, targets(&expected));
    for target in kept_without_tokens(write, namespace, settings) {
        // The host of `default` is only known from its entry.
        let all = &write.granted.assignments;
        let named = all.iter().find(|a| a.target == target);
        let assignment =
            named.or_else(|| all.iter().find(|a| a.target == Target::Default)).expect("assigned");
        let mut was = [target.to_string(), "default".to_owned()].into_iter().filter_map(|t| reached.get(&t));
        assert!(was.any(|was| *was == reach(settings, assignment)), "an entry with another reach was kept");
    }
}

//! Examples.

use super::checks::*;
use super::oracle::*;
use super::*;

pub(super) fn role(name: &str, registries: &[&str]) -> Spec {
    Spec {
        name: name.into(),
        arn: Some(format!("arn:aws:iam::222222222222:role/{name}")),
        namespaces: strings(&["*"]),
        registries: strings(registries),
        repositories: strings(&["*"]),
        pull_through_cache: false,
        list_tags: false,
    }
}

pub(super) fn assigned(model: &Model, namespace: &str, request: &Request) -> Granted {
    model.settings().grants.assign(namespace, request).expect("granted").0
}

pub(super) const TWO: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
pub(super) const THREE: &str = "333333333333.dkr.ecr.eu-central-1.amazonaws.com";

#[test]
fn a_token_of_dev_never_reaches_dev_prod() {
    for template in ["{namespace}/*", "{namespace}", "x/{namespace}/*", "x/{namespace}"] {
        let spec = Spec { repositories: strings(&[template]), ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        for assignment in assigned(&model, "dev", &request(&[TWO])).assignments {
            let Restriction::Pull(patterns) = assignment.request.key.restriction else {
                panic!("the whole scope")
            };
            for name in
                ["dev-prod", "dev-prod/app", "x/dev-prod", "x/dev-prod/app", "devx/app", "de/app", "n/app"]
            {
                assert!(
                    !patterns.iter().any(|pattern| glob(&pattern.to_string(), name)),
                    "{template}: {name}"
                );
            }
        }
    }
}

#[test]
fn the_order_of_the_annotation_role_comes_before_the_order_of_the_configuration() {
    let model =
        Model { specs: vec![role("one", &["*"]), role("two", &["*"]), role("three", &["*"])], default: true };
    for (roles, chosen) in [
        (&[][..], "one"),
        (&["three", "two"], "three"),
        (&["arn:aws:iam::222222222222:role/two", "one"], "two"),
        (&["controller", "one"], "controller"),
    ] {
        let request = Request { role: strings(roles), ..request(&[TWO]) };
        let granted = assigned(&model, "dev", &request);
        assert_eq!(granted.assignments[0].request.key.identity.as_str(), chosen, "{roles:?}");
    }
}

#[test]
fn the_default_registry_is_only_served_in_a_region_that_the_identity_serves() {
    let own = Spec { registries: strings(&["222222222222/us-east-1"]), ..controller() };
    let model = Model { specs: vec![own], default: false };
    let answer = model.settings().grants.assign("dev", &request(&["default"]));
    assert!(answer.is_err(), "its registries are in us-east-1 only: {answer:?}");
}

#[test]
fn a_session_policy_that_is_too_long_is_a_problem() {
    let model = Model { specs: vec![role("one", &["*"])], default: false };
    let repositories: Vec<String> = (10..30).map(|n| format!("{}/{n}", "x".repeat(80))).collect();
    let long = Request { repositories, ..request(&[TWO]) };
    let problems = model.settings().grants.assign("dev", &long).expect_err("it is too long");
    assert!(problems[0].message.contains("of at most 2048 characters"), "{problems:?}");
}

#[test]
fn withdrawing_all_registries_deletes_the_secret_and_withdrawing_some_changes_it() {
    let both = Model {
        specs: vec![role("two", &["222222222222/*"]), role("three", &["333333333333/*"])],
        default: false,
    };
    let (granted, requested) =
        (assigned(&both, "dev", &request(&[TWO, THREE])), parsed(request(&[TWO, THREE])));
    for parsed in [requested, invalid()] {
        let nothing = Model { specs: vec![], default: false };
        let step = decide("dev", &parsed, &secret_of(&granted), &nothing.settings()).step;
        assert!(matches!(step, Step::Delete(Deletion { reason: DeleteReason::NotGranted, .. })), "{step:?}");
        let one = Model { specs: both.specs[1..].to_vec(), default: false };
        let Step::Write(write) = decide("dev", &parsed, &secret_of(&granted), &one.settings()).step else {
            panic!("a withdrawn registry keeps its entry")
        };
        assert_eq!(
            (write.reason, &*write.granted.request),
            (WriteReason::RequestChanged, &request(&[THREE]))
        );
        assert_eq!(kept_without_tokens(&write, "dev", &one.settings()), request(&[THREE]).registries);
    }
}

#[test]
fn narrowing_a_grant_changes_the_secret_and_its_wider_token_is_not_kept() {
    let model = |repositories: &[&str]| {
        let narrow = Spec { repositories: strings(repositories), ..role("two", &["222222222222/*"]) };
        Model { specs: vec![narrow, role("three", &["333333333333/*"])], default: false }
    };
    let granted = assigned(&model(&["*"]), "dev", &request(&[TWO, THREE]));
    let settings = model(&["{namespace}/*"]).settings();
    for parsed in [parsed(request(&[TWO, THREE])), invalid()] {
        let Step::Write(write) = decide("dev", &parsed, &secret_of(&granted), &settings).step else {
            panic!("a wider token is kept")
        };
        assert_eq!(write.reason, WriteReason::ScopeChanged);
        assert_eq!(kept_without_tokens(&write, "dev", &settings), request(&[THREE]).registries);
    }
}

#[test]
fn a_request_that_narrows_repositories_never_falls_back_to_the_whole_scope() {
    let narrow = Spec { repositories: strings(&["{namespace}/*"]), ..role("two", &["222222222222/*"]) };
    let model = Model { specs: vec![narrow], default: true };
    let narrowed = Request { repositories: strings(&["dev/app"]), ..request(&[TWO, THREE]) };
    let (granted, problems) = model.settings().grants.assign("dev", &narrowed).expect("one is granted");
    assert_eq!(granted.request.registries, request(&[TWO]).registries);
    assert_eq!(problems.len(), 1);
    for wider in ["*", "dev*", "dev-prod/*", "d*", "team-a/app"] {
        let wider = Request { repositories: strings(&[wider]), ..request(&[TWO]) };
        assert!(model.settings().grants.assign("dev", &wider).is_err(), "{wider:?}");
    }
}

#[test]
fn the_registry_that_a_token_of_the_controller_names_must_be_granted() {
    let own = |registries: &[&str]| {
        let spec = Spec { registries: strings(registries), ..controller() };
        Model { specs: vec![spec], default: false }
    };
    let default = request_for(vec![Target::Default]);
    let hosts = |registries: &[&str]| {
        let settings = own(registries).settings();
        let granted =
            settings.grants.assign("dev", &default).expect("some registry of the region is granted").0;
        let plan = WritePlan::new(WriteReason::Missing, granted.into(), BTreeMap::new(), None);
        let tokens = [Some(token(at(0), 12 * HOUR))];
        let draft = compose(&plan, &tokens, &facts("dev", &History::default()), &settings, at(0));
        draft.map_or(vec![], |draft| set_targets(&draft))
    };
    assert_eq!(hosts(&["*"]), [target(HOST)]);
    assert_eq!(hosts(&["123456789012/eu-central-1"]), [target(HOST)]);
    assert_eq!(hosts(&["222222222222/*", "123456789012/us-*"]), []);
}

#[test]
fn the_session_of_a_namespaces_own_token_has_its_name_and_a_shared_one_has_not() {
    const SHARED: &str = "ecr-pull-secrets";
    let name = |repositories: &[&str], namespaces: &[&str], namespace: &str, wanted: &[&str]| {
        let spec = Spec {
            repositories: strings(repositories),
            namespaces: strings(namespaces),
            ..role("team", &["*", "public.ecr.aws"])
        };
        let model = Model { specs: vec![spec], default: false };
        let request = Request { repositories: strings(wanted), ..request(&[TWO]) };
        let granted = assigned(&model, namespace, &request);
        granted.assignments[0].request.session.as_ref().expect("a session").name.clone()
    };
    for (repositories, namespaces, wanted, expected) in [
        (&["{namespace}/*"][..], &["*"][..], &[][..], "ecr-pull-secrets.dev"),
        (&["x/{namespace}", "base/*"], &["*"], &[], "ecr-pull-secrets.dev"),
        (&["{namespace}/*", "base/*"], &["*"], &["dev/app"], "ecr-pull-secrets.dev"),
        // Another namespace can ask for the same.
        (&["{namespace}/*", "base/*"], &["*"], &["base/*"], SHARED),
        (&["{namespace}/*", "*"], &["*"], &[], SHARED),
        (&["base/*"], &["d*"], &[], SHARED),
        (&["{namespace}/*", "dev/{namespace}/*"], &["*"], &["dev/app/*"], SHARED),
        // No other namespace may use the identity.
        (&["base/*"], &["dev"], &[], "ecr-pull-secrets.dev"),
        (&["base/*"], &["dev", "dev-2"], &[], SHARED),
    ] {
        let found = name(repositories, namespaces, "dev", wanted);
        assert_eq!(found, expected, "{repositories:?} {namespaces:?} {wanted:?}");
    }
}

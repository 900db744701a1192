//! Cases by name.

use super::oracle::*;
use super::properties::*;
use super::*;

pub(super) fn role(name: &str, registries: &[&str]) -> Spec {
    Spec {
        name: name.into(),
        arn: Some(format!("arn:aws:iam::222222222222:role/{name}")),
        namespaces: strings(&["*"]),
        registries: strings(registries),
        repositories: vec![],
        pull_through_cache: false,
    }
}

pub(super) fn request(registries: &[&str]) -> Request {
    let mut registries: Vec<Target> =
        registries.iter().map(|text| (*text).to_owned().try_into().expect("a target")).collect();
    registries.sort();
    request_for(registries)
}

pub(super) fn wants(request: Request) -> Reading {
    Reading { wish: Wish::Wants(request), problems: vec![] }
}

pub(super) fn assigned(model: &Model, namespace: &str, request: &Request) -> Granted {
    model.settings().grants.assign(namespace, request).expect("granted").0
}

pub(super) const TWO: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
pub(super) const THREE: &str = "333333333333.dkr.ecr.eu-central-1.amazonaws.com";

#[test]
fn dev_never_reaches_dev_prod() {
    for template in ["{namespace}/*", "{namespace}", "x/{namespace}/*", "x/{namespace}"] {
        let spec = Spec { repositories: strings(&[template]), ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        for assignment in assigned(&model, "dev", &request(&[TWO])).assignments {
            let Restriction::Pull(patterns) = assignment.key.restriction else { panic!("the whole scope") };
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
fn the_order_of_role_comes_before_the_order_of_the_configuration() {
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
        assert_eq!(granted.assignments[0].key.identity.as_str(), chosen, "{roles:?}");
    }
}

#[test]
fn the_own_registry_is_only_served_in_a_region_that_the_identity_has() {
    let own = Spec { registries: strings(&["222222222222/us-east-1"]), ..controller() };
    let model = Model { specs: vec![own], default: false };
    let answer = model.settings().grants.assign("dev", &request(&["default"]));
    assert!(answer.is_err(), "its registries are in us-east-1 only: {answer:?}");
}

#[test]
fn a_session_policy_that_is_too_long_is_not_asked_for() {
    let model = Model { specs: vec![role("one", &["*"])], default: false };
    let repositories: Vec<String> = (10..30).map(|n| format!("{}/{n}", "x".repeat(80))).collect();
    let long = Request { repositories, ..request(&[TWO]) };
    let problems = model.settings().grants.assign("dev", &long).expect_err("it is too long");
    assert!(problems[0].message.contains("of at most 2048 characters"), "{problems:?}");
}

#[test]
fn all_registries_withdrawn_is_a_removal_and_some_of_them_a_change() {
    let both = Model {
        specs: vec![role("two", &["222222222222/*"]), role("three", &["333333333333/*"])],
        default: false,
    };
    let (granted, asked) = (assigned(&both, "dev", &request(&[TWO, THREE])), wants(request(&[TWO, THREE])));
    for reading in [asked, unusable()] {
        let nothing = Model { specs: vec![], default: false };
        let step = decide("dev", &reading, &standing(&granted), &nothing.settings()).step;
        assert!(matches!(step, Step::Delete { cause: DeleteCause::NotGranted, .. }), "{step:?}");
        let one = Model { specs: both.specs[1..].to_vec(), default: false };
        let Step::Write(intent) = decide("dev", &reading, &standing(&granted), &one.settings()).step else {
            panic!("what is withdrawn stands")
        };
        assert_eq!((intent.cause, &*intent.granted.request), (WriteCause::Change, &request(&[THREE])));
        assert_eq!(carried(&intent, "dev", &one.settings()), request(&[THREE]).registries);
    }
}

#[test]
fn a_narrowed_grant_is_a_change_and_its_old_token_is_not_carried() {
    let model = |repositories: &[&str]| {
        let narrow = Spec { repositories: strings(repositories), ..role("two", &["222222222222/*"]) };
        Model { specs: vec![narrow, role("three", &["333333333333/*"])], default: false }
    };
    let granted = assigned(&model(&[]), "dev", &request(&[TWO, THREE]));
    let settings = model(&["{namespace}/*"]).settings();
    for reading in [wants(request(&[TWO, THREE])), unusable()] {
        let Step::Write(intent) = decide("dev", &reading, &standing(&granted), &settings).step else {
            panic!("a wider token stands")
        };
        assert_eq!(intent.cause, WriteCause::Change);
        assert_eq!(carried(&intent, "dev", &settings), request(&[THREE]).registries);
    }
}

#[test]
fn an_annotation_that_narrows_cannot_fall_back_to_the_whole_scope() {
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

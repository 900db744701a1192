//! Properties of every configuration, namespace and annotation.

use super::cases::role;
use super::checks::*;
use super::generators::*;
use super::oracle::*;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_namespace_only_gets_what_is_granted_to_it_and_no_annotation_widens_it(
        model in any_model(), namespace in any_namespace(), values in any_values(),
    ) {
        let settings = model.settings();
        let parsed = parse(&values, &settings);
        if let Some(request) = requested(&parsed) {
            let answer = settings.grants.assign(namespace, request);
            check_answer(&model, &settings, namespace, request, &answer);
        }
    }

    #[test]
    fn tokens_are_shared_only_between_equal_reaches(
        model in any_model(), namespaces in [any_namespace(), any_namespace()],
        values in [any_values(), any_values()], alike in any::<bool>(), other in any_withdrawal(),
    ) {
        let other = after(&model, other);
        let sides = [(&model, model.settings()), (&other, other.settings())];
        let mut all = vec![];
        for (side, (_, settings)) in sides.iter().enumerate() {
            let values = if alike { &values[0] } else { &values[side] };
            for namespace in namespaces {
                let parsed = parse(values, settings);
                let assign = |request| settings.grants.assign(namespace, request).ok();
                let granted = requested(&parsed).and_then(assign);
                let assignments = granted.map(|(granted, _)| granted.assignments).unwrap_or_default();
                all.extend(assignments.into_iter().map(|a| (side, reach(settings, &a), a)));
            }
        }
        for (side, reach, a) in &all {
            for (other_side, other_reach, b) in &all {
                prop_assert_eq!(a.scope == b.scope, reach == other_reach, "{:?} {:?}", a, b);
                if a.request.key == b.request.key {
                    prop_assert_eq!(endpoint(&a.target.to_string()), endpoint(&b.target.to_string()));
                    prop_assert!(side != other_side || reach == other_reach, "{:?} {:?}", a, b);
                }
                let parts = |a: &Assignment| {
                    let TokenKey { identity, restriction, .. } = a.request.key.clone();
                    (identity, endpoint(&a.target.to_string()), restriction)
                };
                prop_assert_eq!(a.request.key == b.request.key, parts(a) == parts(b));
            }
        }
    }

    #[test]
    fn a_grant_by_namespace_name_never_reaches_another_namespace(
        template in select(&TEMPLATES[..5]), prefix in "[a-z/]{0,3}", values in any_values(),
        namespace in any_namespace(), other in any_namespace(),
    ) {
        prop_assume!(namespace != other);
        let template = format!("{prefix}{template}");
        let spec = Spec { repositories: vec![template.clone()], ..role("all", &["*"]) };
        let model = Model { specs: vec![spec], default: false };
        let settings = model.settings();
        let parsed = parse(&Values { roles: vec![], ..values }, &settings);
        let granted = requested(&parsed).and_then(|request| settings.grants.assign(namespace, request).ok());
        for assignment in granted.iter().flat_map(|(granted, _)| &granted.assignments) {
            let key = &assignment.request.key;
            let Restriction::Pull(patterns) = &key.restriction else { panic!("the whole scope") };
            for pattern in patterns.iter().map(ToString::to_string) {
                for rest in ["", "app", "/app", "app/x"] {
                    let theirs = template.replace("{namespace}", other).replace('*', rest);
                    prop_assert!(!glob(&pattern, &theirs), "{} reaches {}", pattern, theirs);
                }
            }
        }
    }

    #[test]
    fn namespaces_that_share_a_token_request_it_alike(
        model in any_model(), values in any_values(), namespace in any_namespace(), other in any_namespace(),
    ) {
        let settings = model.settings();
        let parsed = parse(&values, &settings);
        let assigned = |namespace| {
            let granted = requested(&parsed).and_then(|request| settings.grants.assign(namespace, request).ok());
            granted.map(|(granted, _)| granted.assignments).unwrap_or_default()
        };
        let theirs = assigned(other);
        for own in assigned(namespace) {
            let session = own.request.session.as_ref();
            for their in theirs.iter().filter(|their| their.request.key == own.request.key) {
                prop_assert_eq!(session, their.request.session.as_ref());
                if namespace != other {
                    let names = session.map(|session| session.name.contains('.'));
                    prop_assert!(names != Some(true), "{:?} names one of two namespaces", session);
                }
            }
        }
    }

    #[test]
    fn a_withdrawn_grant_is_removed(
        model in any_model(), namespace in any_namespace(), values in any_values(),
        withdrawal in any_withdrawal(), valid in any::<bool>(),
    ) {
        let before = model.settings();
        let parsed = parse(&values, &before);
        let granted = requested(&parsed).and_then(|request| before.grants.assign(namespace, request).ok());
        if let Some((granted, _)) = granted {
            let reached = |a: &Assignment| (a.target.to_string(), reach(&before, a));
            let reached = granted.assignments.iter().map(reached).collect();
            let model = after(&model, withdrawal);
            let settings = model.settings();
            let secrets = secret_of(&granted);
            let parsed = if valid { parse(&values, &settings) } else { invalid() };
            let step = decide(namespace, &parsed, &secrets, &settings).step;
            let applied = secrets[0].1.applied.clone().expect("applied");
            check_step(&model, &settings, namespace, requested(&parsed), (&applied, &reached), &step);
        }
    }

    #[test]
    fn a_forged_applied_request_gets_no_more_than_the_grants(
        model in any_model(), namespace in any_namespace(), values in any_values(),
        entries in vec("[0-9a-f]{0,16}@[0-9]{1,12}|", 0..9),
        noise in weighted(0.2, ".{0,40}"), service_accounts in weighted(0.1, Just("*")),
    ) {
        let settings = model.settings();
        let host = |item: &String| match item.len() {
            12 => format!("{item}.dkr.ecr.{HOME}.amazonaws.com"),
            _ => item.clone(),
        };
        let usable =
            |item: &String| noise.is_some() || item.parse::<Registry>().is_ok() || item == "default";
        let hosts: Vec<String> = values.registries.iter().map(host).filter(usable).collect();
        let forged = json!({
            "entries": entries, "instance": "ecr-pull-secrets", "registries": hosts,
            "repositories": values.repositories, "role": values.roles,
            "secretName": noise.clone().unwrap_or("kube-root".into()),
            "serviceAccounts": service_accounts.into_iter().collect::<Vec<_>>(),
        }).to_string();
        let forged = noise.map_or(forged.clone(), |noise| forged.replacen(HOME, &noise, 1));
        let forged = BTreeMap::from([(format!("{PREFIX}{APPLIED}"), forged)]);
        let Some((_, applied)) = RecordedState::from_annotations(&forged).applied else { return Ok(()) };
        let request = applied.request.clone();
        let step = decide(namespace, &invalid(), &secret(applied), &settings).step;
        // Service accounts are not enabled, so they are dropped, and nothing is deleted because of them.
        let request = Request { secret_name: "ecr-pull".into(), service_accounts: vec![], ..request };
        match step {
            Step::Delete(deletion) => {
                prop_assert_eq!(deletion.reason, DeleteReason::NotGranted);
                prop_assert!(model.expected(namespace, &request).is_none());
            }
            Step::Write(write) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
                prop_assert_eq!(answer.ok().map(|(granted, _)| granted), Some((*write.granted).clone()));
            }
            Step::SetPullSecret(_) | Step::ListServiceAccounts | Step::Replace(_) => panic!("{step:?}"),
            Step::Idle(_) => {
                let answer = settings.grants.assign(namespace, &request);
                check_answer(&model, &settings, namespace, &request, &answer);
            }
        }
    }
}

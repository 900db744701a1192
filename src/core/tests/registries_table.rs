//! The value of the annotation `registries` → the endpoint and identity of each registry, or the problem: for the
//! namespace `team-a`, through [`annotations::parse`] and [`Grants::assign`](super::grants::Grants::assign).

use std::collections::BTreeMap;

use crate::config::Config;
use crate::core::PREFIX;
use crate::core::request::Problem;
use crate::core::request::annotations::{self, OptIn};
use crate::core::settings::Settings;
use crate::core::testing::JITTER;

/// The identities of the table. The default identity comes after these.
const IDENTITIES: &str = r#"
identities:
- name: two
  roleArn: arn:aws:iam::222222222222:role/ecr-pull
  namespaces: [team-a]
  registries: ["222222222222/*"]
  repositories: ["*"]
- name: three
  roleArn: arn:aws:iam::333333333333:role/ecr-pull
  namespaces: ["team-*"]
  registries: ["333333333333/eu-*"]
  repositories: ["*"]
- name: china
  roleArn: arn:aws-cn:iam::444444444444:role/ecr-pull
  namespaces: [other, team-a]
  registries: ["*"]
  repositories: ["*"]
- name: public
  roleArn: arn:aws:iam::555555555555:role/ecr-pull
  namespaces: [team-a]
  registries: [public.ecr.aws]
- name: strangers
  roleArn: arn:aws:iam::666666666666:role/ecr-pull
  namespaces: ["team-b-*", "team-", team-a-]
  registries: ["*", public.ecr.aws]
  repositories: ["*"]
- name: gov
  roleArn: arn:aws-us-gov:iam::777777777777:role/ecr-pull
  namespaces: ["team-a*"]
  registries: [777777777777/us-gov-west-1]
  repositories: ["*"]
"#;

fn settings(default_identity: &str) -> Settings {
    let yaml = format!("defaults: {{identity: {default_identity}}}{IDENTITIES}");
    let config: Config = serde_saphyr::from_str(&yaml).expect("YAML");
    config.settings(Some("eu-central-1".parse().expect("a region")), None, JITTER).expect("a configuration")
}

/// The served registries, as `ENDPOINT[ dual-stack] IDENTITY` in the order of the hosts, and the problems.
fn answer(value: &str, settings: &Settings) -> (String, Vec<Problem>) {
    let annotations = BTreeMap::from([(format!("{PREFIX}registries"), value.to_owned())]);
    let parsed = annotations::parse(&annotations, false, settings.request_rules()).expect("opted in");
    let mut problems = parsed.problems;
    let request = match parsed.opt_in {
        OptIn::In(request) => request,
        OptIn::Out => return ("opted out".to_owned(), problems),
        OptIn::Invalid => return (String::new(), problems),
    };
    let assignments = match settings.grants.assign("team-a", &request) {
        Ok((granted, more)) => {
            problems.extend(more);
            assert_eq!(granted.request.registries.len(), granted.assignments.len(), "{value:?}");
            granted.assignments
        }
        Err(more) => {
            problems.extend(more);
            vec![]
        }
    };
    let served = assignments.iter().map(|assignment| {
        let dual_stack = if assignment.request.dual_stack { " dual-stack" } else { "" };
        format!(
            "{}{dual_stack} {}",
            assignment.request.key.endpoint,
            assignment.request.key.identity.as_str()
        )
    });
    (served.collect::<Vec<_>>().join(", "), problems)
}

/// The value, what is served, and a part of the message; `""` for nothing.
type Row = (&'static str, &'static str, &'static str);

const NO_HOST: &str = "is not an Amazon ECR registry: expected ACCOUNT.dkr.ecr.REGION.amazonaws.com";
const NO_ACCOUNT: &str = "is not an AWS account ID: expected 12 digits";
const NO_REGION: &str = "is not an AWS region: expected a name such as eu-central-1";

const WITH_DEFAULT: &[Row] = &[
    // Every partition, standard.
    ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 controller", ""),
    ("123456789012.dkr.ecr.us-gov-east-1.amazonaws.com", "us-gov-east-1 controller", ""),
    ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 china", ""),
    ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1 controller", ""),
    ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1 controller", ""),
    ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1 controller", ""),
    ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1 controller", ""),
    ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1 controller", ""),
    // FIPS.
    ("123456789012.dkr.ecr-fips.us-east-2.amazonaws.com", "us-east-2 (FIPS) controller", ""),
    ("222222222222.dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1 (FIPS) two", ""),
    ("777777777777.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1 (FIPS) gov", ""),
    ("123456789012.dkr.ecr-fips.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1 (FIPS) controller", ""),
    // Dual-stack, with FIPS too, and China's.
    ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1 dual-stack controller", ""),
    ("222222222222.dkr-ecr.ap-southeast-2.on.aws", "ap-southeast-2 dual-stack two", ""),
    ("123456789012.dkr-ecr-fips.us-west-2.on.aws", "us-west-2 (FIPS) dual-stack controller", ""),
    ("777777777777.dkr-ecr-fips.us-gov-west-1.on.aws", "us-gov-west-1 (FIPS) dual-stack gov", ""),
    (
        "123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn",
        "cn-northwest-1 dual-stack china",
        "",
    ),
    (
        "123456789012.dkr-ecr-fips.cn-north-1.on.amazonwebservices.com.cn",
        "cn-north-1 (FIPS) dual-stack china",
        "",
    ),
    // Public ECR.
    ("public.ecr.aws", "public ECR public", ""),
    ("ecr-public.aws.com", "public ECR dual-stack public", ""),
    ("https://public.ecr.aws/", "public ECR public", ""),
    ("ecr-public.aws.com public.ecr.aws", "public ECR dual-stack public, public ECR public", ""),
    // The choice: first the account and region, then the partition of the role.
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 two", ""),
    ("222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 china", ""),
    ("222222222222.dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1 controller", ""),
    ("333333333333.dkr.ecr.eu-west-3.amazonaws.com", "eu-west-3 three", ""),
    ("333333333333.dkr.ecr.us-east-1.amazonaws.com", "us-east-1 controller", ""),
    ("333333333333.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1 controller", ""),
    ("333333333333.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1 controller", ""),
    ("333333333333.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 china", ""),
    ("444444444444.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 controller", ""),
    ("444444444444.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 china", ""),
    ("666666666666.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 controller", ""),
    ("777777777777.dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1 gov", ""),
    ("777777777777.dkr.ecr.us-gov-east-1.amazonaws.com", "us-gov-east-1 controller", ""),
    // Accounts, `default`, `none`, and the ways to write a host.
    ("222222222222", "eu-central-1 two", ""),
    ("000000000000", "eu-central-1 controller", ""),
    ("333333333333,222222222222", "eu-central-1 two, eu-central-1 three", ""),
    ("222222222222 222222222222.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 two", ""),
    ("default", "eu-central-1 two", ""),
    ("default\n\tpublic.ecr.aws ,", "public ECR public, eu-central-1 two", ""),
    ("none", "opted out", ""),
    (" none\n", "opted out", ""),
    ("https://222222222222.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 two", ""),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com/", "eu-central-1 two", ""),
    ("https://222222222222.dkr-ecr.eu-central-1.on.aws/", "eu-central-1 dual-stack two", ""),
    // Not 12 ASCII digits.
    ("22222222222", "", NO_ACCOUNT),
    ("2222222222222", "", NO_ACCOUNT),
    ("22222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("2222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("２２２222222222", "", NO_HOST),
    ("２２２２.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("+22222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("0x2222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("22222222222a", "", NO_HOST),
    ("-222222222222", "", NO_HOST),
    // The suffix of another partition, or of none.
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com.cn", "", "region eu-central-1 is in partition aws,"),
    ("222222222222.dkr.ecr.cn-north-1.amazonaws.com", "", "region cn-north-1 is in partition aws-cn,"),
    ("222222222222.dkr-ecr.cn-north-1.on.aws", "", "region cn-north-1 is in partition aws-cn,"),
    ("222222222222.dkr.ecr.us-iso-east-1.sc2s.sgov.gov", "", "region us-iso-east-1 is in partition aws-iso,"),
    ("222222222222.dkr.ecr.us-isob-east-1.c2s.ic.gov", "", "in partition aws-iso-b,"),
    ("222222222222.dkr.ecr.eusc-de-east-1.amazonaws.com", "", "in partition aws-eusc,"),
    ("222222222222.dkr.ecr.us-gov-west-1.amazonaws.eu", "", "in partition aws-us-gov,"),
    ("222222222222.dkr.ecr.eu-central-1.evil.example", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com.evil.example", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.xamazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.co", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.on.amazonwebservices.com", "", NO_HOST),
    // Other parts of a URL or an image name.
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com:443", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com.", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com/team-a", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com//", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com?x", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com#x", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com\\", "", NO_HOST),
    ("AWS@222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("evil.example/222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    ("http://222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("https://https://222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("HTTPS://222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_ACCOUNT),
    ("x.222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    (".222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222..dkr.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    // The part between account and region.
    ("222222222222.dkr.ecrx.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr_ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr-fips-fips.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr-fip.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr.-fips.eu-central-1.amazonaws.com", "", NO_HOST),
    ("api.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    // Letters and regions.
    ("222222222222.DKR.ECR.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr.EU-CENTRAL-1.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.COM", "", NO_HOST),
    ("222222222222.dkr.ecr..amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-1.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-central.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-central-123.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu--1.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-central-١.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.*.amazonaws.com", "", NO_REGION),
    ("222222222222.dkr.ecr.eu-abcdefghijklmnopqrstuvwxyzab-1.amazonaws.com", "", NO_REGION),
    // Public look-alikes.
    ("public.ecr.aws.evil.example", "", NO_HOST),
    ("xpublic.ecr.aws", "", NO_HOST),
    ("Public.ecr.aws", "", NO_HOST),
    ("public.ecr.aws/docker", "", NO_HOST),
    ("public.ecr.aws.com", "", NO_HOST),
    ("ecr-public.us-east-1.amazonaws.com", "", NO_HOST),
    // Words, wildcards and other texts that a person or an attacker may paste.
    ("", "", "empty: list registries; to opt out, set \"none\" or remove the annotation"),
    (" ,\n, ", "", "empty: list registries; to opt out, set \"none\" or remove the annotation"),
    ("/", "", NO_HOST),
    ("https://", "", NO_HOST),
    ("*", "", NO_HOST),
    ("222222222222/*", "", NO_HOST),
    ("Default", "", NO_HOST),
    ("NONE", "", NO_HOST),
    ("none 222222222222", "eu-central-1 two", "\"none\" is not an Amazon ECR registry"),
    ("evil.example 222222222222", "eu-central-1 two", "\"evil.example\" is not an Amazon ECR registry"),
    ("\"222222222222\"", "", r#""\"222222222222\"" is not an Amazon ECR registry"#),
    ("222222222222;333333333333", "", NO_HOST),
    ("[\"222222222222\"]", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com\0", "", r"amazonaws.com\0"),
    ("\u{1b}[31m222222222222", "", r"\u{1b}[31m222222222222"),
    ("222222222222\u{7f}", "", r"222222222222\u{7f}"),
    ("\u{202e}222222222222", "", r"\u{202e}222222222222"),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com\u{200b}", "", r"\u{200b}"),
    ("\u{feff}222222222222.dkr.ecr.eu-central-1.amazonaws.com", "", r"\u{feff}"),
    ("222222222222.dkr.ecr.eu-central-1.\u{430}mazonaws.com", "", NO_HOST),
    ("222222222222\u{3002}dkr.ecr.eu-central-1.amazonaws.com", "", NO_HOST),
    ("222222222222.dkr.ecr.eu-central-1.amazonaws.com%00", "", NO_HOST),
];

/// With `defaults.identity: none`, only granted registries are served.
const WITHOUT_DEFAULT: &[Row] = &[
    ("222222222222", "eu-central-1 two", ""),
    ("default", "eu-central-1 two", ""),
    ("123456789012", "", "\"china\", whose credentials are unknown there"),
    ("444444444444", "", "is in another AWS partition than identity \"china\""),
    ("333333333333.dkr.ecr.us-east-1.amazonaws.com", "", "is in another AWS partition than identity"),
    (
        "333333333333.dkr.ecr.us-east-1.amazonaws.com 333333333333",
        "eu-central-1 three",
        "another AWS partition",
    ),
    ("666666666666.dkr.ecr.eu-central-1.amazonaws.com", "", "than identity \"china\""),
    ("777777777777.dkr.ecr.us-gov-east-1.amazonaws.com", "", "than identity \"china\""),
    ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 china", ""),
    ("ecr-public.aws.com", "public ECR dual-stack public", ""),
];

fn check(rows: &[Row], settings: &Settings) -> Vec<String> {
    let mut wrong = vec![];
    for (value, served, message_part) in rows {
        let (actual, problems) = answer(value, settings);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        let message = messages.join(" | ");
        let right = if message_part.is_empty() { message.is_empty() } else { message.contains(message_part) };
        if actual != *served || !right {
            wrong.push(format!(
                "{value:?}: {actual:?} instead of {served:?}, {message:?} instead of {message_part:?}"
            ));
        }
        let invisible = |c: char| {
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{feff}')
        };
        for message in messages {
            let prefixed = message.matches(PREFIX).count() == 1 && message.starts_with(PREFIX);
            if !prefixed || message.contains(invisible) || message.len() > 900 {
                wrong.push(format!("{value:?}: malformed message: {message:?}"));
            }
        }
    }
    wrong
}

#[test]
fn every_host_has_its_endpoint_and_identity_and_every_near_miss_its_message() {
    let wrong = check(WITH_DEFAULT, &settings("controller"));
    assert_eq!(wrong, [""; 0], "{} of {} rows: {wrong:#?}", wrong.len(), WITH_DEFAULT.len());
}

#[test]
fn without_a_default_identity_only_granted_registries_are_served() {
    let wrong = check(WITHOUT_DEFAULT, &settings("none"));
    assert_eq!(wrong, [""; 0], "{} of {} rows: {wrong:#?}", wrong.len(), WITHOUT_DEFAULT.len());
}

#[test]
fn an_account_without_a_region_is_one_problem() {
    let config: Config = serde_saphyr::from_str("instance: a").expect("YAML");
    let settings = config.settings(None, None, JITTER).expect("a configuration");
    let wrong = check(&[("222222222222", "", "needs the controller's region")], &settings);
    assert_eq!(wrong, [""; 0]);
    let wrong = check(&[("default", "", "needs the controller's region")], &settings);
    assert_eq!(wrong, [""; 0]);
}

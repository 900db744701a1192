//! Names of AWS: registry hosts, role ARNs, regions, account IDs, and patterns of registries.

use ecr_pull_secrets::simulation::core::aws::{AccountId, Endpoint, Region, Registry, RoleArn};
use ecr_pull_secrets::simulation::core::grants::{Pattern, RegistryPattern, Template};

/// The suffixes of private hosts, and the prefixes of the regions that each serves. The empty prefix is every region that
/// no other suffix serves. AWS documents them under "Amazon ECR endpoints and quotas".
const SUFFIXES: [(&str, &[&str]); 9] = [
    (".amazonaws.com", &["", "us-gov-"]),
    (".on.aws", &["", "us-gov-"]),
    (".amazonaws.com.cn", &["cn-"]),
    (".on.amazonwebservices.com.cn", &["cn-"]),
    (".amazonaws.eu", &["eusc-"]),
    (".c2s.ic.gov", &["us-iso-"]),
    (".sc2s.sgov.gov", &["us-isob-"]),
    (".cloud.adc-e.uk", &["eu-isoe-"]),
    (".csp.hci.ic.gov", &["us-isof-"]),
];
const OWN_PARTITION: [&str; 7] = ["us-gov-", "cn-", "eusc-", "us-iso-", "us-isob-", "eu-isoe-", "us-isof-"];

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_registry(text);
    check_role(text);
    let region = text.parse::<Region>();
    assert_eq!(region.is_ok(), is_region(text), "{text:?}");
    if let Ok(region) = region {
        assert_eq!((region.as_str(), region.to_string().as_str()), (text, text));
    }
    let account = text.parse::<AccountId>();
    assert_eq!(account.is_ok(), is_account(text), "{text:?}");
    if let Ok(account) = account {
        assert_eq!(account.to_string(), text);
    }
    check_patterns(text);
}

/// A pattern means what it says: it is shown as it was written, and one for a namespace reaches no other.
fn check_patterns(text: &str) {
    if let Ok(pattern) = text.parse::<Pattern>() {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.contains(&pattern) && pattern.matches(pattern.literal()));
    }
    if let Ok(template) = text.parse::<Template>()
        && let (Ok(one), Ok(other)) = (template.expand("dev"), template.expand("dev-prod"))
    {
        let is_shared = !text.contains("{namespace}");
        assert_eq!((one.contains(&other), other.contains(&one)), (is_shared, is_shared), "{text:?}");
    }
    if let Ok(pattern) = text.parse::<RegistryPattern>()
        && let Some(region) = pattern.longest_region()
    {
        assert!(is_region(region.as_str()) && pattern.account_in(&region).is_some(), "{text:?} {region}");
    }
}

fn check_registry(text: &str) {
    let registry = text.parse::<Registry>();
    assert_eq!(registry.is_ok(), is_ecr_host(text), "{text:?}: {registry:?}");
    let registry = match registry {
        Ok(registry) => registry,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2_000 && !message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    assert_eq!(registry.to_string(), text);
    assert!(text.len() <= 12 + ".dkr-ecr-fips.".len() + 32 + ".on.amazonwebservices.com.cn".len());
    match registry.endpoint() {
        Endpoint::Public => assert!(text == "public.ecr.aws" || text == "ecr-public.aws.com"),
        Endpoint::Fips(region) => assert!(text.contains(&format!("-fips.{region}."))),
        Endpoint::Private(region) => {
            assert!(!text.contains("-fips.") && text.contains(&format!("ecr.{region}.")));
            let (account, _) = text.split_once('.').expect("a private host begins with an account");
            let standard = Registry::of_account(account.parse().expect("an account ID"), region);
            assert!(is_ecr_host(&standard.to_string()), "{standard}");
            assert_eq!(standard.endpoint(), registry.endpoint(), "{text}");
        }
    }
}

fn check_role(text: &str) {
    let role = text.parse::<RoleArn>();
    assert_eq!(role.is_ok(), is_role(text), "{text:?}: {role:?}");
    if let Ok(role) = role {
        assert_eq!((role.as_str(), role.to_string().as_str()), (text, text));
        assert!(text.contains(&format!(":{}:iam::{}:role/", role.partition().name(), role.account())));
    }
}

/// Whether AWS owns the host and serves registries under it. It takes the host apart from its end, and knows nothing of
/// the parser.
pub fn is_ecr_host(host: &str) -> bool {
    if host == "public.ecr.aws" || host == "ecr-public.aws.com" {
        return true;
    }
    SUFFIXES.iter().any(|(suffix, regions)| {
        let Some(head) = host.strip_suffix(suffix) else { return false };
        let (account, service, region) = match head.split('.').collect::<Vec<_>>()[..] {
            [account, "dkr", ecr, region] => (account, ecr.strip_prefix("ecr"), region),
            [account, dashed, region] => (account, dashed.strip_prefix("dkr-ecr"), region),
            _ => return false,
        };
        let own = OWN_PARTITION.iter().find(|prefix| region.starts_with(**prefix)).copied().unwrap_or("");
        is_account(account)
            && matches!(service, Some("" | "-fips"))
            && is_region(region)
            && regions.contains(&own)
    })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.chars().all(|c| c.is_ascii_digit())
}

/// Two or more words of a-z and a number of one or two digits, joined by hyphens.
fn is_region(text: &str) -> bool {
    let words: Vec<_> = text.split('-').collect();
    let Some((number, words)) = words.split_last() else { return false };
    text.len() <= 32
        && words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()))
        && (number.len() == 1 || number.len() == 2)
        && number.chars().all(|c| c.is_ascii_digit())
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`, field by field.
fn is_role(text: &str) -> bool {
    let fields: Vec<_> = text.split(':').collect();
    let ["arn", partition, "iam", "", account, role] = fields[..] else { return false };
    let partitions =
        ["aws", "aws-us-gov", "aws-cn", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"];
    let Some(name) = role.strip_prefix("role/") else { return false };
    partitions.contains(&partition)
        && is_account(account)
        && (1..=576).contains(&name.len())
        && !name.ends_with('/')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@_/-".contains(c))
}

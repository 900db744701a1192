//! Registry hosts: which strings are registries of Amazon ECR, and which API endpoint issues their tokens.
//!
//! The grammar is anchored at both ends, so that a token is never stored under a host that AWS does not own. It follows
//! the hosts that AWS documents for private registries, FIPS and dual-stack endpoints
//! (<https://docs.aws.amazon.com/general/latest/gr/ecr.html>) in each partition, and public ECR.

use std::fmt;
use std::str::FromStr;

use super::region::{AccountId, NameError, Partition, Region};
use crate::core::quote;

/// The region whose endpoint issues the tokens of public ECR
/// (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
pub const PUBLIC_REGION: &str = "us-east-1";

pub(super) const PUBLIC_HOSTS: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];
/// The text after the account ID in a host.
const DOTTED: &str = "dkr.ecr";
/// The text after the account ID in a dual-stack host.
const DASHED: &str = "dkr-ecr";

/// DNS suffixes of private registries, with the partitions whose regions they serve. A bare account ID gets the first
/// suffix of its partition. A suffix comes before any suffix that it ends with.
pub(super) const SUFFIXES: [(&str, &[Partition]); 9] = [
    ("amazonaws.com.cn", &[Partition::AwsCn]),
    ("amazonaws.com", &[Partition::Aws, Partition::AwsUsGov]),
    ("amazonaws.eu", &[Partition::AwsEusc]),
    ("on.aws", &[Partition::Aws, Partition::AwsUsGov]),
    ("on.amazonwebservices.com.cn", &[Partition::AwsCn]),
    ("sc2s.sgov.gov", &[Partition::AwsIsoB]),
    ("c2s.ic.gov", &[Partition::AwsIso]),
    ("cloud.adc-e.uk", &[Partition::AwsIsoE]),
    ("csp.hci.ic.gov", &[Partition::AwsIsoF]),
];

/// The API endpoint that issues a token. Public and private tokens of one region never mix; dual-stack hosts share the
/// tokens of their region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
pub enum Endpoint {
    /// The regional endpoint of private ECR.
    #[strum(to_string = "{0}")]
    Private(Region),
    /// The FIPS endpoint of private ECR.
    #[strum(to_string = "{0} (FIPS)")]
    Fips(Region),
    /// Public ECR, in [`PUBLIC_REGION`].
    #[strum(to_string = "public ECR")]
    Public,
}

impl Endpoint {
    /// The region that the request is sent to and signed for.
    pub fn region(&self) -> &str {
        match self {
            Self::Private(region) | Self::Fips(region) => region.as_str(),
            Self::Public => PUBLIC_REGION,
        }
    }

    /// The value of a label: `REGION`, `REGION-fips` or `public`.
    pub fn label(&self) -> String {
        match self {
            Self::Private(region) => region.to_string(),
            Self::Fips(region) => format!("{region}-fips"),
            Self::Public => "public".to_owned(),
        }
    }
}

/// A registry host of Amazon ECR. [`fmt::Display`] returns exactly the host that was parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registry {
    /// `ACCOUNT.dkr.ecr.REGION.SUFFIX` and its FIPS and dual-stack forms.
    Private {
        account: AccountId,
        region: Region,
        fips: bool,
        /// `.dkr-ecr`, as in dual-stack hosts, instead of `.dkr.ecr`.
        dashed: bool,
        /// A DNS suffix of the fixed list.
        suffix: &'static str,
    },
    /// One of the two hosts of public ECR.
    Public(&'static str),
}

impl Registry {
    /// The registry of an account: the standard host in `region`.
    pub fn of_account(account: AccountId, region: Region) -> Self {
        let found = SUFFIXES.iter().find(|(_, partitions)| partitions.contains(&region.partition()));
        let (suffix, _) = found.expect("every partition has a suffix");
        Self::Private { account, region, fips: false, dashed: false, suffix }
    }

    /// Parses a host, or a URL as clients pass it to a credential helper: with or without scheme, port 443 and path.
    pub fn from_url(text: &str) -> Result<Self, NameError> {
        let rest = text.trim();
        let rest = rest.strip_prefix("https://").unwrap_or(rest);
        let host = rest.split('/').next().unwrap_or_default();
        host.strip_suffix(":443").unwrap_or(host).parse().map_err(|error| match error {
            NameError::Host(_) => NameError::Host(quote(text.trim())),
            other => other,
        })
    }

    /// The endpoint that issues its tokens.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Private { region, fips: true, .. } => Endpoint::Fips(region.clone()),
            Self::Private { region, .. } => Endpoint::Private(region.clone()),
            Self::Public(_) => Endpoint::Public,
        }
    }

    /// Its region; `None` for public ECR.
    pub fn region(&self) -> Option<&Region> {
        match self {
            Self::Private { region, .. } => Some(region),
            Self::Public(_) => None,
        }
    }

    /// Whether the host also has IPv6 addresses. The token is the same; only the request for it goes to the endpoint's
    /// dual-stack name.
    pub fn is_dual_stack(&self) -> bool {
        matches!(self, Self::Private { dashed: true, .. } | Self::Public("ecr-public.aws.com"))
    }

    /// The partition; public ECR is in `aws`.
    pub fn partition(&self) -> Partition {
        match self {
            Self::Private { region, .. } => region.partition(),
            Self::Public(_) => Partition::Aws,
        }
    }
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(host: &str) -> Result<Self, NameError> {
        if let Some(known) = PUBLIC_HOSTS.iter().find(|known| **known == host) {
            return Ok(Self::Public(known));
        }
        let unknown = || NameError::Host(quote(host));
        let (account, rest) = host.split_once('.').ok_or_else(unknown)?;
        let dashed = rest.starts_with(DASHED);
        let rest = rest.strip_prefix(if dashed { DASHED } else { DOTTED }).ok_or_else(unknown)?;
        let (fips, rest) = rest.strip_prefix("-fips").map_or((false, rest), |rest| (true, rest));
        let rest = rest.strip_prefix('.').ok_or_else(unknown)?;
        let (region, suffix) = rest.split_once('.').ok_or_else(unknown)?;
        let (suffix, partitions) = SUFFIXES.iter().find(|(known, _)| *known == suffix).ok_or_else(unknown)?;
        let (account, region): (AccountId, Region) = (account.parse()?, region.parse()?);
        if !partitions.contains(&region.partition()) {
            return Err(NameError::Partition { host: quote(host), region, suffix });
        }
        Ok(Self::Private { account, region, fips, dashed, suffix })
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private { account, region, fips, dashed, suffix } => {
                let ecr = if *dashed { DASHED } else { DOTTED };
                let fips = if *fips { "-fips" } else { "" };
                write!(f, "{account}.{ecr}{fips}.{region}.{suffix}")
            }
            Self::Public(host) => f.write_str(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clients_pass_a_host_or_a_url_of_it() {
        const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
        for text in [
            HOST.to_owned(),
            format!(" https://{HOST}/\n"),
            format!("https://{HOST}:443/v2/"),
            format!("{HOST}/team-a/app:1"),
        ] {
            assert_eq!(Registry::from_url(&text).expect(&text).to_string(), HOST);
        }
        for text in [
            String::new(),
            format!("http://{HOST}"),
            format!("https://user@{HOST}"),
            format!("{HOST}:80"),
            format!("evil.example/{HOST}"),
            format!("{HOST}.evil.example"),
            format!("https://https://{HOST}"),
            HOST.to_uppercase(),
        ] {
            assert!(Registry::from_url(&text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn every_partition_and_variant_has_its_endpoint() {
        let cases = [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", "aws"),
            ("000000000012.dkr.ecr-fips.us-east-2.amazonaws.com", "us-east-2 (FIPS)", "aws"),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1", "aws"),
            ("123456789012.dkr-ecr-fips.us-gov-west-1.on.aws", "us-gov-west-1 (FIPS)", "aws-us-gov"),
            ("123456789012.dkr.ecr.us-gov-east-1.amazonaws.com", "us-gov-east-1", "aws-us-gov"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
            ("123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn", "cn-northwest-1", "aws-cn"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "aws-eusc"),
            ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "aws-iso"),
            ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "aws-iso-b"),
            ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", "aws-iso-e"),
            ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", "aws-iso-f"),
        ];
        for (host, endpoint, partition) in cases {
            let registry: Registry = host.parse().expect(host);
            assert_eq!(registry.to_string(), host);
            assert_eq!(registry.endpoint().to_string(), endpoint, "{host}");
            let Registry::Private { region, .. } = registry else { panic!("{host} is private") };
            assert_eq!(region.partition().name(), partition, "{host}");
        }
        for host in PUBLIC_HOSTS {
            assert_eq!(host.parse::<Registry>().map(|r| r.endpoint()), Ok(Endpoint::Public));
        }
    }

    #[test]
    fn look_alikes_are_rejected() {
        for host in [
            "",
            ".",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.",
            "evil.example/123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com:443",
            "user@123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-central-1.amazonaws.com",
            "1234567890123.dkr.ecr.eu-central-1.amazonaws.com",
            "１２３456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.evil.amazonaws.com",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.EU-central-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            // Names that AWS gives to its customers.
            "123456789012.dkr.ecr.s3-eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.compute-1.amazonaws.com",
            "123456789012.dkr.ecr.elb.amazonaws.com",
            "123456789012.eu-central-1.on.aws",
            "x123456789012.dkr-ecr.eu-central-1.on.aws",
            // A kubelet takes these for patterns.
            "*.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.*.amazonaws.com",
            "123456789012.dkr.ecrx.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr-fips-fips.eu-central-1.amazonaws.com",
            "public.ecr.aws.evil.example",
            "xpublic.ecr.aws",
        ] {
            assert!(host.parse::<Registry>().is_err(), "{host:?} was accepted");
        }
    }

    #[test]
    fn an_account_has_the_standard_host_of_the_region() {
        for (region, host) in [
            ("eu-central-1", "123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
            ("cn-north-1", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"),
            ("eusc-de-east-1", "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu"),
        ] {
            let account = "123456789012".parse().expect("an account");
            let registry = Registry::of_account(account, region.parse().expect(region));
            assert_eq!(registry.to_string(), host);
        }
    }

    proptest! {
        #[test]
        fn any_string_is_parsed_without_a_panic(text in ".*") {
            if let Ok(registry) = text.parse::<Registry>() {
                prop_assert_eq!(registry.to_string(), text);
            }
        }

        #[test]
        fn near_hosts_parse_only_as_themselves(
            text in "[0-9]{11,13}\\.dkr[.-]ecr(-fips)?\\.[a-z]{2}(-[a-z]{1,5}){1,2}-[0-9]{1,3}\\.\
                     (amazonaws\\.com|amazonaws\\.com\\.cn|amazonaws\\.eu|on\\.aws|c2s\\.ic\\.gov)[.a-z/]{0,3}"
        ) {
            if let Ok(registry) = text.parse::<Registry>() {
                prop_assert_eq!(registry.to_string(), text);
            }
        }
    }
}

//! Registry hosts: which strings name a registry of Amazon ECR, and which API endpoint makes its tokens.
//!
//! The grammar is anchored at both ends, so that a token is never keyed to a host that is not AWS's. It
//! follows the hosts that AWS documents for private registries, FIPS and dual-stack endpoints
//! (<https://docs.aws.amazon.com/general/latest/gr/ecr.html>) in each partition, and public ECR.

use std::fmt;
use std::str::FromStr;

use super::quote;

/// Region whose endpoint makes the tokens of public ECR
/// (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
pub const PUBLIC_REGION: &str = "us-east-1";

const PUBLIC_HOSTS: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// DNS suffixes of private registries, with the partitions whose regions they serve. The first one of a
/// partition is the one that an account ID alone stands for. Longer suffixes come before their own ends.
const SUFFIXES: [(&str, &[Partition]); 9] = [
    ("amazonaws.com.cn", &[Partition::China]),
    ("amazonaws.com", &[Partition::Aws, Partition::GovCloud]),
    ("amazonaws.eu", &[Partition::Europe]),
    ("on.aws", &[Partition::Aws, Partition::GovCloud]),
    ("on.amazonwebservices.com.cn", &[Partition::China]),
    ("sc2s.sgov.gov", &[Partition::IsoB]),
    ("c2s.ic.gov", &[Partition::Iso]),
    ("cloud.adc-e.uk", &[Partition::IsoE]),
    ("csp.hci.ic.gov", &[Partition::IsoF]),
];

/// A partition of AWS: regions that share credentials and DNS suffixes, and nothing with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// `aws`
    Aws,
    /// `aws-us-gov`
    GovCloud,
    /// `aws-cn`
    China,
    /// `aws-eusc`
    Europe,
    /// `aws-iso`
    Iso,
    /// `aws-iso-b`
    IsoB,
    /// `aws-iso-e`
    IsoE,
    /// `aws-iso-f`
    IsoF,
}

impl Partition {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Aws, Self::GovCloud, Self::China, Self::Europe, Self::Iso, Self::IsoB, Self::IsoE, Self::IsoF];

    /// The name that stands in ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::GovCloud => "aws-us-gov",
            Self::China => "aws-cn",
            Self::Europe => "aws-eusc",
            Self::Iso => "aws-iso",
            Self::IsoB => "aws-iso-b",
            Self::IsoE => "aws-iso-e",
            Self::IsoF => "aws-iso-f",
        }
    }
}

/// An AWS region by name, such as `eu-central-1`: two or more lower-case words and a number.
///
/// The names are not checked against a list, which would be out of date with the next region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Box<str>);

impl Region {
    /// The name, as the API takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that a region of this name belongs to.
    pub fn partition(&self) -> Partition {
        const BY_PREFIX: [(&str, Partition); 7] = [
            ("us-gov-", Partition::GovCloud),
            ("cn-", Partition::China),
            ("eusc-", Partition::Europe),
            ("us-iso-", Partition::Iso),
            ("us-isob-", Partition::IsoB),
            ("eu-isoe-", Partition::IsoE),
            ("us-isof-", Partition::IsoF),
        ];
        let found = BY_PREFIX.iter().find(|(prefix, _)| self.0.starts_with(prefix));
        found.map_or(Partition::Aws, |(_, partition)| *partition)
    }
}

impl FromStr for Region {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let wrong = || RegistryError::Region(quote(text));
        let (words, number) = text.rsplit_once('-').ok_or_else(wrong)?;
        let number_ok = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let mut parts = words.split('-');
        let words_ok = parts.clone().count() >= 2
            && parts.all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
        if text.len() > 32 || !number_ok || !words_ok {
            return Err(wrong());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A 12-digit AWS account ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(u64);

impl FromStr for AccountId {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self(text.parse().expect("12 digits fit into u64")));
        }
        Err(RegistryError::Account(quote(text)))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

/// Which of ECR's APIs and endpoints makes a token. Public and private tokens of one region never mix;
/// dual-stack hosts share the tokens of their region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// The regional endpoint of private ECR.
    Private(Region),
    /// The FIPS endpoint of private ECR.
    Fips(Region),
    /// Public ECR, in [`PUBLIC_REGION`].
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
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(region) => write!(f, "{region}"),
            Self::Fips(region) => write!(f, "{region} (FIPS)"),
            Self::Public => f.write_str("public ECR"),
        }
    }
}

/// A registry host of Amazon ECR. [`fmt::Display`] gives back the very host that was parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Registry {
    /// `ACCOUNT.dkr.ecr.REGION.SUFFIX` and its FIPS and dual-stack forms.
    Private {
        /// The account that the registry belongs to.
        account: AccountId,
        /// The region that it is in.
        region: Region,
        /// Whether the host is the FIPS one.
        fips: bool,
        /// `.dkr-ecr` instead of `.dkr.ecr`, as the dual-stack hosts have it.
        dashed: bool,
        /// The DNS suffix, from a fixed list.
        suffix: &'static str,
    },
    /// One of the two hosts of public ECR.
    Public(&'static str),
}

impl Registry {
    /// The registry that an account ID alone stands for: the standard host in `region`.
    pub fn of_account(account: AccountId, region: Region) -> Self {
        let partition = region.partition();
        let (suffix, _) = SUFFIXES
            .iter()
            .find(|(_, partitions)| partitions.contains(&partition))
            .expect("every partition has a suffix");
        Self::Private { account, region, fips: false, dashed: false, suffix }
    }

    /// The endpoint whose tokens this registry takes.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Private { region, fips: true, .. } => Endpoint::Fips(region.clone()),
            Self::Private { region, .. } => Endpoint::Private(region.clone()),
            Self::Public(_) => Endpoint::Public,
        }
    }

    /// Whether the host is one that also answers over IPv6. Its tokens are those of the endpoint; only the call
    /// that asks for them goes to the endpoint's dual-stack name.
    pub fn is_dual_stack(&self) -> bool {
        match self {
            Self::Private { dashed, .. } => *dashed,
            Self::Public(host) => *host == "ecr-public.aws.com",
        }
    }

    /// The partition that it is in; public ECR is in `aws`.
    pub fn partition(&self) -> Partition {
        match self {
            Self::Private { region, .. } => region.partition(),
            Self::Public(_) => Partition::Aws,
        }
    }
}

impl FromStr for Registry {
    type Err = RegistryError;

    fn from_str(host: &str) -> Result<Self, RegistryError> {
        if let Some(known) = PUBLIC_HOSTS.iter().find(|known| **known == host) {
            return Ok(Self::Public(known));
        }
        let stranger = || RegistryError::Host(quote(host));
        let (account, rest) = host.split_once('.').ok_or_else(stranger)?;
        let (dashed, rest) = match (rest.strip_prefix("dkr.ecr"), rest.strip_prefix("dkr-ecr")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(stranger()),
        };
        let (fips, rest) = rest.strip_prefix("-fips").map_or((false, rest), |rest| (true, rest));
        let rest = rest.strip_prefix('.').ok_or_else(stranger)?;
        let (region, suffix) = rest.split_once('.').ok_or_else(stranger)?;
        let (suffix, partitions) =
            SUFFIXES.iter().find(|(known, _)| *known == suffix).ok_or_else(stranger)?;
        let (account, region): (AccountId, Region) = (account.parse()?, region.parse()?);
        if !partitions.contains(&region.partition()) {
            return Err(RegistryError::Partition { host: quote(host), region, suffix });
        }
        Ok(Self::Private { account, region, fips, dashed, suffix })
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private { account, region, fips, dashed, suffix } => {
                let ecr = if *dashed { "dkr-ecr" } else { "dkr.ecr" };
                let fips = if *fips { "-fips" } else { "" };
                write!(f, "{account}.{ecr}{fips}.{region}.{suffix}")
            }
            Self::Public(host) => f.write_str(host),
        }
    }
}

/// Why a string names no registry. The message quotes the value and says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No host of ECR.
    #[error(
        "{0} is no Amazon ECR host: expected ACCOUNT.dkr.ecr.REGION.amazonaws.com (or the FIPS, dual-stack \
         or other-partition form of it), a 12-digit account ID, public.ecr.aws or the word default"
    )]
    Host(String),
    /// The account is not 12 digits.
    #[error("{0} is no AWS account ID: expected 12 digits")]
    Account(String),
    /// The region is not written as regions are.
    #[error("{0} is no AWS region: expected a name such as eu-central-1")]
    Region(String),
    /// Region and suffix belong to different partitions.
    #[error("{host}: region {region} is in partition {}, whose hosts do not end in {suffix}", region.partition().name())]
    Partition {
        /// The host, quoted.
        host: String,
        /// Its region.
        region: Region,
        /// Its suffix.
        suffix: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn look_alikes_are_refused() {
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
            "123456789012.dkr.ecrx.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr-fips-fips.eu-central-1.amazonaws.com",
            "public.ecr.aws.evil.example",
            "xpublic.ecr.aws",
        ] {
            assert!(host.parse::<Registry>().is_err(), "{host:?} was taken");
        }
    }

    #[test]
    fn an_account_stands_for_the_standard_host_of_the_region() {
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
        fn any_string_parses_or_is_refused_without_a_panic(text in ".*") {
            if let Ok(registry) = text.parse::<Registry>() {
                prop_assert_eq!(registry.to_string(), text);
            }
        }

        #[test]
        fn near_hosts_survive_only_as_themselves(
            text in "[0-9]{11,13}\\.dkr[.-]ecr(-fips)?\\.[a-z]{2}(-[a-z]{1,5}){1,2}-[0-9]{1,3}\\.\
                     (amazonaws\\.com|amazonaws\\.com\\.cn|amazonaws\\.eu|on\\.aws|c2s\\.ic\\.gov)[.a-z/]{0,3}"
        ) {
            if let Ok(registry) = text.parse::<Registry>() {
                prop_assert_eq!(registry.to_string(), text);
            }
        }
    }
}

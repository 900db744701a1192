//! Partitions, regions and accounts of AWS.

use std::fmt;
use std::str::FromStr;

use crate::core::quote;

/// A partition of AWS: regions that share credentials and DNS suffixes. The name, in kebab case, is the one in ARNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Partition {
    Aws,
    AwsUsGov,
    AwsCn,
    AwsEusc,
    AwsIso,
    AwsIsoB,
    AwsIsoE,
    AwsIsoF,
}

impl Partition {
    /// The name, as ARNs contain it.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// An AWS region by name, such as `eu-central-1`: two or more lower-case words and a number. There is no list of known
/// regions, because each new region would make it outdated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Box<str>);

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn partition(&self) -> Partition {
        const BY_PREFIX: [(&str, Partition); 7] = [
            ("us-gov-", Partition::AwsUsGov),
            ("cn-", Partition::AwsCn),
            ("eusc-", Partition::AwsEusc),
            ("us-iso-", Partition::AwsIso),
            ("us-isob-", Partition::AwsIsoB),
            ("eu-isoe-", Partition::AwsIsoE),
            ("us-isof-", Partition::AwsIsoF),
        ];
        let found = BY_PREFIX.iter().find(|(prefix, _)| self.0.starts_with(prefix));
        found.map_or(Partition::Aws, |(_, partition)| *partition)
    }
}

impl FromStr for Region {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Region(quote(text));
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
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_valid = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_valid);
        number.map(Self).ok_or_else(|| NameError::Account(quote(text)))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

/// A string is not a valid name. The message quotes it and shows a valid one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{0} is not an AWS account ID: expected 12 digits")]
    Account(String),
    #[error("{0} is not an AWS region: expected a name such as eu-central-1")]
    Region(String),
    #[error("{0}: expected arn:PARTITION:iam::ACCOUNT:role/NAME with an account ID of 12 digits")]
    Role(String),
    #[error(
        "{0} is not an Amazon ECR registry: expected ACCOUNT.dkr.ecr.REGION.amazonaws.com (or its FIPS, dual-stack or \
         other-partition form), a 12-digit account ID, public.ecr.aws or the word default"
    )]
    Host(String),
    /// A host, quoted, whose region is not in a partition of its suffix.
    #[error("{host}: region {region} is in partition {}, whose hosts do not end in {suffix}", region.partition().name())]
    Partition { host: String, region: Region, suffix: &'static str },
}

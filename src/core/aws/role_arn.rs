//! ARNs of IAM roles.

use std::fmt;
use std::str::FromStr;

use super::region::{AccountId, Partition};
use crate::core::quote;

/// The ARN of an IAM role: `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns>).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleArn {
    text: Box<str>,
    partition: Partition,
    account: AccountId,
}

/// A text is not the ARN of a role. The message quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: expected arn:PARTITION:iam::ACCOUNT:role/NAME with an account ID of 12 digits")]
pub struct RoleArnError(String);

impl RoleArn {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The partition, and the only one in which sessions of the role are valid.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    pub fn account(&self) -> AccountId {
        self.account
    }
}

impl FromStr for RoleArn {
    type Err = RoleArnError;

    fn from_str(text: &str) -> Result<Self, RoleArnError> {
        let parse = || {
            let rest = text.strip_prefix("arn:")?;
            let (partition, rest) = rest.split_once(":iam::")?;
            let partition = Partition::ALL.into_iter().find(|known| known.name() == partition)?;
            let (account, role) = rest.split_once(":role/")?;
            // Path and name: https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html
            let valid = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&b);
            let named =
                !role.is_empty() && !role.ends_with('/') && role.len() <= 576 && role.bytes().all(valid);
            named.then_some(Self { text: text.into(), partition, account: account.parse().ok()? })
        };
        parse().ok_or_else(|| RoleArnError(quote(text)))
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_every_partition_are_parsed() {
        for (text, partition) in [
            ("arn:aws:iam::222222222222:role/ecr-pull", "aws"),
            ("arn:aws-cn:iam::222222222222:role/team/a/ecr-pull", "aws-cn"),
            ("arn:aws-us-gov:iam::022222222222:role/x", "aws-us-gov"),
        ] {
            let arn: RoleArn = text.parse().expect(text);
            assert_eq!((arn.as_str(), arn.partition().name()), (text, partition));
        }
        for (prefix, suffix) in [
            ("us-east-1", ""),
            ("cn-north-1", "-cn"),
            ("us-gov-east-1", "-us-gov"),
            ("eusc-de-east-1", "-eusc"),
            ("us-iso-east-1", "-iso"),
            ("us-isob-east-1", "-iso-b"),
            ("eu-isoe-west-1", "-iso-e"),
            ("us-isof-south-1", "-iso-f"),
        ] {
            let region: crate::core::aws::Region = prefix.parse().expect(prefix);
            let arn: RoleArn = format!("arn:aws{suffix}:iam::222222222222:role/x").parse().expect(suffix);
            assert_eq!(arn.partition(), region.partition(), "{prefix}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "ecr-pull",
            "arn:aws:iam::22222222222:role/eleven-digits",
            "arn:aws:iam::222222222222:user/x",
            "arn:aws:iam::222222222222:role/",
            "arn:aws:iam::222222222222:role/*",
            "arn:aws:iam:eu-central-1:222222222222:role/x",
            "arn:aws:sts::222222222222:assumed-role/x/y",
            "arn:gcp:iam::222222222222:role/x",
            "arn:aws:iam::222222222222:role/a b",
        ] {
            assert!(text.parse::<RoleArn>().is_err(), "{text:?} was accepted");
        }
    }
}

//! Who gets which token, against an oracle that only knows strings; and what becomes of a grant that is withdrawn.

mod cases;
mod generators;
mod oracle;
mod properties;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::config::{Config, DefaultIdentity, IdentityConfig};
use crate::core::PREFIX;
use crate::core::annotations::{self, Reading, Wish};
use crate::core::facts::{Facts, History, Observed, Owner, Times, WriteCause};
use crate::core::grants::Granted;
use crate::core::identity::{Assignment, Identity, Restriction};
use crate::core::plan::{DeleteCause, Intent, Plan, Step, plan};
use crate::core::policy::session_policy;
use crate::core::problem::Problem;
use crate::core::registry::Endpoint;
use crate::core::request::tests::request_for;
use crate::core::request::{Accepted, Applied, Entry, Request, Target};
use crate::core::settings::Settings;
use crate::core::settle::settle;
use crate::core::statics::Sources;

const HOME: &str = "eu-central-1";

const NAMESPACES: [&str; 10] =
    ["dev", "dev-prod", "dev-", "de", "team-a", "team-a-x", "team-", "team", "kube-system", "n"];
const NAMESPACE_PATTERNS: [&str; 9] =
    ["dev", "dev-*", "dev*", "team-a", "team-a-*", "team-*", "kube-system", "*", "nobody"];
const REGISTRY_PATTERNS: [&str; 11] = [
    "*",
    "public.ecr.aws",
    "222222222222/*",
    "222222222222/eu-*",
    "222222222222/eu-central-1",
    "222222222222/us-east-1",
    "333333333333/eu-*",
    "333333333333/*",
    "333333333333/cn-*",
    "444444444444/cn-north-1",
    "444444444444/us-gov-*",
];
const TEMPLATES: [&str; 9] = [
    "{namespace}/*",
    "{namespace}",
    "shared/{namespace}/*",
    "x-{namespace}/app*",
    "a/{namespace}/{namespace}",
    "team-a/*",
    "base/alpine",
    "dev*",
    "*",
];
const ROLES: [&str; 6] = [
    "arn:aws:iam::222222222222:role/",
    "arn:aws:iam::333333333333:role/path/",
    "arn:aws-cn:iam::444444444444:role/",
    "arn:aws-cn:iam::333333333333:role/",
    "arn:aws-us-gov:iam::444444444444:role/",
    "arn:aws-iso-b:iam::222222222222:role/",
];
const REGISTRY_ITEMS: [&str; 20] = [
    "default",
    "222222222222",
    "333333333333",
    "public.ecr.aws",
    "ecr-public.aws.com",
    "222222222222.dkr.ecr.eu-central-1.amazonaws.com",
    "222222222222.dkr.ecr-fips.eu-central-1.amazonaws.com",
    "222222222222.dkr-ecr.eu-central-1.on.aws",
    "222222222222.dkr.ecr.us-east-1.amazonaws.com",
    "222222222223.dkr.ecr.eu-central-1.amazonaws.com",
    "222222222222.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "222222222222.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
    "333333333333.dkr.ecr.eu-west-1.amazonaws.com",
    "333333333333.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "444444444444.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "444444444444.dkr.ecr.us-gov-west-1.amazonaws.com",
    "333333333333.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
    "222222222222.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
    "222222222222/*",
    "*",
];
/// The first so many of these are patterns.
const PLAUSIBLE: usize = 19;
static REPOSITORY_ITEMS: [&str; 26] = [
    "dev/*",
    "dev/app",
    "dev",
    "dev*",
    "dev-*",
    "dev-prod/*",
    "dev-prod/app",
    "team-a/*",
    "team-a/app",
    "team-a/app*",
    "team-a-x/*",
    "shared/dev/*",
    "shared/*",
    "shared/dev/app",
    "x-dev/app1",
    "base/alpine",
    "base/alpine*",
    "base/*",
    "*",
    "{namespace}/*",
    "a*b",
    "dev/**",
    "dev/?",
    "${aws:username}/*",
    "dev/../*",
    "Dev/*",
];

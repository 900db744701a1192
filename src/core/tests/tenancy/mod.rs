//! The assignment of tokens to namespaces, compared with an oracle that only uses strings, and the effect of a
//! withdrawn grant.

mod cases;
mod checks;
mod generators;
mod idle;
mod oracle;
mod properties;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::config::{Config, DefaultIdentity, IdentityConfig};
use crate::core::PREFIX;
use crate::core::aws::{Endpoint, Registry};
use crate::core::grants::session_policy::{MAX_POLICY_LEN, session_policy};
use crate::core::grants::{Assignment, Granted, Identity, Restriction, TokenKey};
use crate::core::plan::{
    DeleteReason, Deletion, Facts, History, KnownAccounts, Observed, Plan, Step, WritePlan, WriteReason,
    compose, plan,
};
use crate::core::request::annotations::{self, OptIn, ParsedAnnotations};
use crate::core::request::applied::{APPLIED, AppliedState, RecordedState, Times};
use crate::core::request::{Problem, Request, Target};
use crate::core::secret::StaticSources;
use crate::core::settings::Settings;
use crate::core::testing::{
    HOST, HOUR, JITTER, applied_entry, at, kept_targets, observed_with, parsed, request, request_for,
    set_targets, target, token, wall,
};

/// The region of the controller.
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
/// How many of the next list are valid patterns; they come first.
const VALID_PATTERNS: usize = 19;
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

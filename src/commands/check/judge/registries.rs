//! The responses of registries: denied, expired, unknown host and network are different findings.

use serde_json::Value;

use crate::commands::check::facts::{RegistryFact, RegistryPath};
use crate::commands::check::finding::{Category, Finding, Link};
use crate::core::one_line;
use crate::ecr::registry::{RegistryError, RegistryResponse};

const CATEGORY: Category = Category::Registries;

pub fn judge(fact: &RegistryFact) -> Finding {
    let RegistryFact { registry, identity, path, result } = fact;
    let what = match path {
        RegistryPath::Base => format!("{registry}, identity {identity:?}"),
        RegistryPath::Tags(repository) => format!("{registry}/{repository}, tags"),
        RegistryPath::Manifest(repository, tag) => format!("{registry}/{repository}:{tag}"),
    };
    match result {
        Err(error) => unreachable(&what, error),
        Ok(RegistryResponse { status: 200, .. }) => {
            Finding::ok(CATEGORY, format!("{what}: accepted the token"))
        }
        Ok(response) => refused(&what, path, response),
    }
}

fn unreachable(what: &str, error: &RegistryError) -> Finding {
    let remedy = match error {
        RegistryError::UnknownHost(_) => {
            "correct the account ID and the region; behind a VPC endpoint, check private DNS"
        }
        RegistryError::Certificate(_) => {
            "a proxy may end TLS: add its CA to the certificates of the machine (SSL_CERT_FILE), or set NO_PROXY"
        }
        RegistryError::Network(_) | RegistryError::Timeout => {
            "check the network, HTTPS_PROXY and network policies: port 443 of the registry"
        }
    };
    Finding::failed(CATEGORY, format!("{what}: {error}"), Link::Registries, remedy)
}

fn refused(what: &str, path: &RegistryPath, RegistryResponse { status, body }: &RegistryResponse) -> Finding {
    let text = message(body);
    // ECR's text; the status is that of every denial.
    let is_expired = text.contains("expired");
    let said = format!("{what}: HTTP {status}: {text}");
    let fail = |remedy: &str| Finding::failed(CATEGORY, said.clone(), Link::Registries, remedy);
    match (status, path) {
        (400 | 401 | 403, _) if is_expired => fail("the token has expired: check the clock, and maxTokenAge"),
        (403, RegistryPath::Tags(_)) => {
            let remedy = "pulls do not need it: allow ecr:ListImages if a tool lists tags";
            Finding::warning(CATEGORY, said, Link::Registries, remedy)
        }
        (401 | 403, RegistryPath::Base) => {
            fail("the registry denied the token: check the identity of this registry")
        }
        (401 | 403, _) => fail(
            "the identity may not pull: allow ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on the repository; in \
             another account also by its repository policy",
        ),
        (404, RegistryPath::Tags(_)) => {
            fail("the repository does not exist: correct --repository, or create it")
        }
        (404, RegistryPath::Manifest(..)) => {
            let remedy = "the image does not exist: name a tag with --repository NAME:TAG";
            Finding::warning(CATEGORY, said, Link::Registries, remedy)
        }
        (429, _) => fail("the registry limits the rate of requests: run the check again"),
        _ => fail(
            "run the check again; if it persists, check whether a proxy responds in place of the registry",
        ),
    }
}

/// The message of an error (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>).
fn message(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &parsed["errors"][0];
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let (code, message) = (text("code"), text("message"));
    let text = if code.is_empty() && message.is_empty() {
        body.trim().to_owned()
    } else {
        format!("{code}: {message}")
    };
    if text.is_empty() { "no message".to_owned() } else { one_line(&text) }
}

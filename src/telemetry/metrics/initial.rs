//! The series that exist before the first event, with 0.

use strum::VariantNames;

use super::{GET_AUTHORIZATION_TOKEN, Inner, KubernetesRequest};
use crate::controller::error::RequestError;
use crate::controller::tell::{Operation, SUCCESS};
use crate::core::plan::{DeleteReason, WriteReason};
use crate::core::secret::TokenErrorKind;

/// The requests of the controller, and the code of a success.
const REQUESTS: [(&str, &str, u16); 16] = [
    ("list", "namespaces", 200),
    ("watch", "namespaces", 200),
    ("get", "namespaces", 200),
    ("list", "secrets", 200),
    ("watch", "secrets", 200),
    ("get", "secrets", 200),
    ("patch", "secrets", 200),
    ("delete", "secrets", 200),
    ("create", "events", 201),
    ("patch", "events", 200),
    ("get", "leases", 200),
    ("update", "leases", 200),
    ("list", "serviceaccounts", 200),
    ("watch", "serviceaccounts", 200),
    ("get", "serviceaccounts", 200),
    ("patch", "serviceaccounts", 200),
];

/// Codes of missing permissions and of an API server that is unavailable or overloaded, and 0 for no response. Other codes
/// appear with their first response.
const FAILURES: [u16; 6] = [0, 403, 429, 500, 503, 504];

impl Inner {
    pub(super) fn create_initial_series(&self) {
        self.build_info.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        for result in [SUCCESS].iter().chain(TokenErrorKind::VARIANTS) {
            let labels = [("operation", GET_AUTHORIZATION_TOKEN), ("result", *result)];
            drop(self.aws_requests.get_or_create(&labels));
        }
        for reason in WriteReason::VARIANTS {
            // Only a missing Secret is created.
            let creates = *reason == WriteReason::Missing.into_str();
            self.create_writes(if creates { Operation::Create } else { Operation::Update }, reason);
        }
        for reason in DeleteReason::VARIANTS {
            self.create_writes(Operation::Delete, reason);
        }
        for (verb, resource, success) in REQUESTS {
            for code in [success].into_iter().chain(FAILURES) {
                drop(self.kubernetes_requests.get_or_create(&KubernetesRequest { verb, resource, code }));
            }
        }
    }

    fn create_writes(&self, operation: Operation, reason: &'static str) {
        let operation = ("operation", operation.into_str());
        for result in [SUCCESS].iter().chain(RequestError::VARIANTS) {
            drop(self.secret_writes.get_or_create(&[operation, ("reason", reason), ("result", *result)]));
        }
        drop(self.secret_write_duration.get_or_create(&[operation]));
    }
}

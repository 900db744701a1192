//! A request as the service reads it: one of the shapes that the program sends.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{Method, header};
use hyper::body::Bytes;
use serde_json::Value;

use crate::store::Kind;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// A list or a watch of Namespaces or Secrets as metadata, or of service accounts.
    Observe,
    /// A GET of the metadata of a Namespace.
    Namespace,
    /// A GET of a Secret.
    ReadSecret,
    /// A server-side apply of a Secret that is answered with metadata.
    ApplySecret,
    /// A DELETE of a Secret with preconditions.
    DeleteSecret,
    /// A GET, PUT or DELETE of the Lease.
    Lease,
    /// A GET or PATCH of a service account.
    ServiceAccount,
    /// A page of the service accounts of a namespace.
    ListServiceAccounts,
    /// A POST or PATCH of an Event.
    Event,
    /// The version of the API server.
    Version,
}

impl Shape {
    pub const ALL: [Self; 10] = [
        Self::Observe,
        Self::Namespace,
        Self::ReadSecret,
        Self::ApplySecret,
        Self::DeleteSecret,
        Self::Lease,
        Self::ServiceAccount,
        Self::ListServiceAccounts,
        Self::Event,
        Self::Version,
    ];
}

pub struct Call {
    pub agent: String,
    pub method: Method,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    /// The media types that the client accepts and sends.
    accept: String,
    content: String,
}

impl Call {
    pub fn new(agent: &str, head: &Parts, body: &Bytes) -> Self {
        let text = |name| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let pairs = head.uri.query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        Self {
            agent: agent.to_owned(),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            accept: text(header::ACCEPT),
            content: text(header::CONTENT_TYPE),
        }
    }

    pub fn is_watch(&self) -> bool {
        self.flag("watch")
    }

    pub fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value == "true")
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.parse().ok()
    }

    pub fn describe(&self) -> String {
        let watch = if self.is_watch() { " (watch)" } else { "" };
        format!("{} {}{watch} of {}", self.method, self.path, self.agent)
    }

    fn segments(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }

    /// The last two names of the path: a namespace and an object in it.
    pub fn names(&self) -> (&str, &str) {
        match &*self.segments() {
            ["api", "v1", "namespaces", namespace, _, name] => (namespace, name),
            ["api", "v1", "namespaces", namespace, ..] => (namespace, ""),
            _ => ("", ""),
        }
    }

    /// The kind that is listed or watched, and the one name that the field selector asks for.
    pub fn collection(&self) -> Option<(Kind, Option<&str>)> {
        let name = self.query.get("fieldSelector").map(|text| text.strip_prefix("metadata.name="));
        match (&*self.segments(), name) {
            (["api", "v1", "namespaces"], None) if self.wants_metadata() => Some((Kind::Namespace, None)),
            (["api", "v1", "secrets"], Some(Some(name))) if self.wants_metadata() => {
                Some((Kind::Secret, Some(name)))
            }
            (["api", "v1", "serviceaccounts"] | ["api", "v1", "namespaces", _, "serviceaccounts"], None) => {
                Some((Kind::ServiceAccount, None))
            }
            _ => None,
        }
    }

    fn wants_metadata(&self) -> bool {
        self.accept.contains("as=PartialObjectMetadata")
    }

    /// Whether the controller asks for no more than it may: Secrets are read by name, metadata is enough for watches and
    /// replies, and nothing is deleted without preconditions. `None` if the service does not know the request.
    pub fn shape(&self) -> Option<Shape> {
        let is_merge = self.content == "application/merge-patch+json";
        let is_apply =
            self.content == "application/apply-patch+yaml" && self.query.contains_key("fieldManager");
        let preconditions = &self.body["preconditions"];
        match (self.method.as_str(), &*self.segments()) {
            ("GET", ["version"]) => Some(Shape::Version),
            ("GET", ["api", "v1", "namespaces", _, "serviceaccounts"])
                if !self.is_watch() && self.number("limit").is_some_and(|limit| limit <= 5) =>
            {
                Some(Shape::ListServiceAccounts)
            }
            ("GET", ["api", "v1", "namespaces", _, "serviceaccounts"]) => None,
            ("GET", _) if self.collection().is_some() => Some(Shape::Observe),
            ("GET", ["api", "v1", "namespaces", _]) if self.wants_metadata() => Some(Shape::Namespace),
            ("GET", ["api", "v1", "namespaces", _, "secrets", _]) => Some(Shape::ReadSecret),
            ("PATCH", ["api", "v1", "namespaces", _, "secrets", _]) if is_apply && self.wants_metadata() => {
                Some(Shape::ApplySecret)
            }
            ("DELETE", ["api", "v1", "namespaces", _, "secrets", _])
                if preconditions["uid"].is_string() && preconditions["resourceVersion"].is_string() =>
            {
                Some(Shape::DeleteSecret)
            }
            (
                "GET" | "PUT" | "DELETE",
                ["apis", "coordination.k8s.io", "v1", "namespaces", _, "leases", _],
            ) => Some(Shape::Lease),
            ("GET", ["api", "v1", "namespaces", _, "serviceaccounts", _]) => Some(Shape::ServiceAccount),
            ("PATCH", ["api", "v1", "namespaces", _, "serviceaccounts", _]) if is_merge => {
                Some(Shape::ServiceAccount)
            }
            ("POST", ["api", "v1", "namespaces", _, "events"]) => Some(Shape::Event),
            ("PATCH", ["api", "v1", "namespaces", _, "events", _]) if is_merge => Some(Shape::Event),
            _ => None,
        }
    }
}

/// The value of a query, in which the program encodes only `=`.
fn decoded(value: &str) -> String {
    value.replace("%3D", "=")
}

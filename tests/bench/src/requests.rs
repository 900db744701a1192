//! Prepared requests, and a minimal client that sends them with so many in flight.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use serde_json::{Value, json};
use testing::control_plane::ControlPlane;
use testing::tenants::NAME;
use testing::upstream::Upstream;
use tokio::task::JoinSet;

/// A request whose body exists already.
pub type Prepared = Request<Full<Bytes>>;

/// A client with one connection for each request in flight, which parses no reply.
#[derive(Clone)]
pub struct Client {
    upstream: Arc<Upstream>,
    token: String,
}

impl Client {
    /// A client with the token of this kubeconfig.
    pub fn new(control_plane: &ControlPlane, kubeconfig: &Path) -> Self {
        let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
        let kubeconfig: Value = serde_json::from_str(&text).expect("kubeconfigs of the tests are JSON");
        let token = kubeconfig["users"][0]["user"]["token"].as_str().expect("a token").to_owned();
        Self { upstream: Arc::new(Upstream::new(&control_plane.url(), &control_plane.ca_file())), token }
    }

    fn request(&self, method: Method, path: &str, content: &str, body: &Value) -> Prepared {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, content);
        request.body(Full::new(body)).expect("a request of HTTP")
    }

    pub fn create_namespace(&self, name: &str, annotations: &Value) -> Prepared {
        let body = json!({"metadata": {"name": name, "annotations": annotations}});
        self.request(Method::POST, "/api/v1/namespaces", "application/json", &body)
    }

    /// Sets annotations of a namespace; null removes one.
    pub fn annotate(&self, name: &str, annotations: &Value) -> Prepared {
        let body = json!({"metadata": {"annotations": annotations}});
        let path = format!("/api/v1/namespaces/{name}");
        self.request(Method::PATCH, &path, "application/merge-patch+json", &body)
    }

    pub fn create_service_account(&self, namespace: &str, name: &str) -> Prepared {
        let body = json!({"metadata": {"name": name}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.request(Method::POST, &path, "application/json", &body)
    }

    pub fn delete_secret(&self, namespace: &str) -> Prepared {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{NAME}");
        self.request(Method::DELETE, &path, "application/json", &Value::Null)
    }

    /// Sends all requests, this many at the same time. Panics if the API server refuses one.
    pub async fn send(&self, requests: Vec<Prepared>, in_flight: usize) {
        let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (this, requests, next) = (self.clone(), requests.clone(), next.clone());
            workers.spawn(async move {
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    this.send_one(request.clone()).await;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.expect("the API server accepts each request");
        }
    }

    /// Sends one request.
    pub async fn send_one(&self, request: Prepared) {
        let (response, connection) = self.upstream.send(request).await.expect("the API server responds");
        let status = response.status();
        let body = response.into_body().collect().await.expect("the API server sends the reply").to_bytes();
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        self.upstream.keep(connection);
    }
}

/// The creation of a Secret as the controller sent it in one namespace.
pub struct Creation {
    request: Prepared,
    namespace: String,
}

impl Creation {
    pub fn new(request: Request<Bytes>, namespace: &str) -> Self {
        Self { request: request.map(Full::new), namespace: namespace.to_owned() }
    }

    /// The same request for another namespace. The body does not name the namespace.
    pub fn for_namespace(&self, namespace: &str) -> Prepared {
        let mut request = self.request.clone();
        let uri = request.uri().to_string();
        let path = uri.replacen(&format!("/{}/", self.namespace), &format!("/{namespace}/"), 1);
        *request.uri_mut() = path.parse().expect("a path");
        request
    }
}

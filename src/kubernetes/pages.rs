//! Lists of many pages. kube's watcher begins a list again when one page of it fails, so a list of hundreds of pages would never
//! end while an API server refuses a few requests in a hundred.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::sleep;
use tower::service_fn;

use super::watch::BACKOFF;
use crate::core::Jitter;

/// How often a page is requested before the list begins again. With the pauses between, a page takes a fraction of the 5
/// minutes for which the API server keeps the rest of a list
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>).
const MAX_ATTEMPTS: u32 = 6;

/// Returns a client that repeats the request for a further page of a list while the API server refuses it as busy.
pub fn repeating(client: &Client, jitter: Jitter) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    Client::new(service_fn(move |request| send(client.clone(), jitter, request)), namespace)
}

async fn send(client: Client, jitter: Jitter, request: Request<Body>) -> kube::Result<Response<Body>> {
    if !is_further_page(&request) {
        return client.send(request).await;
    }
    let (head, _) = request.into_parts();
    let mut failures = 0;
    loop {
        let response = client.send(Request::from_parts(head.clone(), Body::empty())).await?;
        failures += 1;
        if failures == MAX_ATTEMPTS || !matches!(response.status().as_u16(), 429 | 500..) {
            return Ok(response);
        }
        drop(response);
        sleep(BACKOFF.delay(failures, jitter, &head.uri)).await;
    }
}

fn is_further_page(request: &Request<Body>) -> bool {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    *request.method() == Method::GET && pairs.any(|pair| pair.starts_with("continue="))
}

//! `ecr-pull-secrets probe`: an HTTP GET of the controller, for images without a shell.

use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{CommandError, print_line};
use crate::cli::ProbeArgs;
use crate::core::one_line;

const RETRY_PERIOD: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: ProbeArgs) -> Result<(), CommandError> {
    let url = args.url;
    let deadline = Instant::now() + args.timeout;
    loop {
        let result = timeout(REQUEST_TIMEOUT, get(&url)).await;
        match result.unwrap_or_else(|_| Err("no response in time".into())) {
            Ok(body) => {
                print_line(format_args!("{url}: {body}"));
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(format!("{url}: {error}").into()),
            Err(_) => sleep(RETRY_PERIOD).await,
        }
    }
}

/// Returns the body of a response with status 200.
async fn get(url: &Uri) -> Result<String, CommandError> {
    let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(80));
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let body = one_line(&String::from_utf8_lossy(&body));
    if status == StatusCode::OK { Ok(body) } else { Err(format!("{status}: {body}").into()) }
}

//! `ecr-pull-secrets probe`: asks a page of a controller, where there is no shell that could.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::CommandError;
use crate::cli::ProbeArgs;
use crate::core::one_line;

const EACH: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: ProbeArgs) -> Result<(), CommandError> {
    if args.url.scheme_str() != Some("http") || args.url.host().is_none() {
        return Err(CommandError::Usage(format!("{}: expected http://HOST:PORT/PATH", args.url)));
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let answer =
            timeout(CALL_TIMEOUT, ask(&args.url)).await.unwrap_or_else(|_| Err("no answer in time".into()));
        match answer {
            Ok(said) => {
                println!("{}: {said}", args.url);
                return Ok(());
            }
            Err(reason) if Instant::now() >= deadline => {
                return Err(CommandError::Failed(format!("{}: {reason}", args.url)));
            }
            Err(_) => sleep(EACH).await,
        }
    }
}

async fn ask(url: &http::Uri) -> Result<String, String> {
    let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(80));
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await.map_err(|error| error.to_string())?;
    let connection = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = reply.status();
    let body = reply.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let said = one_line(&String::from_utf8_lossy(&body));
    if status == StatusCode::OK { Ok(said) } else { Err(format!("{status}: {said}")) }
}

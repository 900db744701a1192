//! The AWS that no one here wrote: moto's server.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::folder::Folder;
use crate::ports::Port;
use crate::process::Process;
use crate::{aws, tools};

/// A running `moto_server`, which answers for every AWS service without checking signatures.
///
/// Its ECR tokens expire at 2015-01-01, all of them, and their password is `ACCOUNT-auth-token`.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    port: Port,
    _folder: Folder,
}

impl Moto {
    /// Starts it on a free loopback port.
    pub async fn start() -> Self {
        let program = tools::folder("moto").await.join("bin/moto_server");
        loop {
            let folder = Folder::new();
            let port = Port::claim();
            let mut command = Command::new(&program);
            command.args(["--host", "127.0.0.1", "--port", &port.number().to_string()]);
            let process = Process::spawn("moto", &command, folder.path());
            let mut moto = Self { process, port, _folder: folder };
            if moto.comes_up().await {
                return moto;
            }
            let in_use = moto.process.log().contains("in use");
            assert!(in_use, "moto does not start:\n{}", moto.process.log_tail());
        }
    }

    async fn comes_up(&mut self) -> bool {
        // Python compiles what it imports when it does so for the first time.
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.process.exit_code().is_none() && Instant::now() < deadline {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Its URL, for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// The environment that makes an AWS SDK use it, and nobody's own settings.
    pub fn env(&self) -> Vec<(String, String)> {
        aws::sdk_env(&self.url(), "testing", "testing")
    }
}

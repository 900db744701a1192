//! The stub of AWS as a program, for trying things out by hand.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use jiff::SignedDuration;
use testing::aws::{Behaviour, Fault, Stub};

/// Answers as ECR, ECR Public and STS do, on a loopback address, to requests signed with the fixed key pair.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How long what it issues lives, for example 60s or 12h.
    #[arg(long, default_value = "12h", value_parser = duration)]
    lifetime: Duration,
    /// How long each answer takes.
    #[arg(long, default_value = "0s", value_parser = duration)]
    delay: Duration,
    /// What goes wrong with each request: throttle, server-error, unavailable, access-denied, hang, garbage,
    /// bad-token, empty-data, reset or huge-body; where a role is assumed also packed-policy-too-large,
    /// region-disabled or expired-web-identity.
    #[arg(long)]
    fault: Option<Fault>,
    /// By how many seconds its clock is ahead.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    date_skew: i64,
    /// The password in every token; without it, each token has its own.
    #[arg(long)]
    password: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(duration).map_err(|error| error.to_string())
}

fn main() {
    let arguments = Arguments::parse();
    let stub = Stub::listen(arguments.listen);
    stub.set(Behaviour {
        lifetime: arguments.lifetime,
        delay: arguments.delay,
        fault: arguments.fault,
        date_skew: arguments.date_skew,
        password: arguments.password,
        ..Behaviour::default()
    });
    println!("listening on {}", stub.url());
    for (name, value) in stub.env() {
        println!("export {name}={value}");
    }
    let mut printed = 0;
    loop {
        for call in stub.calls().iter().skip(printed) {
            let region = call.region.as_deref().unwrap_or("-");
            let access_key = call.access_key.as_deref().unwrap_or("-");
            let role = call.role.as_deref().unwrap_or("-");
            println!("{} {} {region} {access_key} {role} {:?}", call.at, call.operation, call.outcome);
            printed += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

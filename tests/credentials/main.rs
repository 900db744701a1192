//! The commands that fetch a token and need no cluster: against the stub of AWS, and with clients of registries that demand
//! the token.

mod bad_input;
mod cache;
mod clients;
mod harness;
mod kubelet;
mod login;
mod profiles;
mod startup;
mod token;

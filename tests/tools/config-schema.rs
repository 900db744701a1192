//! Prints the JSON schema of the configuration file, from its types. The program has it as a text, so that what makes it
//! is no part of the program: 73 KiB of 11 MiB.

fn main() {
    let schema = schemars::schema_for!(ecr_pull_secrets::config::Config);
    println!("{}", serde_json::to_string_pretty(&schema).expect("a schema serialises"));
}

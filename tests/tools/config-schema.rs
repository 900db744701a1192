//! Prints the JSON schema of the configuration file, from its types. The program contains the schema as text, and not the code
//! that generates it, which would take 73 KiB of 11.4 MiB.

fn main() {
    let schema = schemars::schema_for!(ecr_pull_secrets::config::Config);
    println!("{}", serde_json::to_string_pretty(&schema).expect("a schema serialises"));
}

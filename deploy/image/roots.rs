//! Prints Mozilla's list of CA certificates for TLS servers as PEM.

use pem::{EncodeConfig, LineEnding, Pem, encode_config};

fn main() {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    println!("# Licence: CDLA-Permissive-2.0, https://cdla.dev/permissive-2-0/");
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        print!("{}", encode_config(&Pem::new("CERTIFICATE", root.as_ref()), config));
    }
}

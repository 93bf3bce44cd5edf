//! TLS of a listener and of an output: which files, and that they belong together. Pure.
//!
//! The files themselves are read at the start (`boot/certificates`), and again when they change.

use std::path::PathBuf;

use crate::config::kind::{Flag, PATH};
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::plan::{BackendTlsPlan, TlsPlan};

/// `ssl-combined-pem`, or `ssl-cert` and `ssl-key`; and `ssl-client-ca`.
pub fn of_listener(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<TlsPlan> {
    let combined = path(reader, section, "ssl-combined-pem");
    let cert = path(reader, section, "ssl-cert");
    let key = path(reader, section, "ssl-key");
    let client_ca = path(reader, section, "ssl-client-ca");
    let (cert, key) = match (combined, cert, key) {
        (None, None, None) => {
            if client_ca.is_some() {
                // To let everybody in, in the open, is not what was meant.
                let at = reader.at(section, "ssl-client-ca");
                let want = "ssl-combined-pem, or ssl-cert and ssl-key, with it";
                reader.problem(at, "a client CA, but no certificate to listen with", want);
            }
            return None;
        }
        (Some(combined), None, None) => (combined.clone(), combined),
        (None, Some(cert), Some(key)) => (cert, key),
        (None, Some(_), None) => {
            let at = reader.at(section, "ssl-cert");
            reader.problem(at, "a certificate without its key", "ssl-key with it");
            return None;
        }
        (None, None, Some(_)) => {
            let at = reader.at(section, "ssl-key");
            reader.problem(at, "a key without its certificate", "ssl-cert with it");
            return None;
        }
        (Some(_), _, _) => {
            let at = reader.at(section, "ssl-combined-pem");
            let want = "ssl-combined-pem alone, or ssl-cert and ssl-key";
            reader.problem(at, "ssl-cert or ssl-key beside it", want);
            return None;
        }
    };
    Some(TlsPlan {
        cert,
        key,
        client_ca,
    })
}

/// `ca-file`, `client-cert`, `client-key`, `skip-tls-verification`; none of them does anything for a location
/// that is not `https://`.
pub fn of_output(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    is_https: bool,
    name: &str,
) -> Option<BackendTlsPlan> {
    let ca_file = path(reader, section, "ca-file");
    let client_cert = path(reader, section, "client-cert");
    let client_key = path(reader, section, "client-key");
    let skip_verification = reader.take(section, "skip-tls-verification", &Flag, false);
    let set = [
        ("ca-file", ca_file.is_some()),
        ("client-cert", client_cert.is_some()),
        ("client-key", client_key.is_some()),
        ("skip-tls-verification", skip_verification),
    ];
    if !is_https {
        for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            let called = reader.called(section, key);
            reader.not_in_force.push(format!(
                "{called} is set, but the location of {name} is not https://"
            ));
        }
        return None;
    }
    if client_key.is_some() && client_cert.is_none() {
        let at = reader.at(section, "client-key");
        reader.problem(at, "a key without its certificate", "client-cert with it");
    }
    if skip_verification {
        let called = reader.called(section, "skip-tls-verification");
        reader.notes.push(format!(
            "{called} is set: whoever answers at the location of {name} is trusted, and gets what is written and \
             the passwords with it; ca-file would trust one certificate"
        ));
        if ca_file.is_some() {
            let called = reader.called(section, "ca-file");
            reader.not_in_force.push(format!(
                "{called} is set, but skip-tls-verification asks {name} for nothing that it could check"
            ));
        }
    }
    Some(BackendTlsPlan {
        ca_file,
        client_cert,
        client_key,
        skip_verification,
    })
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<PathBuf> {
    let path = reader.maybe(section, name, &PATH);
    path.filter(|path| !path.is_empty()).map(PathBuf::from)
}

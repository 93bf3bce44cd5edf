//! What is wrong with the other end of a TLS connection, in words that say what to do. Pure.
//!
//! rustls speaks to programmers; whoever reads `lastError` has a certificate to renew.

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// The words; they follow the name of the peer. `ca_file` is what says who is trusted, if anything does. Per failed
/// connection.
pub fn words(why: &Error, ca_file: Option<&str>) -> String {
    match why {
        Error::InvalidCertificate(why) => certificate(why, ca_file),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS there: is it http:// and not https://?".to_owned()
        }
        Error::PeerIncompatible(what) => {
            format!(
                "it and this relay have no way of TLS in common ({what:?}); TLS 1.2 is the least"
            )
        }
        Error::NoApplicationProtocol => "it does not speak HTTP/1.1 over TLS".to_owned(),
        other => format!("TLS: {other}"),
    }
}

/// What to do where no `ca-file` holds a certificate, or the configured one lacks it.
fn lacking(ca_file: Option<&str>, what: &str) -> String {
    match ca_file {
        Some(path) => format!("the configured ca-file {path} does not hold {what}: put it there"),
        None => format!("name {what} in ca-file"),
    }
}

fn certificate(why: &CertificateError, ca_file: Option<&str>) -> String {
    use CertificateError as E;
    match why {
        E::Expired | E::ExpiredContext { .. } => {
            "its certificate has expired: renew it there, or set this machine's clock".to_owned()
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "its certificate is not valid yet: set the clocks, there or here".to_owned()
        }
        E::UnknownIssuer => {
            let remedy = lacking(ca_file, "that one's certificate");
            format!("its certificate comes from an unknown issuer: {remedy}")
        }
        E::NotValidForName => "its certificate is for another name".to_owned(),
        E::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names = match presented.is_empty() {
                true => "no name (a common name does not count)".to_owned(),
                false => presented.join(", "),
            };
            format!(
                "its certificate is for {names}, not for {}",
                shown(expected)
            )
        }
        E::BadSignature => "its certificate is not signed by whom it says".to_owned(),
        E::Revoked => "its certificate has been revoked".to_owned(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "its certificate is not meant for this end of a connection".to_owned()
        }
        E::Other(_) if is_an_authoritys(why) => {
            let remedy = lacking(ca_file, "that certificate");
            format!("its certificate is that of an authority, and unknown: {remedy}")
        }
        other => format!("its certificate cannot be trusted: {other}"),
    }
}

/// Whether a certificate was found good but for being an authority's.
pub fn is_an_authoritys(why: &CertificateError) -> bool {
    match why {
        CertificateError::Other(why) => {
            let why = why.0.downcast_ref::<webpki::Error>();
            matches!(why, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn shown(name: &ServerName<'_>) -> String {
    match name {
        ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
        name => name.to_str().into_owned(),
    }
}

/// What an alert of the peer means.
fn refusal(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => "it wants a client certificate: set client-cert".to_owned(),
        A::UnknownCA => "it does not know who signed our certificate".to_owned(),
        A::BadCertificate | A::CertificateUnknown | A::UnsupportedCertificate | A::AccessDenied => {
            format!("it does not take our certificate ({alert:?})")
        }
        A::CertificateExpired => "it says that our certificate has expired".to_owned(),
        A::CertificateRevoked => "it says that our certificate has been revoked".to_owned(),
        A::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3".to_owned(),
        A::HandshakeFailure => {
            "it refuses the handshake: no cipher in common, or it wants a client certificate"
                .to_owned()
        }
        A::NoApplicationProtocol => "it does not speak HTTP/1.1 over TLS".to_owned(),
        A::UnrecognisedName => "it has no certificate for that name".to_owned(),
        other => format!("it has ended TLS ({other:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use rustls::pki_types::ServerName;
    use rustls::{AlertDescription, CertificateError, Error};

    #[test]
    fn what_operators_meet_has_words_of_its_own() {
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("influx-1").unwrap(),
            presented: vec!["DnsName(\"other\")".to_owned()],
        };
        for (why, part) in [
            (CertificateError::Expired.into(), "has expired"),
            (CertificateError::UnknownIssuer.into(), "ca-file"),
            (name.into(), "not for influx-1"),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                "client-cert",
            ),
            (Error::DecryptError, "TLS: "),
        ] {
            let said = words(&why, None);
            assert!(said.contains(part), "{why:?}: {said}");
        }
    }

    #[test]
    fn a_ca_file_that_is_set_is_named() {
        let why = CertificateError::UnknownIssuer.into();
        assert!(words(&why, None).ends_with("name that one's certificate in ca-file"));
        let said = words(&why, Some("/etc/ca.pem"));
        assert!(said.contains("ca-file /etc/ca.pem does not hold"), "{said}");
    }
}

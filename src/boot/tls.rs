//! Files with certificates and keys become what TLS is spoken with, or what is wrong with one of them.

use std::path::Path;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};

use crate::boot::secret_file::{self, Unread};
use crate::boot::trust::{Everybody, Named};
use crate::boot::unfit::Unfit;
use crate::limits;
use crate::plan::{BackendTlsPlan, TlsPlan};

/// The name that the certificate at `host` must be for; an address is one, too.
pub(super) fn name_of(whose: &str, host: &str) -> Result<ServerName<'static>, Unfit> {
    // A name with its final dot is the same in DNS, and in no certificate.
    ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| Unfit {
        at: format!("{whose}: location"),
        found: format!("{host:?}, which no certificate can be for"),
        want: "use a host name of letters, digits and hyphens, or an address",
    })
}

/// What a listener shows its clients.
///
/// # Errors
/// Which file is unfit.
pub(super) fn of_door(whose: &str, plan: &TlsPlan) -> Result<Arc<ServerConfig>, Unfit> {
    let provider = Arc::new(ring::default_provider());
    let (chain, key) = (certificates(whose, &plan.cert)?, key(whose, &plan.key)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| no_provider(whose, &why))?;
    let builder = match &plan.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (roots, _) = roots(whose, path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|why| Unfit {
                at: at(whose, path),
                found: why.to_string(),
                want: "name a file with the certificates of the authorities that sign clients'",
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|why| unfit_pair(whose, &plan.cert, &plan.key, &why))?;
    // HTTP/1.0 is what `curl --http1.0` asks for, and is spoken here too.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(|why| no_provider(whose, &why))?;
    Ok(Arc::new(config))
}

/// How a backend is met.
///
/// # Errors
/// Which file is unfit.
pub(super) fn of_backend(whose: &str, plan: &BackendTlsPlan) -> Result<Arc<ClientConfig>, Unfit> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| no_provider(whose, &why))?;
    let builder = match &plan.ca_file {
        _ if plan.skip_verification => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Everybody(provider))),
        None => builder.with_root_certificates(system_roots(whose)?),
        Some(path) => {
            let (roots, named) = roots(whose, path)?;
            let usual = usual(roots, provider).map_err(|found| Unfit {
                at: at(whose, path),
                found,
                want: "name a file with the certificates to trust",
            })?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Named { usual, named }))
        }
    };
    let mut config = match &plan.client_cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let key_path = plan.client_key.as_ref().unwrap_or(cert);
            builder
                .with_client_auth_cert(certificates(whose, cert)?, key(whose, key_path)?)
                .map_err(|why| unfit_pair(whose, cert, key_path, &why))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(limits::tls::SESSIONS_MAX);
    Ok(Arc::new(config))
}

fn usual(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|why| why.to_string())
}

fn at(whose: &str, path: &Path) -> String {
    format!("{whose}: {}", path.display())
}

/// The certificates of a file. A file with a key in it is a secret one, whatever it is named for.
fn certificates(whose: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let want = "name a PEM file that this user may read, with -----BEGIN CERTIFICATE-----";
    let file = secret_file::read_text(path)
        .map_err(|why| Unread::Failed(why).at(at(whose, path), want))?;
    if file.text.contains("PRIVATE KEY-----")
        && let Some(found) = file.exposed()
    {
        return Err(Unread::Exposed(found).at(at(whose, path), want));
    }
    let unfit = |found| Unfit {
        at: at(whose, path),
        found,
        want,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file.text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unfit("no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(_) => Err(unfit("not whole: its PEM cannot be read".to_owned())),
    }
}

fn key(whose: &str, path: &Path) -> Result<PrivateKeyDer<'static>, Unfit> {
    let want =
        "name a PEM file that this user may read, with an unencrypted -----BEGIN PRIVATE KEY-----";
    let unfit = |found| Unfit {
        at: at(whose, path),
        found,
        want,
    };
    let text = secret_file::read(path).map_err(|why| why.at(at(whose, path), want))?;
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(unfit("a key that is encrypted".to_owned()));
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| unfit("no private key in it that can be read".to_owned()))
}

/// Whom to trust, and the certificates as they stand in the file.
fn roots(whose: &str, path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Unfit> {
    let named = certificates(whose, path)?;
    let mut roots = RootCertStore::empty();
    for (n, cert) in named.iter().enumerate() {
        roots.add(cert.clone()).map_err(|why| Unfit {
            at: at(whose, path),
            found: format!("certificate {} of it cannot be read ({why})", n + 1),
            want: "take it out, or make it anew",
        })?;
    }
    Ok((roots, named))
}

/// Whom the system trusts: what it has that cannot be read is passed over.
fn system_roots(whose: &str) -> Result<RootCertStore, Unfit> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _passed_over) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map(|why| format!(" ({why})"));
        return Err(Unfit {
            at: format!("{whose}: https://"),
            found: format!("the system trusts nobody{}", why.unwrap_or_default()),
            want: "install ca-certificates, or set ca-file or SSL_CERT_FILE",
        });
    }
    Ok(roots)
}

fn unfit_pair(whose: &str, cert: &Path, key: &Path, why: &Error) -> Unfit {
    let found = match why {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!(
                "its first certificate is not for the key in {}",
                key.display()
            )
        }
        other => format!("cannot be used with the key in {} ({other})", key.display()),
    };
    Unfit {
        at: at(whose, cert),
        found,
        want: "put the certificate of that key first, then those that lead to its authority",
    }
}

fn no_provider(whose: &str, why: &Error) -> Unfit {
    Unfit {
        at: whose.to_owned(),
        found: format!("TLS cannot be set up ({why})"),
        want: "report this: it is a bug",
    }
}

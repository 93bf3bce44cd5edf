//! `influxdb-relay hash`: what stands in a list of users or tokens for a secret.
//!
//! The secret is read from standard input, so that it stands in no command line and in no history.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::access::hash::{of_password, of_token};
use crate::cli::say;
use crate::cli::serve::EXIT_WRONG;
use crate::config::access::wrong_rights;
use crate::limits::access::{CREDENTIAL_BYTES_MAX, SALT_BYTES, TOKEN_BYTES};

/// What to make a hash of.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// Draw a new token and print it, and below it the line for `tokens`; nothing is read
    #[arg(long)]
    token: bool,
    /// The user's name, or the token's label; it begins the line
    name: Option<String>,
    /// What it may do, such as `read=*` `write=telegraf,metrics` or `all`; it ends the line
    rights: Vec<String>,
}

/// Prints one line for `users` or `tokens`.
pub fn run(args: &HashArgs) -> ExitCode {
    match lines(args) {
        Ok(lines) => say::output(&format!("{lines}\n"), ExitCode::SUCCESS),
        Err(why) => {
            say::error(format_args!("influxdb-relay hash: {why}"));
            ExitCode::from(EXIT_WRONG)
        }
    }
}

fn lines(args: &HashArgs) -> Result<String, String> {
    if let Some(wrong) = wrong_rights(&args.rights) {
        return Err(wrong);
    }
    let line = |hash: String| {
        let words = args.name.iter().chain([&hash]).chain(&args.rights);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    if args.token {
        let token = URL_SAFE_NO_PAD.encode(drawn::<TOKEN_BYTES>()?);
        let hash = of_token(token.as_bytes());
        return Ok(format!("{token}\n{}", line(hash)));
    }
    let secret = read_secret()?;
    Ok(line(of_password(
        secret.as_bytes(),
        &drawn::<SALT_BYTES>()?,
    )?))
}

/// The first line of standard input.
fn read_secret() -> Result<String, String> {
    let input = io::stdin();
    if input.is_terminal() {
        say::error("the password, then Enter (it is shown):");
    }
    let mut secret = String::new();
    let most = CREDENTIAL_BYTES_MAX as u64 + 2;
    input
        .lock()
        .take(most)
        .read_line(&mut secret)
        .map_err(|why| format!("cannot read standard input: {why}"))?;
    let secret = secret.strip_suffix('\n').unwrap_or(&secret);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    match secret.len() {
        0 => Err(
            "standard input is empty: pipe the password in, as in `printf %s \"$PASSWORD\" | influxdb-relay hash NAME`"
                .to_owned(),
        ),
        length if length >= CREDENTIAL_BYTES_MAX => Err(format!(
            "the password is too long: less than {CREDENTIAL_BYTES_MAX} bytes with its name"
        )),
        _ => Ok(secret.to_owned()),
    }
}

fn drawn<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom(&mut bytes[..], GetRandomFlags::empty())
        .map_err(|why| format!("the kernel has no random number: {why}"))?;
    Ok(bytes)
}

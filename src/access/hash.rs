//! What stands in a list for a secret, and whether a secret belongs to it. Pure.
//!
//! ```text
//!  $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH    of a password: slow on purpose   (PHC string)
//!  sha256:64 hexadecimal digits                of a token: nobody guesses 256 bits
//! ```
//!
//! Whoever writes the list decides what a verification costs, so the costs are held within bounds
//! before anything is computed.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits::access::{
    ARGON2_HASH_BYTES, ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES_MAX,
};
use crate::plan::access::{Argon2Plan, HashPlan};

const SHA256: &str = "sha256:";
const VERSION: u32 = 0x13;

/// Whether a word of a list is meant to be a hash.
pub fn is_meant(text: &str) -> bool {
    text.starts_with('$') || text.starts_with(SHA256)
}

/// Reads one.
///
/// # Errors
/// What is wrong with it, without a word of it.
pub fn parse(text: &str) -> Result<HashPlan, &'static str> {
    if let Some(digits) = text.strip_prefix(SHA256) {
        let digest = from_hex(digits).ok_or("a sha256: without its 64 hexadecimal digits")?;
        return Ok(HashPlan::Sha256(digest));
    }
    if !text.starts_with("$argon2id$") {
        return Err(match text.starts_with('$') {
            true => "a hash that is not argon2id",
            false => "no hash",
        });
    }
    let hash = PasswordHash::new(text).map_err(|_| "an argon2id hash that is malformed")?;
    argon2(&hash).map(HashPlan::Argon2id)
}

fn argon2(hash: &PasswordHash) -> Result<Argon2Plan, &'static str> {
    const MALFORMED: &str = "an argon2id hash that is malformed";
    let params = Params::try_from(hash).map_err(|_| MALFORMED)?;
    let (Some(salt), Some(digest)) = (&hash.salt, &hash.hash) else {
        return Err("an argon2id hash without its salt or its end");
    };
    if hash.algorithm != ARGON2ID_IDENT || hash.version != Some(VERSION) {
        return Err("an argon2id hash that is not of version 19");
    }
    if !params.keyid().is_empty() || !params.data().is_empty() {
        return Err("an argon2id hash with a key or data of its own");
    }
    if !ARGON2_HASH_BYTES.contains(&digest.len()) {
        return Err("an argon2id hash of less than 16 or more than 64 bytes");
    }
    let (memory_kib, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory_kib > ARGON2_MEMORY_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX
    {
        return Err("an argon2id hash that costs more than m=65536, t=10, p=16");
    }
    Ok(Argon2Plan {
        memory_kib,
        passes,
        lanes,
        salt: salt.to_vec(),
        hash: digest.as_bytes().to_vec(),
    })
}

/// Whether the secret belongs to the hash. Tens of milliseconds, and the hash's memory: never on a shard.
pub fn is_of(plan: &Argon2Plan, secret: &[u8]) -> bool {
    let mut out = [0; *ARGON2_HASH_BYTES.end()];
    let Some(out) = out.get_mut(..plan.hash.len()) else {
        return false;
    };
    let params = Params::new(plan.memory_kib, plan.passes, plan.lanes, Some(out.len()));
    let done = params.and_then(|params| {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(secret, &plan.salt, out)
    });
    done.is_ok() && bool::from(out[..].ct_eq(&plan.hash))
}

/// The digest of a token.
pub fn sha256(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new hash of a password, as a list holds it. The costs are those that OWASP asks for: 19 MiB, 2 passes.
///
/// # Errors
/// The secret or the salt is such that there is none.
pub fn of_password(secret: &[u8], salt: &[u8]) -> Result<String, String> {
    let wrong = |what: &str| format!("there is no hash of this: {what}");
    let params = Params::DEFAULT;
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into(secret, salt, &mut out)
        .map_err(|why| wrong(&why.to_string()))?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(VERSION),
        params: ParamsString::try_from(&params).map_err(|why| wrong(&why.to_string()))?,
        salt: Some(Salt::new(salt).map_err(|why| wrong(&why.to_string()))?),
        hash: Some(Output::new(&out).map_err(|why| wrong(&why.to_string()))?),
    };
    Ok(hash.to_string())
}

/// A new hash of a token, as a list holds it.
pub fn of_token(token: &[u8]) -> String {
    let digits = sha256(token).map(|byte| format!("{byte:02x}")).concat();
    format!("{SHA256}{digits}")
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{is_of, of_password, of_token, parse, sha256};
    use crate::plan::access::{Argon2Plan, HashPlan};

    fn argon2(text: &str) -> Argon2Plan {
        match parse(text) {
            Ok(HashPlan::Argon2id(plan)) => plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_made_is_read_and_knows_its_secret() {
        let text = of_password(b"pa ss:w\xc3\xb6rd", b"0123456789abcdef").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let plan = argon2(&text);
        assert!(is_of(&plan, b"pa ss:w\xc3\xb6rd"));
        for wrong in [&b""[..], b"pa ss:w\xc3\xb6r", b"PA SS"] {
            assert!(!is_of(&plan, wrong));
        }
        let token = of_token(b"t0ken");
        assert_eq!(parse(&token), Ok(HashPlan::Sha256(sha256(b"t0ken"))));
    }

    /// Made by the reference implementation (its own test vectors, argon2id v=19).
    #[test]
    fn the_reference_implementation_agrees() {
        let text =
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        assert!(is_of(&argon2(text), b"password"));
        assert!(!is_of(&argon2(text), b"passwore"));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused_and_never_shown() {
        for (text, word) in [
            ("", "no hash"),
            ("hunter2", "no hash"),
            ("$2y$05$hunter2", "not argon2id"),
            (
                "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
                "not argon2id",
            ),
            ("$argon2id$hunter2", "malformed"),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ", "without"),
            (
                "$argon2id$v=16$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
                "version",
            ),
            (
                "$argon2id$v=19$m=4194304,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
                "costs more",
            ),
            (
                "$argon2id$v=19$m=256,t=4000000,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
                "costs more",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=17$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
                "costs more",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4A",
                "less than 16",
            ),
            ("sha256:", "64"),
            ("sha256:hunter2", "64"),
            (&format!("sha256:+{}", "0".repeat(63)), "64"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
            assert!(!why.contains("hunter2"));
        }
    }
}
